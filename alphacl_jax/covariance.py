"""The contrastive covariance C_α and its trace, the energy, for a given α (dense)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import check_floating, compute_dtype
from alphacl_jax.explicit import left_to_compiler
from alphacl_jax.layouts import (
    Pairs,
    check_views,
    make_pairs,
    negative_mask,
    pair_distances,
)


def _pairs_of(x: Array, x_pos: Array, alpha: Array) -> tuple[Pairs, Array]:
    """The layout that α's shape names, and α with 0 at non-negatives."""
    x, x_pos = check_views(x, x_pos)
    alpha = jnp.asarray(alpha)
    n = x.shape[0]
    if alpha.shape not in ((n, n), (2 * n, 2 * n)):
        raise ValueError(
            f"alpha has shape {alpha.shape}; with {n} samples it must be [{n}, {n}] (same view) "
            f"or [{2 * n}, {2 * n}] (both views)"
        )
    check_floating(alpha=alpha)
    pairs = make_pairs(x, x_pos, "same_view" if alpha.shape == (n, n) else "both_views")
    alpha = alpha.astype(compute_dtype(x, alpha))
    return pairs, jnp.where(negative_mask(pairs), alpha, 0.0)


@left_to_compiler(rows=lambda options: False)
def contrastive_covariance(
    x: Array,
    x_pos: Array,
    alpha: Array,
    y: Array | None = None,
    y_pos: Array | None = None,
) -> Array:
    """The contrastive covariance of two signals,

        C_α[x, y] = Σ_ij α_ij (x_i − x_j)(y_i − y_j)ᵀ − Σ_i (Σ_{j≠i} α_ij)(x_i − x_i')(y_i − y_i')ᵀ.

    Args:
      x: first views `[n, dx]`.
      x_pos: second views `[n, dx]`.
      alpha: `[n, n]` (anchors x_i, negatives x_j) or `[2n, 2n]` (anchors and candidates are
        concat([x, x_pos])). Entries at non-negatives are ignored.
      y: `[n, dy]`; None for y = x.
      y_pos: `[n, dy]`; None for y = x.

    Returns:
      `[dx, dy]`.

    Raises:
      AssertionError: from chex, for wrong ranks and shapes.
      ValueError: for an alpha of another shape, or only one of y and y_pos.

    References:
      Tian, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization", 2022.
    """
    if (y is None) != (y_pos is None):
        raise ValueError("y and y_pos go together: give both or neither")
    pairs, alpha = _pairs_of(x, x_pos, alpha)
    others = pairs
    if y is not None and y_pos is not None:
        shapes = f"x has {jnp.shape(x)[0]} samples, y has shape {jnp.shape(y)}"
        chex.assert_equal_shape_prefix([jnp.asarray(x), jnp.asarray(y)], 1, custom_message=shapes)
        others, alpha = _pairs_of(y, y_pos, alpha)
    a, a_pos = (v.astype(alpha.dtype) for v in (pairs.anchors, pairs.positives))
    b, b_pos = (v.astype(alpha.dtype) for v in (others.anchors, others.positives))
    # Only differences enter, and centred values lose fewer digits in their products.
    a_in, b_in = a - jnp.mean(a, axis=0, keepdims=True), b - jnp.mean(b, axis=0, keepdims=True)
    rows, columns = jnp.sum(alpha, axis=1), jnp.sum(alpha, axis=0)
    with jax.default_matmul_precision("highest"):
        inter = a_in.T @ ((rows + columns)[:, None] * b_in - (alpha + alpha.T) @ b_in)
        intra = (a - a_pos).T @ (rows[:, None] * (b - b_pos))
    return inter - intra


@left_to_compiler(rows=lambda options: False)
def energy(z: Array, z_pos: Array, alpha: Array) -> Array:
    """The energy `E_α = tr C_α[z, z] = 2 Σ_ij α_ij (d_ij² − d_i²)`.

    Args:
      z: first views `[n, dim]`.
      z_pos: second views `[n, dim]`.
      alpha: `[n, n]` or `[2n, 2n]`, as in `contrastive_covariance`.

    Returns:
      A scalar.

    Raises:
      As `contrastive_covariance`.
    """
    pairs, alpha = _pairs_of(z, z_pos, alpha)
    d_pos, d_neg, _ = pair_distances(pairs)
    return 2.0 * jnp.sum(alpha * (d_neg - d_pos[:, None]).astype(alpha.dtype))
