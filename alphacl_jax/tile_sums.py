"""Sums over the pairs of a set of embeddings, in square tiles, each pair visited once.

Nothing is kept from tile to tile but the sums and, of a few small tiles, the distances: of others
the backward pass computes each again. Memory is O(tile² + anchors · dim).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.closures import opened
from alphacl_jax.distances import (
    at_most_zero,
    distances_by_products,
    half_squares,
    paired_squared_distances,
    precise_matmul,
    varying_like,
)
from alphacl_jax.sums import PairSums
from alphacl_jax.tiling import Tiling, both

# Where there are no more blocks, and these no larger, the distances of all tiles are kept for the
# backward pass: at most 39 MB in float32, and 9 times what is worked on at once.
_KEPT_BLOCKS, _KEPT_SIDE = 8, 512


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


def pair_sums(
    sums: PairSums,
    tiling: Tiling,
    x: Array,
    d_pos: Array,
    shift: list[Array] | None = None,
    classes: Array | None = None,
) -> list[Array]:
    """The sums of `PairSums` over each row's pairs that count.

    Args:
      sums: the loss.
      tiling: how the embeddings were cut.
      x: the embeddings, `[blocks, side, dim]`.
      d_pos: d_i², `[blocks, side]`.
      shift: the shifts of the logits, `[blocks, side]` for each sum of weights. Without them the
        logits are taken to be in the range of the exponential.
      classes: `[blocks, side]`, as in `Tiling`.

    Returns:
      A list of `[blocks, side]`, 0 where no pair of a row counts.
    """

    def elementwise(d_pos: Array, d_neg: Array, *alike: Array) -> tuple[Array, ...]:
        logits = () if sums.logits is None else (sums.logits(d_pos, d_neg),)
        # A parameter of a wider type does not widen the loss.
        return tuple(v.astype(x.dtype) for v in (*logits, *sums.values(d_pos, d_neg, *alike)))

    tile = jnp.zeros((tiling.side, tiling.side), x.dtype)
    told = (jnp.zeros_like(tile, bool),) if tiling.told_apart else ()
    examples = varying_like((tile, tile, *told), x)
    # Traced temperatures become arguments, since they may be differentiated too.
    terms, constants, fixed = opened(elementwise, *examples)
    count = len(sums.values(*examples)) + (2 if sums.of_class else 1)
    # Not with shifts, which are rare: where both branches of a condition keep, memory doubles.
    few = tiling.blocks <= _KEPT_BLOCKS and tiling.side <= _KEPT_SIDE
    keep = shift is None and few
    terms_of = _Terms(tiling, terms, sums.logits is not None, sums.of_class, count, keep)
    rows = Rows(d_pos, _some_negative(tiling, x, classes), shift)
    classes = None if classes is None else varying_like(classes, x)
    return _summed(terms_of, x, rows, constants, (fixed, classes))


def _some_negative(tiling: Tiling, x: Array, classes: Array | None) -> Array:
    """The distance of each row to one of the first class or, within that, to one of the last.

    A sample is a class, where there are no others.
    """
    rows = jax.lax.stop_gradient(x).reshape(-1, x.shape[2])
    if classes is None or tiling.told_apart:
        of_first = jnp.arange(rows.shape[0]) < tiling.views
        first, last = rows[0], rows[tiling.total - 1]
    else:
        own = classes.reshape(-1)
        of_first = own == jnp.min(own)
        first, last = rows[jnp.argmin(own)], rows[jnp.argmax(own)]
    other = jnp.where(of_first[:, None], last[None, :], first[None, :])
    return paired_squared_distances(rows, other).reshape(x.shape[:2])


class _Terms(NamedTuple):
    """The terms that are summed, as a function of one tile's distances."""

    tiling: Tiling
    elementwise: Callable[..., Any]  # of (d_i², d_ij², ...): logits and values
    exponential: bool  # whether there are logits
    of_class: bool  # as in `PairSums`
    sums: int  # how many
    keep: bool  # whether distances are kept for the backward pass
    fixed: Sequence[Array] = ()  # constants that nothing can be differentiated by
    classes: Array | None = None

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


def _forward(
    terms: _Terms, x: Array, rows: Rows, constants: Any, known: tuple[Any, Array | None]
) -> list[Array]:
    return _visited(terms, x, rows, constants, known, keep=False)[0]


def _forward_keeping(terms: _Terms, *arguments: Any) -> tuple[list[Array], Any]:
    sums, kept = _visited(terms, *arguments, keep=terms.keep)
    return sums, (arguments, kept)


def _visited(
    terms: _Terms,
    x: Array,
    rows: Rows,
    constants: Any,
    known: tuple[Any, Array | None],
    *,
    keep: bool,
) -> tuple[list[Array], Array | None]:
    """The sums, and the distances of all tiles if these are to be kept: `[tiles, side, side]`."""
    terms = terms._replace(fixed=known[0], classes=known[1])
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
    found = tiling.fold(within, between, varying_like((start, kept), x))
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


def _backward(terms: _Terms, saved: Any, gradients: list[Array]) -> Any:
    (x, rows, constants, known), kept = saved
    terms = terms._replace(fixed=known[0], classes=known[1])
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
    total = terms.tiling.fold(within, between, start)
    return total.of_embeddings(x), total.rows, total.constants, None


def _unclamped(gradient: Array, d_neg: Array) -> Array:
    """The gradient by distances before they were clamped at 0."""
    return jnp.where(~(d_neg <= 0), gradient, 0.0)


_summed = jax.custom_vjp(_forward, nondiff_argnums=(0,))
_summed.defvjp(_forward_keeping, _backward)
