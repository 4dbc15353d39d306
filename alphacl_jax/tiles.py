"""Sums over pairs where anchors and candidates are the same embeddings, in square tiles.

The matrix of distances is symmetric, so each pair of blocks of embeddings is visited once and
serves the rows of both. Nothing is kept from tile to tile but the sums: the backward pass computes
each tile again. Memory is O(tile² + anchors · dim).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import (
    at_most_zero,
    compute_dtype,
    distances_by_products,
    half_squares,
    paired_squared_distances,
    precise_matmul,
    varying_like,
)
from alphacl_jax.sums import PairSums

# Tiles worked on at once: on a CPU they run beside each other, on its cores.
TILES_AT_ONCE = 4


class _Tiling(NamedTuple):
    """How the embeddings are cut: `blocks` of `side` rows, of which `total` are no filling."""

    views: int
    total: int
    blocks: int
    side: int

    def within(self, a: Array) -> Array:
        """True at the negatives of block a's rows among block a: `[side, side]`."""
        sample = jnp.arange(self.side) // self.views
        return (sample[:, None] != sample[None, :]) & self.real(a)[None, :]

    def real(self, a: Array) -> Array:
        """True at the rows of block a that are no filling: `[side]`."""
        return a * self.side + jnp.arange(self.side) < self.total

    def fold(self, within: Callable[..., Any], between: Callable[..., Any], carry: Any) -> Any:
        """Visits every tile: `within(carry, a)` and, for a < b, `between(carry, a, b)`."""
        own = jnp.arange(self.blocks)[:, None]
        carry = self._fold(within, carry, own)
        pairs = jnp.stack(jnp.triu_indices(self.blocks, k=1), axis=1)
        return self._fold(between, carry, pairs) if self.blocks > 1 else carry

    def _fold(self, visit: Callable[..., Any], carry: Any, tiles: Array) -> Any:
        # Groups of at most TILES_AT_ONCE, as even as they can be. The last one is filled up with a
        # block that does not exist: what is read for it does not matter, since JAX drops what is
        # added to it.
        count = -(-len(tiles) // TILES_AT_ONCE)
        together = -(-len(tiles) // count)
        rest = ((0, -len(tiles) % together), (0, 0))
        filled = jnp.pad(tiles.astype(jnp.int32), rest, constant_values=self.blocks)
        groups = filled.reshape(-1, together, tiles.shape[1])

        def group(carry: Any, blocks: Array) -> tuple[Any, None]:
            for k in range(together):
                carry = visit(carry, *blocks[k])
            return carry, None

        return jax.lax.scan(group, carry, groups)[0]


class _Rows(NamedTuple):
    """What a tile needs of its rows beside their embeddings: `[side]`, or `[blocks, side]`."""

    d_pos: Array
    stand_in: Array  # the distance of one of the row's negatives
    shift: Array | None  # None where the logits need none

    def block(self, index: Array) -> "_Rows":
        return jax.tree.map(lambda v: v[index], self)

    def add(self, index: Array, rows: "_Rows") -> "_Rows":
        return jax.tree.map(lambda v, r: v.at[index].add(r), self, rows)


def tiled_values(sums: PairSums, anchors: Array, d_pos: Array, views: int, tile: int) -> Array:
    """The losses of all anchors, each with all the anchors of other samples as negatives.

    Args:
      sums: the loss.
      anchors: `[anchors, dim]`: the n samples' first views, and with `views=2` then their second.
      d_pos: `[anchors]`, d_i².
      views: 1 or 2 embeddings per sample, which are no negatives of each other.
      tile: how many anchors a side, to within a sample, and at least two samples.

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
    tiling = _Tiling(views, total, blocks, side)
    if sums.logits is None:
        shift, found = jnp.zeros_like(d), _pair_sums(sums, tiling, x, d)
    else:
        shift, found = _exponential_sums(sums, sums.logits, tiling, x, d)
    d, shift, *totals = (part.reshape(-1)[:total] for part in (d, shift, *found))
    values = sums.finish(d, shift, totals).astype(dtype)
    return values.reshape(-1, views).swapaxes(0, 1).reshape(total)


def _exponential_sums(
    sums: PairSums,
    logits: Callable[[Array, Array], Array],
    tiling: _Tiling,
    x: Array,
    d_pos: Array,
) -> tuple[Array, list[Array]]:
    """The shifts that keep the exponentials in range, `[blocks, side]`, and `_pair_sums`.

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
        return shifts, _pair_sums(shifted, tiling, x, d_pos)

    def far() -> tuple[Array, list[Array]]:
        nearest = _nearest(tiling, fixed_x)
        at = jnp.where(jnp.isfinite(nearest), nearest, 0.0)
        shifts = jax.lax.stop_gradient(logits(fixed_d, at).astype(x.dtype))
        return shifts, _with_nearest(_pair_sums(sums, tiling, x, d_pos, shifts))

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


def _nearest(tiling: _Tiling, x: Array) -> Array:
    """The distance of each row's nearest negative: `[blocks, side]`."""
    half = half_squares(x)

    def within(least: Array, a: Array) -> Array:
        d_neg = distances_by_products(x[a], x[a], half[a], half[a])
        return least.at[a].min(jnp.min(jnp.where(tiling.within(a), d_neg, jnp.inf), axis=1))

    def between(least: Array, a: Array, b: Array) -> Array:
        d_neg = distances_by_products(x[a], x[b], half[a], half[b])
        rows = jnp.where(tiling.real(b)[None, :], d_neg, jnp.inf)
        columns = jnp.where(tiling.real(a)[:, None], d_neg, jnp.inf)
        return least.at[a].min(jnp.min(rows, axis=1)).at[b].min(jnp.min(columns, axis=0))

    start = jnp.full(x.shape[:2], jnp.inf, x.dtype)
    return tiling.fold(within, between, varying_like(start, x))


def _pair_sums(
    sums: PairSums, tiling: _Tiling, x: Array, d_pos: Array, shift: Array | None = None
) -> list[Array]:
    """The sums of `PairSums` over each row's negatives, a list of `[blocks, side]`.

    Without shifts `[blocks, side]`, the logits are taken to be in the range of the exponential.
    """

    def elementwise(d_pos: Array, d_neg: Array) -> tuple[Array, ...]:
        logits = () if sums.logits is None else (sums.logits(d_pos, d_neg),)
        # A parameter of a wider type does not widen the loss.
        return tuple(v.astype(x.dtype) for v in (*logits, *sums.values(d_pos, d_neg)))

    tile = varying_like(jnp.zeros((tiling.side, tiling.side), x.dtype), x)
    # Traced temperatures become arguments, since they may be differentiated too.
    terms, constants = jax.closure_convert(elementwise, tile, tile)
    count = len(sums.values(tile, tile)) + 1
    filled = tiling.total < tiling.blocks * tiling.side

    def side(
        d_neg: Array, rows: _Rows, mask: Array | None, axis: int, constants: Any
    ) -> list[Array]:
        """The rows' (axis=1) or the columns' (axis=0) sums over one tile: a list of `[side]`."""
        rows = jax.tree.map(lambda v: jnp.expand_dims(v, axis), rows)
        # Pairs that do not count are replaced before the functions see them, not after: these may
        # have no finite value or derivative there, and 0 · inf is NaN.
        if mask is not None:
            d_neg = jnp.where(mask, d_neg, jax.lax.stop_gradient(rows.stand_in))
        values = terms(jnp.broadcast_to(rows.d_pos, d_neg.shape), d_neg, *constants)
        weights = jnp.ones_like(d_neg)
        if sums.logits is not None:
            logit, *values = values
            if rows.shift is not None:
                logit = at_most_zero(logit - rows.shift)
            weights = jnp.exp(logit)
        if mask is not None:
            weights = jnp.where(mask, weights, 0.0)
        return [jnp.sum(v, axis=axis) for v in (weights, *(weights * v for v in values))]

    def within(a: Array, d_neg: Array, rows: _Rows, constants: Any) -> list[Array]:
        mask = tiling.within(a) & tiling.real(a)[:, None]
        return side(d_neg, rows, mask, 1, constants)

    def between(
        a: Array, b: Array, d_neg: Array, rows: _Rows, columns: _Rows, constants: Any
    ) -> tuple[list[Array], list[Array]]:
        mask = tiling.real(a)[:, None] & tiling.real(b)[None, :] if filled else None
        return side(d_neg, rows, mask, 1, constants), side(d_neg, columns, mask, 0, constants)

    def forward(x: Array, rows: _Rows, constants: Any) -> list[Array]:
        half = half_squares(x)

        def add_within(total: list[Array], a: Array) -> list[Array]:
            d_neg = distances_by_products(x[a], x[a], half[a], half[a])
            return _add(total, a, within(a, d_neg, rows.block(a), constants))

        def add_between(total: list[Array], a: Array, b: Array) -> list[Array]:
            d_neg = distances_by_products(x[a], x[b], half[a], half[b])
            of_a, of_b = between(a, b, d_neg, rows.block(a), rows.block(b), constants)
            return _add(_add(total, a, of_a), b, of_b)

        start = [jnp.zeros(x.shape[:2], x.dtype) for _ in range(count)]
        return tiling.fold(add_within, add_between, varying_like(start, x))

    def backward(saved: Any, gradients: list[Array]) -> Any:
        x, rows, constants = saved
        half = half_squares(x)
        # Both ways round: on a CPU a product with the transpose of a tile takes twice the time.
        x_t = x.swapaxes(1, 2)

        def of(block: Array) -> list[Array]:
            return [g[block] for g in gradients]

        def add_constants(total: Any, more: Any, block: Array) -> Any:
            # Nothing flows back from the block that does not exist.
            exists = block < tiling.blocks
            return jax.tree.map(lambda t, m: t + jnp.where(exists, m, 0.0), total, more)

        def add_within(total: Any, a: Array) -> Any:
            of_x, of_x_t, weight, of_rows, of_constants = total
            d_neg = distances_by_products(x[a], x[a], half[a], half[a])
            _, pull = jax.vjp(lambda *v: within(a, *v), d_neg, rows.block(a), constants)
            of_d_neg, of_a, more = pull(of(a))
            of_d_neg = jnp.where(~(d_neg <= 0), of_d_neg, 0.0)
            return (
                of_x.at[a].add(-precise_matmul(of_d_neg, x[a])),
                of_x_t.at[a].add(-precise_matmul(x_t[a], of_d_neg)),
                weight.at[a].add(jnp.sum(of_d_neg, axis=1) + jnp.sum(of_d_neg, axis=0)),
                of_rows.add(a, of_a),
                add_constants(of_constants, more, a),
            )

        def add_between(total: Any, a: Array, b: Array) -> Any:
            of_x, of_x_t, weight, of_rows, of_constants = total
            d_neg = distances_by_products(x[a], x[b], half[a], half[b])
            arguments = (d_neg, rows.block(a), rows.block(b), constants)
            _, pull = jax.vjp(lambda *v: between(a, b, *v), *arguments)
            of_d_neg, of_a, of_b, more = pull((of(a), of(b)))
            of_d_neg = jnp.where(~(d_neg <= 0), of_d_neg, 0.0)
            return (
                of_x.at[a].add(-precise_matmul(of_d_neg, x[b])),
                of_x_t.at[b].add(-precise_matmul(x_t[a], of_d_neg)),
                weight.at[a].add(jnp.sum(of_d_neg, axis=1)).at[b].add(jnp.sum(of_d_neg, axis=0)),
                of_rows.add(a, of_a).add(b, of_b),
                add_constants(of_constants, more, a),
            )

        start = jax.tree.map(jnp.zeros_like, (x, x_t, half, rows))
        # These may be the same on all devices, and their gradients then sums over devices.
        none = [varying_like(jnp.zeros_like(c), c) for c in constants]
        of_x, of_x_t, weight, of_rows, of_constants = tiling.fold(
            add_within, add_between, (*varying_like(start, x), none)
        )
        return of_x + of_x_t.swapaxes(1, 2) + weight[:, :, None] * x, of_rows, of_constants

    summed = jax.custom_vjp(forward)
    summed.defvjp(lambda *v: (forward(*v), v), backward)
    return summed(x, _Rows(d_pos, _some_negative(tiling, x), shift), constants)


def _some_negative(tiling: _Tiling, x: Array) -> Array:
    """The distance of each row to the first one or, within its sample, to the last."""
    rows = jax.lax.stop_gradient(x).reshape(-1, x.shape[2])
    of_first_sample = jnp.arange(rows.shape[0])[:, None] < tiling.views
    other = jnp.where(of_first_sample, rows[tiling.total - 1][None, :], rows[0][None, :])
    return paired_squared_distances(rows, other).reshape(x.shape[:2])


def _add(total: list[Array], index: Array, rows: list[Array]) -> list[Array]:
    return [t.at[index].add(r) for t, r in zip(total, rows, strict=True)]
