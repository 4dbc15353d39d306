"""Data with several patterns, as one layer sees it, and how many of them K nodes find."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.losses import pairwise_importance
from alphacl_jax.ranges import NOT_NEGATIVE, check_scalar
from alphacl_jax.rules import uniform

# How far from 1 probabilities may sum: above what float32 rounds.
_SUM = 1e-5


class NodeData(NamedTuple):
    """What one layer sees: two views `[n, dim]` and α, `[n, n]` or `[2n, 2n]`, as in C_α."""

    x: Array
    x_pos: Array
    alpha: Array


class PatternCount(NamedTuple):
    """Of the number of distinct patterns that a layer finds: its mean and variance."""

    mean: float
    variance: float


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
        raise ArgumentError("num_patterns", num_patterns, "is out of range; it must be at least 2")
    if dim < num_patterns:
        raise ArgumentError(
            "dim", dim, f"is out of range; {num_patterns} patterns need at least {num_patterns}"
        )
    least = -1 / (num_patterns - 1)
    if not least <= cosine < 1:
        raise ArgumentError(
            "cosine",
            cosine,
            f"is out of range; between {num_patterns} patterns it must be in [{least:.3g}, 1)",
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
      probabilities: q_l, `[patterns]`, none negative, with sum 1.
      num_samples: n, at least 2.
      noise: the root mean square length of the noise, finite and at least 0.

    Raises:
      ValueError: num_samples out of range, another number of probabilities; and, where they are
        concrete and not traced, noise or probabilities out of range, NaN included.
    """
    chex.assert_rank([patterns, probabilities], [2, 1])
    if probabilities.shape[0] != patterns.shape[0]:
        raise ValueError(
            f"probabilities has {probabilities.shape[0]} entries; it needs one for each of the "
            f"{patterns.shape[0]} patterns"
        )
    if num_samples < 2:
        raise ArgumentError("num_samples", num_samples, "is out of range; it must be at least 2")
    check_scalar("noise", noise, NOT_NEGATIVE)
    _require_distribution(probabilities)
    key_which, key_noise = jax.random.split(key)
    count, dim = patterns.shape
    which = jax.random.choice(key_which, count, (num_samples,), p=probabilities)
    epsilon = jax.random.normal(key_noise, (2, num_samples, dim), patterns.dtype)
    x, x_pos = patterns[which][None] + noise / dim**0.5 * epsilon
    alpha = pairwise_importance(x, x_pos, uniform(), negatives="same_view")
    return NodeData(x, x_pos, alpha / (2 * num_samples))


def expected_patterns(basins: np.ndarray, num_nodes: int) -> PatternCount:
    """How many distinct patterns K nodes find that start, each for itself, anywhere on the sphere.

    A node finds pattern l with probability b_l. With m_l = (1 − b_l)ᴷ, that all nodes miss it, and
    m_lm = (1 − b_l − b_m)ᴷ, that all miss both,

        mean = Σ_l (1 − m_l),   variance = Σ_l m_l(1 − m_l) + Σ_{l≠m} (m_lm − m_l m_m).

    Args:
      basins: b_l, `[patterns]`, at least 0 and with a sum of at most 1.
      num_nodes: K, at least 1.

    Raises:
      ValueError: out of range.
    """
    b = np.asarray(basins, np.float64)
    if not (b >= 0).all() or not b.sum() <= 1 + _SUM:
        raise ArgumentError("basins", b, "must be shares: at least 0, with a sum of at most 1")
    if num_nodes < 1:
        raise ArgumentError("num_nodes", num_nodes, "is out of range; it must be at least 1")
    missed = (1 - b) ** num_nodes
    both = np.maximum(1 - b[:, None] - b[None], 0.0) ** num_nodes
    np.fill_diagonal(both, missed)
    variance = np.sum(both - np.outer(missed, missed))
    return PatternCount(float(np.sum(1 - missed)), max(float(variance), 0.0))


def prediction_error(
    counts: np.ndarray, num_starts: int, *, num_nodes: int, num_layers: int
) -> float:
    """Standard error of (mean number of patterns over layers) − (its prediction by counts).

    The layers and the starts that measured the basins, b_l = counts_l/starts, are both samples:

        error² = variance(b, K)/layers + (Σ_l g_l² b_l − (Σ_l g_l b_l)²)/starts,

    g_l = K(1 − b_l)ᴷ⁻¹ the derivative of the prediction by b_l. One start is added to each pattern
    and to none (Laplace), since a basin that no start met is small but need not be empty.

    Args:
      counts: starts that reached each pattern, `[patterns]`.
      num_starts: starts that measured the basins.
      num_nodes: K.
      num_layers: layers in the mean.
    """
    b = (np.asarray(counts, np.float64) + 1) / (num_starts + len(counts) + 1)
    slope = num_nodes * (1 - b) ** (num_nodes - 1)
    of_basins = (np.sum(slope**2 * b) - np.sum(slope * b) ** 2) / num_starts
    return float((expected_patterns(b, num_nodes).variance / num_layers + of_basins) ** 0.5)


def _require_distribution(probabilities: Array) -> None:
    if isinstance(probabilities, jax.core.Tracer):
        return
    values = np.asarray(probabilities, np.float64)
    # Written so that NaN fails each of them.
    if not (values >= 0).all():
        raise ArgumentError("probabilities", values, "is out of range; each must be at least 0")
    if not abs(values.sum() - 1) <= _SUM:
        raise ValueError(f"probabilities sum to {values.sum():g}; they must sum to 1")
