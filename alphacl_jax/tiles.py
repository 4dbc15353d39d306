"""Losses of sums over pairs where anchors and candidates are the same embeddings, in square tiles.

The matrix of distances is symmetric, so each pair of blocks of embeddings is visited once and
serves the rows of both (`alphacl_jax.tile_sums`). Here are the tiles' size, and the shifts that
keep exponentials in range.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import compute_dtype, half_squares, varying_like
from alphacl_jax.sums import PairSums
from alphacl_jax.tile_sums import TILES_AT_ONCE, Tiling, pair_sums, tile_distances

# The side of the fastest tiles on a CPU, whose cache holds a few of that size.
_CPU_TILE = 512


def resolve_tile(size: int, anchors: int, *, automatic: bool) -> int:
    """The side of the tiles in which all pairs of anchors are visited; `anchors` for no tiles.

    Tiles hold no more pairs at a time than `size` rows do. On a CPU they are also kept to the size
    that is fastest there, and, where the size is chosen automatically, taken as soon as they beat
    the dense form.
    """
    on_cpu = jax.default_backend() == "cpu"
    if automatic and on_cpu:
        return _CPU_TILE if anchors > 2 * _CPU_TILE else anchors
    if size >= anchors:
        return anchors
    side = max(1, math.isqrt(size * anchors // TILES_AT_ONCE))
    return min(side, _CPU_TILE) if on_cpu else side


def tiled_values(
    sums: PairSums,
    anchors: Array,
    d_pos: Array,
    views: int,
    tile: int,
    classes: Array | None = None,
) -> Array:
    """The losses of all anchors, each with all the anchors of other samples as negatives.

    Args:
      sums: the loss.
      anchors: `[anchors, dim]`: the n samples' first views, and with `views=2` then their second.
      d_pos: `[anchors]`, d_i².
      views: 1 or 2 embeddings per sample, which are no negatives of each other.
      tile: how many anchors a side, to within a sample, and at least two samples.
      classes: `[anchors]`, where samples of one class are no negatives of each other either; or
        None.

    Returns:
      `[anchors]`, float32 (float64 for float64 input).
    """
    total, dim = anchors.shape
    blocks = -(-total // max(tile, 2 * views))
    side = -(-total // (blocks * views)) * views
    # Embeddings of a sample next to each other: what is excluded then lies in diagonal tiles.
    dtype = compute_dtype(anchors)
    x = anchors.astype(dtype).reshape(views, -1, dim).swapaxes(0, 1).reshape(total, dim)
    d = d_pos.reshape(views, -1).swapaxes(0, 1).reshape(total)
    # Filled up with copies of the last row, which never count.
    x = jnp.pad(x, ((0, blocks * side - total), (0, 0)), mode="edge").reshape(blocks, side, dim)
    d = jnp.pad(d, (0, blocks * side - total), mode="edge").reshape(blocks, side)
    tiling, own = Tiling(views, total, blocks, side), None
    if classes is not None:
        own = classes.reshape(views, -1).swapaxes(0, 1).reshape(total)
        own = jnp.pad(own, (0, blocks * side - total), mode="edge").reshape(blocks, side)
    if sums.logits is None:
        shift, found = jnp.zeros_like(d), pair_sums(sums, tiling, x, d, None, own)
    else:
        shift, found = _exponential_sums(sums, sums.logits, tiling, x, d, own)
    d, shift, *totals = (part.reshape(-1)[:total] for part in (d, shift, *found))
    if own is None:
        values = sums.finish(d, shift, totals)
    else:
        some = _some_of_another_class(own.reshape(-1)[:total])
        values = sums.finish(d, shift, [jnp.where(some, each, 1.0) for each in totals])
        values = jnp.where(some, values, 0.0)
    return values.astype(dtype).reshape(-1, views).swapaxes(0, 1).reshape(total)


def _some_of_another_class(classes: Array) -> Array:
    """Whether there is any: `[anchors]`."""
    ranked = jnp.sort(classes)
    return (classes != ranked[0]) | (classes != ranked[-1])


def _exponential_sums(
    sums: PairSums,
    logits: Callable[[Array, Array], Array],
    tiling: Tiling,
    x: Array,
    d_pos: Array,
    classes: Array | None,
) -> tuple[Array, list[Array]]:
    """The shifts that keep the exponentials in range, `[blocks, side]`, and `pair_sums`.

    Where the farthest pair that these norms allow is in range of a pair at distance 0, that is one
    shift for all rows, and a pair's exponential serves both of its rows; else each row is shifted
    by the logit of its nearest negative, which takes one more visit of all pairs.
    """
    fixed_x, fixed_d = jax.lax.stop_gradient((x, d_pos))
    norms = jnp.sqrt(jnp.sum(fixed_x * fixed_x, axis=2))
    farthest = 0.5 * jnp.square(norms + jnp.max(norms))
    highest = logits(fixed_d, jnp.zeros_like(fixed_d)).astype(x.dtype)
    lowest = logits(fixed_d, farthest).astype(x.dtype)
    top = jax.lax.stop_gradient(jnp.max(highest))
    # Where logits are so large that rounding moves them by more than a little, none is in range.
    exact = jnp.abs(top) * float(jnp.finfo(x.dtype).eps) < 1e-3

    def near() -> tuple[Array, list[Array]]:
        # Left out of the gradient once more, so that its share of it is not summed up for nothing.
        shifted = sums._replace(logits=lambda *d: logits(*d) - jax.lax.stop_gradient(top))
        shifts = varying_like(jnp.broadcast_to(top, d_pos.shape), x)
        return shifts, pair_sums(shifted, tiling, x, d_pos, None, classes)

    def far() -> tuple[Array, list[Array]]:
        nearest = _nearest(tiling, fixed_x, classes)
        at = jnp.where(jnp.isfinite(nearest), nearest, 0.0)
        shifts = jax.lax.stop_gradient(logits(fixed_d, at).astype(x.dtype))
        return shifts, _with_nearest(pair_sums(sums, tiling, x, d_pos, shifts, classes))

    return jax.lax.cond(exact & jnp.all(top - lowest < _room(x.dtype)), near, far)


def _with_nearest(totals: list[Array]) -> list[Array]:
    """Sums of exponentials shifted by that of the nearest negative, which is 1.

    A total below that is rounding's, which at logits of 1e11 is of thousands. Where nothing is
    left the total is 1. Elsewhere the sums agree with each other, but a backward pass in which
    rounding goes the other way meets exponentials of 1 and cotangents of 1/total: these are scaled
    by the total.
    """
    weight = jax.lax.stop_gradient(totals[0])
    lost = weight < 0.5 * math.exp(-_room(weight.dtype))
    scale = jnp.where(lost, 1.0, jnp.minimum(weight, 1.0))

    def damped(total: Array) -> Array:
        value = jax.lax.stop_gradient(total)
        return jnp.where(weight < 0.5, value + (total - value) * scale, total)

    found, *others = (damped(total) for total in totals)
    return [found + jnp.where(lost, 1.0 - weight, 0.0), *others]


def _room(dtype: Any) -> float:
    """Half of the exponents that the type has: the squares of sums must be in range too."""
    return 0.45 * math.log(float(jnp.finfo(dtype).max))


def _nearest(tiling: Tiling, x: Array, classes: Array | None) -> Array:
    """The distance of each row's nearest negative: `[blocks, side]`; inf where there is none."""
    half = half_squares(x)

    def within(least: Array, a: Array) -> Array:
        d_neg = tile_distances(x, half, a, a)
        mask = tiling.within(a, classes)
        return least.at[a].min(jnp.min(jnp.where(mask, d_neg, jnp.inf), axis=1))

    def between(least: Array, a: Array, b: Array) -> Array:
        d_neg = tile_distances(x, half, a, b)
        if classes is not None:
            d_neg = jnp.where(classes[a][:, None] != classes[b][None, :], d_neg, jnp.inf)
        rows = jnp.where(tiling.real(b)[None, :], d_neg, jnp.inf)
        columns = jnp.where(tiling.real(a)[:, None], d_neg, jnp.inf)
        return least.at[a].min(jnp.min(rows, axis=1)).at[b].min(jnp.min(columns, axis=0))

    start = jnp.full(x.shape[:2], jnp.inf, x.dtype)
    return tiling.fold(within, between, varying_like(start, x))
