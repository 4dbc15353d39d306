"""SimCLR's covariance operator watched while a small ReLU network trains: what it amplifies.

On `operators.block_views` the operator's top eigenvector starts on the signal, which
makes the sample. Once the network tells signals apart, InfoNCE's α is almost all on pairs that
happen to show the same signal (false negatives). These differ in what augmentation redraws: the top
eigenvector turns there, and does not where such pairs are left out.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

import alphacl_jax as acl
from alphacl_jax.theory.checks import require_at_least, require_positive, require_whole_looks
from alphacl_jax.theory.covariance.operators import (
    Weights,
    block_mass,
    block_views,
    covariance_operator,
    init_relu_network,
    layer_jacobians,
    relu_network,
    same_sample,
)
from alphacl_jax.theory.training import Descent, begin, descend, train_with_looks


@dataclass(frozen=True)
class OperatorSettings:
    """Of a small SimCLR run whose operator is watched.

    Attributes:
      bits: signs per block of the input, at least 1.
      hidden: widths of the hidden layers.
      outputs: of the network.
      batch: fresh pairs of views per step, at least 2.
      steps: of SGD, at least 1.
      learning_rate: positive, for the mean of the loss over anchors.
      temperature: τ of InfoNCE on the outputs as they are (no normalisation).
      every: steps between looks at the operator; divides steps.
    """

    bits: int = 4
    hidden: tuple[int, ...] = (12,)
    outputs: int = 4
    batch: int = 64
    steps: int = 400
    learning_rate: float = 0.05
    temperature: float = 0.5
    every: int = 10

    def __post_init__(self) -> None:
        require_at_least(self, bits=1, outputs=1, batch=2, steps=1, every=1)
        require_whole_looks(self)
        require_positive(self, "learning_rate")


class OperatorHistory(NamedTuple):
    """What a run saw at each look, before the step: arrays `[looks]` and `[looks, 3]`."""

    norm: Array  # the largest |eigenvalue| of the operator / number of anchors
    top_mass: Array  # of the eigenvector of its largest eigenvalue, by block
    apart_mass: Array  # the same where α leaves out false negatives: pairs of one signal
    false_share: Array  # the part of α that is on these
    bottom_mass: Array  # of its lowest (most negative) eigenvalue, by block
    weight_mass: Array  # of the first layer's weights
    loss: Array  # InfoNCE, mean over anchors


def watch_operator(key: Array, settings: OperatorSettings) -> OperatorHistory:
    """Trains a ReLU network with InfoNCE on `block_views` and follows layer 0's operator.

    Args:
      key: of the weights and the data; `jax.vmap` over keys gives several seeds.
      settings: of the run.
    """
    family = acl.families.info_nce(settings.temperature)
    sizes = (3 * settings.bits, *settings.hidden, settings.outputs)
    optimizer = optax.sgd(settings.learning_rate)
    key_weights, key_data = jax.random.split(key)

    def loss_of(weights: Weights, x: Array, x_pos: Array) -> Array:
        return acl.contrastive_loss(relu_network(weights, x), relu_network(weights, x_pos), family)

    def step(state: Descent, key: Array) -> tuple[Descent, Array]:
        views = block_views(key, settings.batch, settings.bits)
        return descend(optimizer, jax.value_and_grad(loss_of), state, *views)

    def look(state: Descent, key: Array, losses: Array) -> OperatorHistory:
        weights = state.params
        x, x_pos = block_views(key, settings.batch, settings.bits)
        alpha = acl.pairwise_importance(
            relu_network(weights, x), relu_network(weights, x_pos), family
        )
        views = jnp.concatenate([x, x_pos])
        apart = jnp.where(same_sample(views, views, settings.bits), 0.0, alpha)
        jacobians, jacobians_pos = (
            layer_jacobians(relu_network, weights, 0, v) for v in (x, x_pos)
        )
        # In one call: two could wait for each other (`linear_networks.decomposition`).
        values, vectors = jnp.linalg.eigh(
            jnp.stack([covariance_operator(jacobians, jacobians_pos, a) for a in (alpha, apart)])
            / (2 * settings.batch)
        )
        top, top_apart, bottom, of_weights = (
            block_mass(v)
            for v in (vectors[0, :, -1], vectors[1, :, -1], vectors[0, :, 0], weights[0].ravel())
        )
        return OperatorHistory(
            norm=jnp.max(jnp.abs(values[0])),
            top_mass=top,
            apart_mass=top_apart,
            false_share=1 - jnp.sum(apart) / jnp.sum(alpha),
            bottom_mass=bottom,
            weight_mass=of_weights,
            loss=losses[0],
        )

    start = begin(optimizer, init_relu_network(key_weights, sizes))
    return train_with_looks(look, step, start, key_data, steps=settings.steps, every=settings.every)
