"""Sums over the pairs of embeddings in square tiles, and their gradients, each tile visited once.

Nothing is kept from tile to tile but the sums and, of a few small tiles, the distances: of others
the backward pass computes each again. Memory is O(tile² + anchors · dim).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import (
    at_most_zero,
    distances_by_products,
    half_squares,
    precise_matmul,
    varying_like,
)
from alphacl_jax.tiling import Tiling, both


class Rows(NamedTuple):
    """What a tile needs of its rows beside their embeddings: `[side]`, or `[blocks, side]`."""

    d_pos: Array
    stand_in: Array  # the distance of one of the row's negatives
    shift: list[Array] | None  # of each sum of weights; None where the logits need none

    def block(self, index: Array) -> "Rows":
        return jax.tree.map(lambda v: v[index], self)

    def add(self, index: Array, rows: "Rows") -> "Rows":
        return jax.tree.map(lambda v, r: v.at[index].add(r), self, rows)


def tile_distances(x: Array, half: Array, a: Array, b: Array) -> Array:
    """d_ij² between the rows of blocks a and b: `[side, side]`; half is `half_squares(x)`."""
    return distances_by_products(x[a], x[b], half[a], half[b])


def weighed(mask: Array | None, alike: Array | None, of_class: bool) -> list[Array | None]:
    """The pairs of each sum of weights: those that count and, if asked, those of one class."""
    if not of_class:
        return [mask]
    assert alike is not None
    return [mask, both(mask, alike)]


class Terms(NamedTuple):
    """The terms that are summed, as a function of one tile's distances, and over which tiles."""

    tiling: Tiling
    elementwise: Callable[..., Any]  # of (d_i², d_ij², ...): logits and values
    exponential: bool  # whether there are logits
    of_class: bool  # as in `PairSums`
    sums: int  # how many
    fixed: Sequence[Array] = ()  # constants that nothing can be differentiated by
    classes: Array | None = None
    tiles: Array | None = None  # as in `Tiling.fold`

    def side(
        self,
        d_neg: Array,
        rows: Rows,
        mask: Array | None,
        alike: Array | None,
        axis: int,
        constants: Any,
    ) -> list[Array]:
        """The rows' (axis=1) or the columns' (axis=0) sums over one tile: a list of `[side]`."""
        rows = jax.tree.map(lambda v: jnp.expand_dims(v, axis), rows)
        # Pairs that do not count are replaced before the functions see them, not after: these may
        # have no finite value or derivative there, and 0 · inf is NaN.
        if mask is not None:
            d_neg = jnp.where(mask, d_neg, jax.lax.stop_gradient(rows.stand_in))
        d_pos = jnp.broadcast_to(rows.d_pos, d_neg.shape)
        told = () if alike is None else (alike,)
        values = self.elementwise(d_pos, d_neg, *told, *constants, *self.fixed)
        ones = jnp.ones_like(d_neg)
        weights = [_where(mask, ones)]
        if self.exponential:
            logit, *values = values
            masks = weighed(mask, alike, self.of_class)
            shifts = [None] * len(masks) if rows.shift is None else rows.shift
            weights = [
                _where(m, jnp.exp(logit if s is None else at_most_zero(logit - s)))
                for m, s in zip(masks, shifts, strict=True)
            ]
        each = _where(mask, ones) if self.tiling.told_apart else weights[0]
        return [jnp.sum(v, axis=axis) for v in (*weights, *(each * v for v in values))]

    def within(self, a: Array, d_neg: Array, rows: Rows, constants: Any) -> list[Array]:
        """The sums of block a's rows over the pairs among them."""
        mask, alike = self.tiling.within(a, self.classes), self.tiling.alike(a, a, self.classes)
        return self.side(d_neg, rows, mask, alike, 1, constants)

    def between(
        self, a: Array, b: Array, d_neg: Array, rows: Rows, columns: Rows, constants: Any
    ) -> tuple[list[Array], list[Array]]:
        """The sums of block a's rows over block b, and of block b's over block a."""
        mask = self.tiling.between(a, b, self.classes)
        alike = self.tiling.alike(a, b, self.classes)
        of_rows = self.side(d_neg, rows, mask, alike, 1, constants)
        return of_rows, self.side(d_neg, columns, mask, alike, 0, constants)


def _where(mask: Array | None, weights: Array) -> Array:
    return weights if mask is None else jnp.where(mask, weights, 0.0)


