"""Data with several patterns, as one layer sees it: two views of each sample and the α of pairs."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.losses import pairwise_importance
from alphacl_jax.rules import uniform


class NodeData(NamedTuple):
    """What one layer sees: two views `[n, dim]` and α, `[n, n]` or `[2n, 2n]`, as in C_α."""

    x: Array
    x_pos: Array
    alpha: Array


def equiangular_patterns(num_patterns: int, dim: int, cosine: float) -> Array:
    """Unit vectors `[patterns, dim]` with one and the same cosine between any two.

    0 makes them orthonormal, −1/(P−1) a simplex. With a negative cosine a filter at one pattern
    lies clear of the other patterns' gates.

    Args:
      num_patterns: P, at least 2.
      dim: at least P.
      cosine: in [−1/(P−1), 1).

    Raises:
      ValueError: out of range.
    """
    if num_patterns < 2:
        raise ValueError(f"num_patterns={num_patterns} is out of range; it must be at least 2")
    if dim < num_patterns:
        raise ValueError(
            f"dim={dim} is out of range; {num_patterns} patterns need at least {num_patterns}"
        )
    least = -1 / (num_patterns - 1)
    if not least <= cosine < 1:
        raise ValueError(
            f"cosine={cosine} is out of range; between {num_patterns} patterns it must be in "
            f"[{least:.3g}, 1)"
        )
    # The symmetric root of the Gram matrix: c' off the diagonal, and c' + √(1−cosine) on it.
    side = (1 - cosine) ** 0.5
    shared = ((max(1 + (num_patterns - 1) * cosine, 0.0)) ** 0.5 - side) / num_patterns
    root = side * jnp.eye(num_patterns) + shared
    return jnp.pad(root, ((0, 0), (0, dim - num_patterns)))


def pattern_data(
    key: Array, patterns: Array, probabilities: Array, *, num_samples: int, noise: float
) -> NodeData:
    """Samples that each show one pattern, in two views that differ by their noise.

    x = u_l + noise·ε/√dim with probability q_l, ε ~ N(0, I) anew in each view, and the uniform
    α_ij = 1/(2n(n−1)): its sum is ½, so that C_α is a variance per sample.

    Args:
      key: of the draws.
      patterns: u_l, `[patterns, dim]`.
      probabilities: q_l, `[patterns]`, with sum 1.
      num_samples: n, at least 2.
      noise: the root mean square length of the noise, at least 0.

    Raises:
      ValueError: num_samples or noise out of range, or another number of probabilities.
    """
    chex.assert_rank([patterns, probabilities], [2, 1])
    if probabilities.shape[0] != patterns.shape[0]:
        raise ValueError(
            f"probabilities has {probabilities.shape[0]} entries; it needs one for each of the "
            f"{patterns.shape[0]} patterns"
        )
    if num_samples < 2:
        raise ValueError(f"num_samples={num_samples} is out of range; it must be at least 2")
    if noise < 0:
        raise ValueError(f"noise={noise} is out of range; it must be at least 0")
    key_which, key_noise = jax.random.split(key)
    count, dim = patterns.shape
    which = jax.random.choice(key_which, count, (num_samples,), p=probabilities)
    epsilon = jax.random.normal(key_noise, (2, num_samples, dim), patterns.dtype)
    x, x_pos = patterns[which][None] + noise / dim**0.5 * epsilon
    alpha = pairwise_importance(x, x_pos, uniform(), negatives="same_view")
    return NodeData(x, x_pos, alpha / (2 * num_samples))
