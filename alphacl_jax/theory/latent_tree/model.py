"""The tree of latents: signs that agree with their parents by chance, and what leaves tell of them.

A root sign z₀ = ±1 has `children` children, those have theirs, down to the leaves, which are the
input. An edge of polarity ρ has `P(child = parent) = (1 + ρ)/2`, so that ρ is their correlation.
Augmentation keeps the root and draws everything below it again.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory.checks import require_at_least

Levels = tuple[Array, ...]

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
            raise ArgumentError(
                "depth",
                self.depth,
                f"with children={self.children} makes more than {_MOST_LEAVES} leaves; take a "
                "smaller tree",
            )


def check_polarity(lowest_polarity: Array | float) -> None:
    """Raises ArgumentError where δ is outside [0, 1]."""
    if not 0 <= lowest_polarity <= 1:
        raise ArgumentError("lowest_polarity", lowest_polarity, "must be in [0, 1]")


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
