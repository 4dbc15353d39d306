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

from alphacl_jax.distances import compute_dtype, varying_like
from alphacl_jax.pair_sums import nearest, pair_sums
from alphacl_jax.ring import everywhere, largest
from alphacl_jax.sums import PairSums
from alphacl_jax.tiling import TILES_AT_ONCE, Tiling

# The side of the fastest tiles on a CPU, whose cache holds a few of that size.
_CPU_TILE = 512


def resolve_tile(size: int, anchors: int, candidates: int, *, automatic: bool) -> int | None:
    """The side of the tiles in which all pairs of anchors are visited; None for no tiles.

    Tiles hold no more pairs at a time than `size` rows do. On a CPU they are also kept to the size
    that is fastest there, and, where the size is chosen automatically, taken as soon as they beat
    the dense form.
    """
    on_cpu = jax.default_backend() == "cpu"
    if automatic and on_cpu:
        return _CPU_TILE if candidates > 2 * _CPU_TILE else None
    if size >= anchors:
        return None
    side = max(1, math.isqrt(size * candidates // TILES_AT_ONCE))
    return min(side, _CPU_TILE) if on_cpu else side


def tiled_values(
    sums: PairSums,
    anchors: Array,
    d_pos: Array,
    views: int,
    tile: int,
    classes: Array | None = None,
    *,
    told_apart: bool = False,
    axis_name: Any = None,
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
      told_apart: whether samples of one class do count, told apart from the others, as in
        `PairSums`.
      axis_name: the axis over whose devices, at least two, the anchors are spread, so that these
        are the local ones; or None.

    Returns:
      `[anchors]`, float32 (float64 for float64 input).
    """
    total, dim = anchors.shape
    blocks = -(-total // max(tile, 2 * views))
    if axis_name is not None and blocks * views < total:
        blocks += blocks % 2  # so that the tiles of two devices have halves
    side = -(-total // (blocks * views)) * views
    # Embeddings of a sample next to each other: what is excluded then lies in diagonal tiles.
    dtype = compute_dtype(anchors)
    x = anchors.astype(dtype).reshape(views, -1, dim).swapaxes(0, 1).reshape(total, dim)
    d = d_pos.reshape(views, -1).swapaxes(0, 1).reshape(total)
    # Filled up with copies of the last row, which never count.
    x = jnp.pad(x, ((0, blocks * side - total), (0, 0)), mode="edge").reshape(blocks, side, dim)
    d = jnp.pad(d, (0, blocks * side - total), mode="edge").reshape(blocks, side)
    tiling, own = Tiling(views, total, blocks, side, told_apart, axis_name), None
    if classes is not None:
        own = classes.reshape(views, -1).swapaxes(0, 1).reshape(total)
        own = jnp.pad(own, (0, blocks * side - total), mode="edge").reshape(blocks, side)
    if sums.logits is None:
        shift, found = [jnp.zeros_like(d)], pair_sums(sums, tiling, x, d, None, own)
    else:
        shift, found = _exponential_sums(sums, sums.logits, tiling, x, d, own)
    d, shift, totals = jax.tree.map(lambda part: part.reshape(-1)[:total], (d, shift, found))
    if own is None or told_apart:
        values = sums.finish(d, shift, totals)
    else:
        some = _some_of_another_class(own.reshape(-1)[:total], axis_name)
        values = sums.finish(d, shift, [jnp.where(some, each, 1.0) for each in totals])
        values = jnp.where(some, values, 0.0)
    return values.astype(dtype).reshape(-1, views).swapaxes(0, 1).reshape(total)


def _some_of_another_class(classes: Array, axis_name: Any) -> Array:
    """Whether there is any: `[anchors]`."""
    highest, lowest = largest(classes, axis_name), -largest(-classes, axis_name)
    return (classes != lowest) | (classes != highest)


def _exponential_sums(
    sums: PairSums,
    logits: Callable[[Array, Array], Array],
    tiling: Tiling,
    x: Array,
    d_pos: Array,
    classes: Array | None,
) -> tuple[list[Array], list[Array]]:
    """The shifts that keep the exponentials in range, `[blocks, side]`, and `pair_sums`.

    Where the farthest pair that these norms allow is in range of a pair at distance 0, that is one
    shift for all rows, and a pair's exponential serves both of its rows; else each row is shifted
    by the logit of its nearest negative, which takes one more visit of all pairs.
    """
    fixed_x, fixed_d = jax.lax.stop_gradient((x, d_pos))
    norms = jnp.sqrt(jnp.sum(fixed_x * fixed_x, axis=2))
    farthest = 0.5 * jnp.square(norms + largest(norms, tiling.axis_name))
    highest = logits(fixed_d, jnp.zeros_like(fixed_d)).astype(x.dtype)
    lowest = logits(fixed_d, farthest).astype(x.dtype)
    top = largest(jax.lax.stop_gradient(highest), tiling.axis_name)
    # Where logits are so large that rounding moves them by more than a little, none is in range.
    exact = jnp.abs(top) * float(jnp.finfo(x.dtype).eps) < 1e-3
    weights = 2 if sums.of_class else 1

    def shifts_of_rows(needless: Array | None = None) -> list[Array]:
        found = nearest(sums, tiling, fixed_x, classes, needless)
        least = [jnp.where(jnp.isfinite(each), each, 0.0) for each in found]
        return [jax.lax.stop_gradient(logits(fixed_d, at).astype(x.dtype)) for at in least]

    def restored(found: list[Array]) -> list[Array]:
        if not tiling.told_apart:
            return _with_nearest(found)
        return [_with_nearest([total])[0] for total in found[:weights]] + found[weights:]

    def near() -> tuple[list[Array], list[Array]]:
        # Left out of the gradient once more, so that its share of it is not summed up for nothing.
        shifted = sums._replace(logits=lambda *d: logits(*d) - jax.lax.stop_gradient(top))
        shifts = varying_like(jnp.broadcast_to(top, d_pos.shape), x)
        return [shifts] * weights, pair_sums(shifted, tiling, x, d_pos, None, classes)

    def far() -> tuple[list[Array], list[Array]]:
        shifts = shifts_of_rows()
        return shifts, restored(pair_sums(sums, tiling, x, d_pos, shifts, classes))

    def spread() -> tuple[list[Array], list[Array]]:
        # A branch may hold no collectives (`alphacl_jax.ring`), so that only the shifts differ.
        shifts = [jnp.where(in_range, top, shift) for shift in shifts_of_rows(in_range)]
        found = pair_sums(sums, tiling, x, d_pos, shifts, classes)
        return shifts, jax.lax.cond(in_range, lambda: found, lambda: restored(found))

    in_range = exact & jnp.all(top - lowest < _room(x.dtype))
    in_range = everywhere(in_range, tiling.axis_name)
    return jax.lax.cond(in_range, near, far) if tiling.axis_name is None else spread()


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