def forward(
    terms: Terms, x: Array, rows: Rows, constants: Any, *, keep: bool = False
) -> tuple[list[Array], Array | None]:
    """The sums of each row, a list of `[blocks, side]`, and the distances that are kept.

    These are those of all tiles, `[tiles, side, side]`; None without `keep`.
    """
    tiling, half = terms.tiling, half_squares(x)

    def distances(kept: Array | None, a: Array, b: Array) -> tuple[Array, Array | None]:
        d_neg = tile_distances(x, half, a, b)
        if kept is None:
            return d_neg, None
        return d_neg, jax.lax.dynamic_update_index_in_dim(kept, d_neg, tiling.place(a, b), 0)

    def within(total: Any, a: Array) -> Any:
        sums, kept = total
        d_neg, kept = distances(kept, a, a)
        return _add(sums, a, terms.within(a, d_neg, rows.block(a), constants)), kept

    def between(total: Any, a: Array, b: Array) -> Any:
        sums, kept = total
        d_neg, kept = distances(kept, a, b)
        of_a, of_b = terms.between(a, b, d_neg, rows.block(a), rows.block(b), constants)
        return _add(_add(sums, a, of_a), b, of_b), kept

    start = [jnp.zeros(x.shape[:2], x.dtype) for _ in range(terms.sums)]
    # One more place, for tiles that do not exist.
    places = (tiling.tiles + 1, tiling.side, tiling.side)
    kept = jnp.empty(places, x.dtype) if keep else None
    found: tuple[list[Array], Array | None]
    found = tiling.fold(within, between, varying_like((start, kept), x), terms.tiles)
    return found


def _add(total: list[Array], index: Array, rows: list[Array]) -> list[Array]:
    return [t.at[index].add(r) for t, r in zip(total, rows, strict=True)]


class _Gradients(NamedTuple):
    """What the backward pass adds up.

    A tile's gradient G by its distances reaches the embeddings x of its rows and y of its columns
    as `x · ΣG − G y` and `y · ΣGᵀ − Gᵀ x`.
    """

    by_rows: Array  # −G y, `[blocks, side, dim]`
    by_columns: Array  # −(Gᵀ x)ᵀ, `[blocks, dim, side]`
    weight: Array  # ΣG along rows and columns, `[blocks, side]`
    rows: Rows
    constants: Any

    def add_products(self, x: Array, x_t: Array, gradient: Array, a: Array, b: Array) -> Any:
        """Adds both products of tile (a, b)."""
        return self._replace(
            by_rows=self.by_rows.at[a].add(-precise_matmul(gradient, x[b])),
            by_columns=self.by_columns.at[b].add(-precise_matmul(x_t[a], gradient)),
        )

    def add_constants(self, more: Any, exists: Array) -> Any:
        """Adds what flows back from a block, which is nothing where that does not exist."""
        add = lambda total, m: total + jnp.where(exists, m, 0.0)  # noqa: E731
        return self._replace(constants=jax.tree.map(add, self.constants, more))

    def of_embeddings(self, x: Array) -> Array:
        return self.by_rows + self.by_columns.swapaxes(1, 2) + self.weight[:, :, None] * x


def backward(
    terms: Terms,
    x: Array,
    rows: Rows,
    constants: Any,
    gradients: list[Array],
    kept: Array | None = None,
) -> tuple[Array, Rows, Any]:
    """The gradients by the embeddings, the rows and the constants, of those by the sums.

    Distances that were not kept are computed again.
    """
    half = half_squares(x)

    def distances(a: Array, b: Array) -> Array:
        if kept is None:
            return tile_distances(x, half, a, b)
        return kept[terms.tiling.place(a, b)]

    # Both ways round: on a CPU a product with the transpose of a tile takes twice the time.
    x_t = x.swapaxes(1, 2)

    def of(block: Array) -> list[Array]:
        return [g[block] for g in gradients]

    def within(total: _Gradients, a: Array) -> _Gradients:
        d_neg = distances(a, a)
        _, pull = jax.vjp(functools.partial(terms.within, a), d_neg, rows.block(a), constants)
        by_distances, of_rows, more = pull(of(a))
        by_distances = _unclamped(by_distances, d_neg)
        total = total.add_products(x, x_t, by_distances, a, a)
        total = total.add_constants(more, a < terms.tiling.blocks)
        weight = jnp.sum(by_distances, axis=1) + jnp.sum(by_distances, axis=0)
        return total._replace(
            weight=total.weight.at[a].add(weight), rows=total.rows.add(a, of_rows)
        )

    def between(total: _Gradients, a: Array, b: Array) -> _Gradients:
        d_neg = distances(a, b)
        arguments = (d_neg, rows.block(a), rows.block(b), constants)
        _, pull = jax.vjp(functools.partial(terms.between, a, b), *arguments)
        by_distances, of_a, of_b, more = pull((of(a), of(b)))
        by_distances = _unclamped(by_distances, d_neg)
        total = total.add_products(x, x_t, by_distances, a, b)
        total = total.add_constants(more, a < terms.tiling.blocks)
        weight = total.weight.at[a].add(jnp.sum(by_distances, axis=1))
        return total._replace(
            weight=weight.at[b].add(jnp.sum(by_distances, axis=0)),
            rows=total.rows.add(a, of_a).add(b, of_b),
        )

    by_rows, by_columns, weight, of_rows = varying_like(
        jax.tree.map(jnp.zeros_like, (x, x_t, half, rows)), x
    )
    # Constants may be the same on all devices, and their gradients then sums over devices.
    none = [varying_like(jnp.zeros_like(c), c) for c in constants]
    start = _Gradients(by_rows, by_columns, weight, of_rows, none)
    total = terms.tiling.fold(within, between, start, terms.tiles)
    return total.of_embeddings(x), total.rows, total.constants


def _unclamped(gradient: Array, d_neg: Array) -> Array:
    """The gradient by distances before they were clamped at 0."""
    return jnp.where(~(d_neg <= 0), gradient, 0.0)
