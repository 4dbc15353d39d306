"""Where BYOL's contrast comes from: mean removal and the predictor.

With mean removal (BatchNorm's zero-mean operation, f̃ = f − mean f) and a linear predictor P, for a
network linear in its layer's weights (ReLU, no biases), `L = ¼ mean_i Σ_views ‖P f̃ − sg(f̃')‖²`
has exactly, with `J_o = ∂f_o/∂W_l`,

    −∇_{W_l} L = Σ_o S[J_o, ((Pᵀ − PᵀP) f)_o] − Σ_o D[J_o, (PᵀP f)_o].

S is the cross-view covariance: for many samples V_{x₀}E[·|x₀], the covariance operator of SimCLR at
uniform α but for a constant. D is half the second moment of the views' difference: it shrinks what
augmentation changes. The first term is the implicit contrast. Without a predictor (P = I) it
is 0; where P shrinks (P = sI, 0 < s < 1) it grows what varies between samples and survives
augmentation. Without mean removal S is a second moment, whose largest direction may be the mean: a
constant. (After Tian et al., "Understanding Self-supervised Learning with Dual Deep Networks",
2020.)
"""

from dataclasses import dataclass
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array

import alphacl_jax as acl
from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory.checks import require_at_least, require_positive, require_whole_looks
from alphacl_jax.theory.covariance.operators import covariance_operator, layer_jacobians
from alphacl_jax.theory.latent_tree.model import TreeShape, sample_polarities, sample_views
from alphacl_jax.theory.latent_tree.network import Weights, init_tree_network, tree_network
from alphacl_jax.theory.training import Descent, begin, descend, train_with_looks

Params = tuple[Weights, Array]


class ImplicitContrast(NamedTuple):
    """The parts of `−∇L` with a linear predictor, each a vector on the flattened layer."""

    contrast: Array  # Σ_o S[J_o, ((Pᵀ − PᵀP) f)_o]
    shrinkage: Array  # Σ_o D[J_o, (PᵀP f)_o]; −∇L = contrast − shrinkage


def linear_byol_loss(f: Array, f_pos: Array, predictor: Array, *, remove_mean: bool) -> Array:
    """`L = ¼ mean_i (‖P f̃_i − sg(f̃_i')‖² + ‖P f̃_i' − sg(f̃_i)‖²)`.

    Args:
      f: outputs for the first views `[n, outputs]`.
      f_pos: for the second views.
      predictor: P `[outputs, outputs]`, acting as `P f`.
      remove_mean: whether f̃ is f minus its view's mean over the batch, or f itself.
    """
    if remove_mean:
        f, f_pos = (v - jnp.mean(v, axis=0, keepdims=True) for v in (f, f_pos))
    one, other = (
        jnp.sum((a @ predictor.T - jax.lax.stop_gradient(b)) ** 2, axis=1)
        for a, b in ((f, f_pos), (f_pos, f))
    )
    return jnp.mean(one + other) / 4


def implicit_contrast(
    jacobians: Array,
    jacobians_pos: Array,
    f: Array,
    f_pos: Array,
    predictor: Array,
    *,
    remove_mean: bool,
) -> ImplicitContrast:
    """What the predictor (and mean removal) make of BYOL's negative gradient, in closed form.

    Args:
      jacobians: of the first views `[n, outputs, w]` (`covariance.operators.layer_jacobians`).
      jacobians_pos: of the second views.
      f: outputs `[n, outputs]`, linear in the layer's weights.
      f_pos: outputs for the second views.
      predictor: P `[outputs, outputs]`.
      remove_mean: whether the loss removes each view's mean.

    Raises:
      AssertionError: from chex, for shapes that do not fit.
    """
    chex.assert_equal_shape([jacobians, jacobians_pos])
    chex.assert_equal_shape([f, f_pos])
    chex.assert_equal_shape_prefix([jacobians, f], 2)
    if remove_mean:
        jacobians, jacobians_pos, f, f_pos = (
            v - jnp.mean(v, axis=0, keepdims=True) for v in (jacobians, jacobians_pos, f, f_pos)
        )
    squared = predictor.T @ predictor
    a, a_pos = (v @ (predictor.T - squared).T for v in (f, f_pos))
    n = f.shape[0]
    contrast = jnp.einsum("now,no->w", jacobians, a_pos)
    contrast = (contrast + jnp.einsum("now,no->w", jacobians_pos, a)) / (2 * n)
    shrinkage = jnp.einsum("now,no->w", jacobians - jacobians_pos, (f - f_pos) @ squared)
    return ImplicitContrast(contrast, shrinkage / (2 * n))


def tree_outputs(weights: Weights, leaves: Array) -> Array:
    """The tree network's outputs `[n, outputs]`, without BatchNorm: linear in each layer."""
    return tree_network(weights, leaves, batch_norm=False)[0]


