"""Half squared distances, unit vectors, and sums of exponentials over the negatives of a row."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.explicit import left_to_compiler

# Squared norms below this count as zero: a dead ReLU network gives exactly 0, and the reciprocal
# square root of anything much smaller has gradients that overflow float32.
_ZERO_SQUARED_NORM = 1e-12


def compute_dtype(*arrays: Array) -> Any:
    """float64 where an input is, else float32: half precision cannot hold sums of exponentials."""
    wide = any(jnp.result_type(array) == jnp.float64 for array in arrays)
    return jnp.float64 if wide else jnp.float32


def l2_normalize(z: Array) -> Array:
    """Scales each row to the unit sphere, `z_i / ‖z_i‖`.

    The plain formula has a NaN gradient at 0. Here a row with ‖z_i‖² ≤ 1e-12 has value 0 and
    gradient 0. NaN stays NaN.

    Args:
      z: embeddings `[..., dim]`, floating.

    Returns:
      `[..., dim]`, of the input's type.

    Raises:
      AssertionError: for an array that is not floating.
    """
    z = jnp.asarray(z)
    check_floating(z=z)
    x = z.astype(compute_dtype(z))
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    ok = ~(squared <= _ZERO_SQUARED_NORM)  # true of NaN, which must not turn into a 0
    unit = jnp.where(ok, x * jax.lax.rsqrt(jnp.where(ok, squared, 1.0)), 0.0)
    return unit.astype(z.dtype)


def check_floating(**arrays: Array) -> None:
    """Raises AssertionError for an array that is not floating, with its name, type and shape."""
    for name, array in arrays.items():
        found = f"{name} has type {array.dtype} and shape {array.shape}"
        wanted = f"it must be floating, as {name}.astype(jnp.float32) is"
        chex.assert_type(array, float, custom_message=f"{found}; {wanted}")


@left_to_compiler(rows=lambda options: True)
def squared_distances(x: Array, y: Array | None = None) -> Array:
    """Half squared Euclidean distances, `d_ij² = ½‖x_i − y_j‖²`.

    Computed as ½‖x‖² + ½‖y‖² − x·y, one matrix product, and clamped at 0 (with gradient 0 where
    clamped) because rounding can make that slightly negative.

    Args:
      x: `[n, dim]`, floating.
      y: `[m, dim]`; None compares x with itself, with an exact 0 on the diagonal.

    Returns:
      `[n, m]`, float32 (float64 for float64 input), never negative.

    Raises:
      AssertionError: from chex, where ranks, dimensions or types do not fit.
    """
    x = jnp.asarray(x)
    other = x if y is None else jnp.asarray(y)
    shapes = f"x has shape {x.shape}, y has shape {other.shape}; both must be [rows, dim]"
    chex.assert_rank([x, other], 2, custom_message=shapes)
    chex.assert_equal_shape_suffix([x, other], 1, custom_message=shapes)
    check_floating(x=x, y=other)
    dtype = compute_dtype(x, other)
    x, other = x.astype(dtype), other.astype(dtype)
    half = half_squares(x)
    if y is not None:
        return distances_by_products(x, other, half, half_squares(other))
    distances = _clamped_distances(half, half, _gram(x))
    return jnp.where(jnp.eye(x.shape[0], dtype=bool), 0.0, distances)


def half_squares(x: Array) -> Array:
    """½‖x_i‖² of each row: `[..., dim]` -> `[...]`."""
    return 0.5 * jnp.sum(x * x, axis=-1)


def precise_matmul(x: Array, y: Array) -> Array:
    """`x @ y` with all the bits of its factors, which accelerators round by default.

    All of them count where near-equal numbers are subtracted, as in distances.
    """
    return jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)


@jax.custom_jvp
def _gram(x: Array) -> Array:
    """`x @ x.T`; its gradient is one product, (G + Gᵀ) x, where the rule of products has two."""
    return precise_matmul(x, x.T)


@_gram.defjvp
def _gram_tangent(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    half = precise_matmul(tangent, x.T)
    return _gram(x), half + half.T


def distances_by_products(x: Array, y: Array, half_x: Array, half_y: Array) -> Array:
    """½‖x_i‖² + ½‖y_j‖² − x_i·y_j, clamped at 0: `[n, dim]`, `[m, dim]` -> `[n, m]`."""
    return _clamped_distances(half_x, half_y, precise_matmul(x, y.T))


def _clamped_distances(half_x: Array, half_y: Array, products: Array) -> Array:
    distances = half_x[:, None] + half_y[None, :] - products
    # True of NaN, which must not turn into a 0.
    return jnp.where(~(distances <= 0), distances, 0.0)


def paired_squared_distances(x: Array, y: Array) -> Array:
    """Half squared distances of corresponding rows, `d_i² = ½‖x_i − y_i‖²`: `[n, dim]` -> `[n]`."""
    dtype = compute_dtype(x, y)
    return 0.5 * jnp.sum(jnp.square(x.astype(dtype) - y.astype(dtype)), axis=1)


def varying_like(tree: Any, x: Array) -> Any:
    """Marks arrays as varying over the devices that x varies over, as shard_map asks of a loop."""
    either = jnp.ravel(x)[0] > 0
    return jax.tree.map(lambda value: jnp.where(either, value, value), tree)


def row_maximum(logits: Array, mask: Array) -> Array:
    """The largest of each row's entries that count, held fixed: `[rows, m]` -> `[rows, 1]`.

    0 for a row that has none, or none that is finite.
    """
    highest = jnp.max(jnp.where(mask, logits, -jnp.inf), axis=1, keepdims=True)
    return jax.lax.stop_gradient(jnp.where(jnp.isfinite(highest), highest, 0.0))


def at_negatives(d_neg: Array, mask: Array) -> Array:
    """d_ij² at negatives, and elsewhere that of the row's nearest: what is masked cannot matter.

    Replaced before functions of distances see it, not after: they may have no finite value or
    derivative there, and 0 · inf is NaN.
    """
    return jnp.where(mask, d_neg, -row_maximum(-d_neg, mask))


def masked_logsumexp(logits: Array, mask: Array) -> Array:
    """`log Σ_j exp(l_ij)` over the negatives of each row, `[rows, m]` -> `[rows]`.

    A row without negatives gives 0, with gradient 0; callers overwrite it.
    """
    highest = row_maximum(logits, mask)
    shifted = jnp.where(mask, at_most_zero(logits - highest), -jnp.inf)
    total = _with_maximum(jnp.sum(jnp.exp(shifted), axis=1))
    some = jnp.any(mask, axis=1)
    return jnp.where(some, jnp.log(total) + highest[:, 0], 0.0)


def at_most_zero(x: Array) -> Array:
    """x, but 0 where x > 0, with the slope of x everywhere.

    A difference to a maximum can come out positive: where the compiler computes logits twice, in
    different programs, they differ by rounding, which at logits of 1e11 is thousands.
    """
    return x - jax.lax.stop_gradient(jnp.maximum(x, 0.0))


def _with_maximum(total: Array) -> Array:
    """A sum of exponentials whose largest is e^0: 1 where rounding hid it, with the same slope."""
    hidden = total < 1e-9
    return total + jax.lax.stop_gradient(jnp.where(hidden, 1.0 - total, 0.0))


def masked_softmax(logits: Array, mask: Array) -> Array:
    """`exp(l_ij) / Σ_k exp(l_ik)` over the negatives of each row, 0 elsewhere: `[rows, m]`.

    A row without negatives gives 0.
    """
    shifted = jnp.where(mask, at_most_zero(logits - row_maximum(logits, mask)), -jnp.inf)
    weights = jnp.exp(shifted)
    return weights / _with_maximum(jnp.sum(weights, axis=1, keepdims=True))
