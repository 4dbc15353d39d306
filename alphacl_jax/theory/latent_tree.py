"""The hierarchical latent tree: data with a known hierarchy, and what a matching network learns.

A root sign z₀ = ±1 has `children` children, those have theirs, down to the leaves, which are the
input. An edge of polarity ρ has `P(child = parent) = (1 + ρ)/2`, so that ρ is their correlation.
Augmentation keeps the root and draws everything below it again. The network has the tree's shape:
the hidden nodes of a latent see those of its children alone. After contrastive training hidden
nodes resemble the latents that no loss ever named (Tian et al., "Understanding Self-supervised
Learning with Dual Deep Networks", 2020).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import alphacl_jax as acl
from alphacl_jax.theory.settings import require_at_least, require_positive

Levels = tuple[Array, ...]
Weights = tuple[Array, ...]

_BATCH_NORM_EPSILON = 1e-5
_MOST_LEAVES = 4096
# Polarities of 1 make leaves certain; atanh needs them a little below.
_ALMOST_ONE = 1 - 1e-6


@dataclass(frozen=True)
class TreeShape:
    """The tree and the network on it.

    Attributes:
      depth: levels below the root, at least 1; the leaves are at that level.
      children: of each latent, at least 2.
      width: hidden nodes for each latent, at least 1.
      outputs: of the linear layer on the root's hidden nodes, at least 2.
      batch_norm: normalise each hidden node over the batch before its ReLU (no affine part).
    """

    depth: int = 5
    children: int = 2
    width: int = 10
    outputs: int = 50
    batch_norm: bool = True

    def __post_init__(self) -> None:
        require_at_least(self, depth=1, children=2, width=1, outputs=2)
        # By logarithms: the number itself may be too long to compute.
        if self.depth * math.log(self.children) > math.log(_MOST_LEAVES) + 1e-9:
            raise ValueError(
                f"depth={self.depth} with children={self.children} makes more than "
                f"{_MOST_LEAVES} leaves; take a smaller tree"
            )


def check_polarity(lowest_polarity: Array | float) -> None:
    """Raises ValueError where δ is outside [0, 1]."""
    if not 0 <= lowest_polarity <= 1:
        raise ValueError(f"lowest_polarity={lowest_polarity} must be in [0, 1]")


def sample_polarities(key: Array, shape: TreeShape, lowest_polarity: Array | float) -> Levels:
    """ρ of each edge, uniform in [δ, 1]: for levels 1 to depth, `[children^level]`.

    Raises:
      ValueError: for a δ outside [0, 1], where it is no traced value.
    """
    if not isinstance(lowest_polarity, jax.core.Tracer):
        check_polarity(lowest_polarity)
    counts = [shape.children**level for level in range(1, shape.depth + 1)]
    rho = jax.random.uniform(key, (sum(counts),), minval=lowest_polarity, maxval=1.0)
    return tuple(jnp.split(rho, np.cumsum(counts)[:-1]))


def sample_views(key: Array, n: int, polarities: Levels) -> tuple[Levels, Levels]:
    """Two views of n samples: they share the root, and nothing below it.

    Args:
      key: a PRNG key.
      n: samples.
      polarities: ρ of the edges, `sample_polarities`.

    Returns:
      For each view the latents of levels 0 to depth, signs `[n, children^level]`, leaves last.
    """
    key_root, key_below = jax.random.split(key)
    root = jax.random.rademacher(key_root, (n,), float)[:, None]
    rho = jnp.concatenate(polarities)
    # One flat draw: under a vmap over keys one for each level, or of rank 3, compiles 20 times as
    # long.
    draw = jax.random.uniform(key_below, (2 * n * rho.shape[0],)).reshape(2, n, -1)
    signs = jnp.where(draw < (1 + rho[None, None, :]) / 2, 1.0, -1.0)
    first, second = (_descend(root, view, polarities) for view in signs)
    return first, second


def _descend(root: Array, signs: Array, polarities: Levels) -> Levels:
    """Latents of all levels from the root `[n, 1]` and, edge by edge, whether a child agrees."""
    levels, start = [root], 0
    for rho in polarities:
        count = rho.shape[0]
        parents = jnp.repeat(levels[-1], count // levels[-1].shape[1], axis=1)
        levels.append(parents * signs[:, start : start + count])
        start += count
    return tuple(levels)


def posterior_means(leaves: Array, polarities: Levels) -> Levels:
    """`E[z | leaves below z]` of every latent but the leaves, by belief propagation.

    `m = tanh(Σ_children atanh(ρ m_child))`. No function of those leaves correlates better with z.

    Args:
      leaves: `[n, children^depth]`.
      polarities: of all edges.

    Returns:
      For levels 0 to depth − 1, `[n, children^level]`.
    """
    means = leaves
    found: list[Array] = []
    for level in reversed(range(len(polarities))):
        message = jnp.arctanh(_ALMOST_ONE * polarities[level][None, :] * means)
        parents = polarities[level - 1].shape[0] if level else 1
        means = jnp.tanh(jnp.sum(message.reshape(len(leaves), parents, -1), axis=2))
        found.insert(0, means)
    return tuple(found)


def init_tree_network(key: Array, shape: TreeShape) -> Weights:
    """Weights from the leaves up, `[groups, in, width]` each, then `[width, outputs]` (no biases).

    Uniform in ±1/√in.
    """
    sizes: list[tuple[int, ...]] = []
    fan_in = shape.children
    for level in reversed(range(shape.depth)):
        sizes.append((shape.children**level, fan_in, shape.width))
        fan_in = shape.children * shape.width
    sizes.append((shape.width, shape.outputs))
    counts = [math.prod(size) for size in sizes]
    flat = jax.random.uniform(key, (sum(counts),), minval=-1.0, maxval=1.0)
    return tuple(
        part.reshape(size) / jnp.sqrt(float(size[-2]))
        for part, size in zip(jnp.split(flat, np.cumsum(counts)[:-1]), sizes, strict=True)
    )


def tree_network(weights: Weights, leaves: Array, *, batch_norm: bool) -> tuple[Array, Levels]:
    """The locally connected ReLU network of the tree.

    Args:
      weights: as made by `init_tree_network`.
      leaves: `[n, children^depth]`.
      batch_norm: normalise each hidden node over the batch before its ReLU.

    Returns:
      The outputs `[n, outputs]`, and the hidden nodes of levels 0 to depth − 1, each
      `[n, children^level, width]`.
    """
    h = leaves[:, :, None]
    hidden: list[Array] = []
    for w in weights[:-1]:
        h = jnp.einsum("ngi,gij->ngj", h.reshape(len(leaves), w.shape[0], -1), w)
        h = jax.nn.relu(normalize_batch(h) if batch_norm else h)
        hidden.insert(0, h)
    return h[:, 0] @ weights[-1], tuple(hidden)


def normalize_batch(h: Array) -> Array:
    """Mean 0 and variance 1 of each node over the batch `[n, ...]`: BatchNorm, no affine part."""
    centred = h - jnp.mean(h, axis=0, keepdims=True)
    variance = jnp.mean(centred**2, axis=0, keepdims=True)
    return centred * jax.lax.rsqrt(variance + _BATCH_NORM_EPSILON)


def best_correlations(hidden: Levels, latents: Levels) -> Array:
    """The best |correlation| of a hidden node with its latent, averaged over a level's latents.

    Args:
      hidden: for levels 0, 1, …: `[n, latents, width]`.
      latents: for the same levels, or more: `[n, latents]`.

    Returns:
      `[levels]` in [0, 1]; a node that does not vary counts as 0.
    """
    return jnp.stack([_best(h, z) for h, z in zip(hidden, latents, strict=False)])


def _best(h: Array, z: Array) -> Array:
    h = h - jnp.mean(h, axis=0, keepdims=True)
    z = z - jnp.mean(z, axis=0, keepdims=True)
    covariance = jnp.mean(h * z[:, :, None], axis=0)
    scale = jnp.mean(h**2, axis=0) * jnp.mean(z**2, axis=0)[:, None]
    varies = scale > 1e-12
    correlation = jnp.where(varies, covariance * jax.lax.rsqrt(jnp.where(varies, scale, 1.0)), 0.0)
    return jnp.mean(jnp.max(jnp.abs(correlation), axis=1))


@dataclass(frozen=True)
class TreeTraining:
    """Of a run of SimCLR on the tree.

    Attributes:
      temperature: τ > 0 of InfoNCE.
      batch: fresh pairs of views per step, at least 2.
      steps: of SGD with momentum 0.9, at least 1.
      learning_rate: positive.
      normalize: scale the outputs to the unit sphere before the loss.
      test_samples: on which correlations are measured, at least 2.
    """

    temperature: float = 0.1
    batch: int = 128
    steps: int = 1000
    learning_rate: float = 0.05
    normalize: bool = True
    test_samples: int = 2048

    def __post_init__(self) -> None:
        require_at_least(self, batch=2, steps=1, test_samples=2)
        require_positive(self, "temperature", "learning_rate")


class TreeResult(NamedTuple):
    """Of one run; correlations are `[depth]`, of levels 0 (the root) to depth − 1."""

    initial: Array  # best correlations before training
    trained: Array  # and after
    possible: Array  # of the posterior mean given the leaves below: no node does better
    losses: Array  # [steps]


def train_on_tree(
    key: Array, lowest_polarity: Array | float, shape: TreeShape, training: TreeTraining
) -> TreeResult:
    """One run: a tree, a network, SimCLR (NT-Xent layout) on fresh batches.

    Args:
      key: of the tree, weights and data. `jax.vmap` over keys and δ gives a grid in one program.
      lowest_polarity: δ in [0, 1]; may be traced.
      shape: of tree and network.
      training: the run.
    """
    family = acl.families.info_nce(training.temperature)
    optimizer = optax.sgd(training.learning_rate, momentum=0.9)
    key_tree, key_weights, key_test, key_data = jax.random.split(key, 4)
    polarities = sample_polarities(key_tree, shape, lowest_polarity)
    weights = init_tree_network(key_weights, shape)

    def outputs(weights: Weights, leaves: Array) -> Array:
        return tree_network(weights, leaves, batch_norm=shape.batch_norm)[0]

    def loss_of(weights: Weights, views: Array) -> Array:
        z = jax.vmap(outputs, (None, 0))(weights, views)
        z = acl.l2_normalize(z) if training.normalize else z
        return acl.contrastive_loss(z[0], z[1], family)

    def step(
        carry: tuple[Weights, optax.OptState], key: Array
    ) -> tuple[tuple[Weights, optax.OptState], Array]:
        weights, state = carry
        first, second = sample_views(key, training.batch, polarities)
        loss, gradient = jax.value_and_grad(loss_of)(weights, jnp.stack([first[-1], second[-1]]))
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(weights, updates), state), loss

    test, _ = sample_views(key_test, training.test_samples, polarities)

    def correlations(weights: Weights) -> Array:
        hidden = tree_network(weights, test[-1], batch_norm=shape.batch_norm)[1]
        return best_correlations(hidden, test)

    possible = [m[:, :, None] for m in posterior_means(test[-1], polarities)]
    carry = (weights, optimizer.init(weights))
    (trained, _), losses = jax.lax.scan(step, carry, jax.random.split(key_data, training.steps))
    return TreeResult(
        correlations(weights),
        correlations(trained),
        best_correlations(tuple(possible), test),
        losses,
    )