@dataclass(frozen=True)
class ContrastSettings:
    """Of a run of BYOL with mean removal and a linear predictor whose gradient is taken apart.

    Attributes:
      layer: of the tree network whose weights are looked at, from 0 (on the leaves).
      batch: pairs of views per step, at least 2.
      look_samples: pairs of views at each look, at least 2.
      steps: of SGD with momentum 0.9, at least 1.
      learning_rate: positive.
      every: steps between looks; divides steps.
      temperature: τ of the InfoNCE whose covariance operator is compared.
      remove_mean: whether the run itself has mean removal.
    """

    layer: int = 0
    batch: int = 128
    look_samples: int = 512
    steps: int = 400
    learning_rate: float = 0.05
    every: int = 20
    temperature: float = 0.1
    remove_mean: bool = True

    def __post_init__(self) -> None:
        require_at_least(self, layer=0, batch=2, look_samples=2, steps=1, every=1)
        require_whole_looks(self)
        require_positive(self, "learning_rate", "temperature")


class ContrastHistory(NamedTuple):
    """What a run saw at each look, `[looks]` each; cosines are between vectors on one layer."""

    uniform: Array  # cosine of the implicit contrast with the operator at uniform α, times W
    info_nce: Array  # and with the operator of InfoNCE
    half: Array  # cosine with uniform α where P = ½I in place of the run's predictor
    half_with_mean: Array  # the same without mean removal
    variance: Array  # of the outputs, tr V[f]
    loss: Array


def cosine(a: Array, b: Array) -> Array:
    """Of two vectors; 0 where one is 0."""
    scale = jnp.linalg.norm(a) * jnp.linalg.norm(b)
    return jnp.where(scale > 0, jnp.vdot(a, b) / jnp.where(scale > 0, scale, 1.0), 0.0)


def watch_contrast(
    key: Array, lowest_polarity: Array | float, shape: TreeShape, settings: ContrastSettings
) -> ContrastHistory:
    """Trains with `linear_byol_loss` on the tree, comparing the implicit contrast as it goes.

    The predictor learns too, from P = ½I: with P drawn at random, runs collapse or not by chance.

    Args:
      key: of the tree, weights and data; `jax.vmap` over keys gives several seeds.
      lowest_polarity: δ of the tree.
      shape: of tree and network, whose hidden layers have no BatchNorm here.
      settings: of the run.

    Raises:
      ValueError: for a layer that the network does not have.
    """
    if settings.layer > shape.depth:
        raise ArgumentError(
            "layer", settings.layer, f"is not in a network with layers 0 to {shape.depth}"
        )
    key_tree, key_weights, key_data = jax.random.split(key, 3)
    polarities = sample_polarities(key_tree, shape, lowest_polarity)
    # He's scale: without BatchNorm the outputs would be too small for the predictor to learn.
    weights = tuple(jnp.sqrt(6.0) * w for w in init_tree_network(key_weights, shape))
    half = 0.5 * jnp.eye(shape.outputs)
    optimizer = optax.sgd(settings.learning_rate, momentum=0.9)
    family = acl.families.info_nce(settings.temperature)

    def loss_of(params: Params, x: Array, x_pos: Array) -> Array:
        f, f_pos = (tree_outputs(params[0], v) for v in (x, x_pos))
        return linear_byol_loss(f, f_pos, params[1], remove_mean=settings.remove_mean)

    def step(state: Descent, key: Array) -> tuple[Descent, Array]:
        first, second = sample_views(key, settings.batch, polarities)
        return descend(optimizer, jax.value_and_grad(loss_of), state, first[-1], second[-1])

    def look(state: Descent, key: Array, losses: Array) -> ContrastHistory:
        weights, predictor = state.params
        views = sample_views(key, settings.look_samples, polarities)
        x, x_pos = (view[-1] for view in views)
        f, f_pos = tree_outputs(weights, x), tree_outputs(weights, x_pos)
        jacobians, jacobians_pos = (
            layer_jacobians(tree_outputs, weights, settings.layer, v) for v in (x, x_pos)
        )

        def contrast(predictor: Array, remove_mean: bool) -> Array:
            return implicit_contrast(
                jacobians, jacobians_pos, f, f_pos, predictor, remove_mean=remove_mean
            ).contrast

        flat = weights[settings.layer].reshape(-1)
        uniform, info_nce = (
            covariance_operator(jacobians, jacobians_pos, acl.pairwise_importance(f, f_pos, rule))
            @ flat
            for rule in (acl.rules.uniform(), acl.rules.from_family(family))
        )
        of_run = contrast(predictor, settings.remove_mean)
        return ContrastHistory(
            uniform=cosine(of_run, uniform),
            info_nce=cosine(of_run, info_nce),
            half=cosine(contrast(half, True), uniform),
            half_with_mean=cosine(contrast(half, False), uniform),
            variance=jnp.sum(jnp.var(f, axis=0)),
            loss=losses[0],
        )

    start = begin(optimizer, (weights, half))
    return train_with_looks(look, step, start, key_data, steps=settings.steps, every=settings.every)
