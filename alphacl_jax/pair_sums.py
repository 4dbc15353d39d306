"""Sums over the pairs of a set of embeddings, on one device or spread over several.

Each pair is visited once, in square tiles (`alphacl_jax.tile_sums`): those of a device's own pairs,
and, where there are other devices, those with the guests that come around (`alphacl_jax.ring`).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from alphacl_jax.closures import opened, traced
from alphacl_jax.distances import half_squares, paired_squared_distances, varying_like
from alphacl_jax.explicit import all_gather
from alphacl_jax.ring import around
from alphacl_jax.sums import PairSums
from alphacl_jax.tile_sums import Rows, Terms, backward, forward, tile_distances, weighed
from alphacl_jax.tiling import Tiling

# Where there are no more blocks, and these no larger, the distances of all tiles are kept for the
# backward pass: at most 39 MB in float32, and 9 times what is worked on at once.
_KEPT_BLOCKS, _KEPT_SIDE = 8, 512


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
    terms_of = Terms(tiling, terms, sums.logits is not None, sums.of_class, count)
    # Not with shifts, which are rare: where both branches of a condition keep, memory doubles.
    few = tiling.blocks <= _KEPT_BLOCKS and tiling.side <= _KEPT_SIDE
    rows = Rows(d_pos, _some_negative(tiling, x, classes), shift)
    classes = None if classes is None else varying_like(classes, x)
    arguments = (x, rows, constants, (fixed, classes))
    if tiling.axis_name is not None:
        return _summed_over_devices(terms_of, *arguments)
    return _summed(terms_of, shift is None and few, *arguments)


def _some_negative(tiling: Tiling, x: Array, classes: Array | None) -> Array:
    """The distance of each row to one of the first class or, within that, to one of the last.

    A sample is a class, where there are no others.
    """
    rows = jax.lax.stop_gradient(x).reshape(-1, x.shape[2])
    if classes is None or tiling.told_apart:
        first = 0 if tiling.axis_name is None else jax.lax.axis_index(tiling.axis_name)
        own = (first * rows.shape[0] + jnp.arange(rows.shape[0])) // tiling.views
    else:
        own = classes.reshape(-1)
    low, high = ((own[i][None], rows[i][None]) for i in (jnp.argmin(own), jnp.argmax(own)))
    if tiling.axis_name is not None:
        low, high = all_gather((low, high), tiling.axis_name)
    lowest, at_lowest, at_highest = jnp.min(low[0]), jnp.argmin(low[0]), jnp.argmax(high[0])
    is_lowest = own == lowest
    other = jnp.where(is_lowest[:, None], high[1][at_highest][None], low[1][at_lowest][None])
    return paired_squared_distances(rows, other).reshape(x.shape[:2])


# What `Terms` are summed of: the embeddings, their rows, and their classes.
_Block = tuple[Array, Rows, Array | None]
# What is not differentiated by: constants and classes.
_Known = tuple[Any, Array | None]


def _beside(own: Any, guest: Any) -> Any:
    """Blocks of a guest after one's own."""
    return jax.tree.map(lambda *v: jnp.concatenate(v), own, guest)


def _halves(both: Any) -> tuple[Any, Any]:
    """One's own part, and the guest's."""
    parts = [jax.tree.map(lambda v, k=k: jnp.split(v, 2)[k], both) for k in range(2)]
    return parts[0], parts[1]


def _added(tree: Any, other: Any) -> Any:
    return jax.tree.map(jnp.add, tree, other)


def _least(tree: Any, other: Any) -> Any:
    return jax.tree.map(jnp.minimum, tree, other)


def _with_guest(terms: Terms, shared: bool) -> Terms:
    tiling = terms.tiling
    return terms._replace(tiling=tiling.with_guest(), tiles=tiling.guest_tiles(shared))


def _sums(
    terms: Terms, keep: bool, x: Array, rows: Rows, constants: Any, known: _Known
) -> list[Array]:
    return _forward(terms, False, x, rows, constants, known)[0]


def _forward(
    terms: Terms, keep: bool, x: Array, rows: Rows, constants: Any, known: _Known
) -> tuple[list[Array], Any]:
    fixed, classes = known
    terms = terms._replace(fixed=fixed)

    def sums(terms: Terms, block: _Block, keep: bool = False) -> tuple[list[Array], Array | None]:
        x, rows, classes = block
        return forward(terms._replace(classes=classes), x, rows, constants, keep=keep)

    def meet(guest: _Block, shared: bool) -> tuple[list[Array], list[Array]]:
        return _halves(sums(_with_guest(terms, shared), _beside(own, guest))[0])

    own = (x, rows, classes)
    found, kept = sums(terms, own, keep)
    if terms.tiling.axis_name is not None:
        found = _added(*around(terms.tiling.axis_name, meet, own, found, _added))
    return found, (x, rows, constants, known, kept)


def _backward(terms: Terms, saved: Any, gradients: list[Array]) -> Any:
    x, rows, constants, (fixed, classes), kept = saved
    terms = terms._replace(fixed=fixed)

    def pulled(
        terms: Terms, block: tuple[_Block, list[Array]], kept: Array | None = None
    ) -> tuple[Any, Any]:
        (x, rows, classes), gradients = block
        terms = terms._replace(classes=classes)
        by_x, by_rows, by_constants = backward(terms, x, rows, constants, gradients, kept)
        return (by_x, by_rows), by_constants

    def meet(guest: Any, shared: bool) -> tuple[Any, Any]:
        both, by_constants = pulled(_with_guest(terms, shared), _beside(own, guest))
        here, there = _halves(both)
        return (here, by_constants), there

    own = ((x, rows, classes), gradients)
    by_own, by_constants = pulled(terms, own, kept)
    if terms.tiling.axis_name is not None:
        found = (by_own, by_constants)
        found, abroad = around(terms.tiling.axis_name, meet, own, found, _added)
        by_own, by_constants = _added(found[0], abroad), found[1]
    return *by_own, by_constants, None


def _saving(terms: Terms, keep: bool, *arguments: Any) -> tuple[list[Array], Any]:
    """The sums, and the backward pass as a function of the gradients by them."""
    found, saved = _forward(terms, keep, *arguments)
    pull = Partial(functools.partial(_backward, terms), saved)
    return found, pull if terms.tiling.axis_name is None else traced(pull, found)


_summed = jax.custom_vjp(_sums, nondiff_argnums=(0, 1))
_summed.defvjp(_saving, lambda terms, keep, pull, gradients: pull(gradients))


def _summed_over_devices(terms: Terms, *arguments: Any) -> list[Array]:
    """The same, traced here: under `jax.vmap` neither pass of a derivative knows of its axis."""
    saving = traced(functools.partial(_saving, terms, False), *arguments)
    summed = jax.custom_vjp(lambda *v: saving(*v)[0])
    summed.defvjp(saving, lambda pull, gradients: pull(gradients))
    found: list[Array] = summed(*arguments)
    return found


def nearest(
    sums: PairSums,
    tiling: Tiling,
    x: Array,
    classes: Array | None,
    needless: Array | None = None,
) -> list[Array]:
    """For each sum of weights the least of a row's distances: `[blocks, side]`; inf where none.

    Args:
      sums: the loss.
      tiling: how the embeddings were cut.
      x: the embeddings, `[blocks, side, dim]`.
      classes: `[blocks, side]`, as in `Tiling`.
      needless: whether no pair need be visited, and all is inf.
    """

    def least(tiling: Tiling, block: tuple[Array, Array | None], tiles: Any) -> list[Array]:
        found = varying_like(jnp.full(block[0].shape[:2], jnp.inf, x.dtype), x)
        start = [found] * (2 if sums.of_class else 1)

        def visit() -> list[Array]:
            return _nearest(sums, tiling, *block, tiles, start)

        if needless is None:
            return visit()
        return list(jax.lax.cond(needless, lambda: start, visit))

    def meet(guest: Any, shared: bool) -> tuple[list[Array], list[Array]]:
        tiles = tiling.guest_tiles(shared)
        return _halves(least(tiling.with_guest(), _beside(own, guest), tiles))

    own = (x, classes)
    found = least(tiling, own, None)
    if tiling.axis_name is None:
        return found
    return _least(*around(tiling.axis_name, meet, own, found, _least))


def _nearest(
    sums: PairSums,
    tiling: Tiling,
    x: Array,
    classes: Array | None,
    tiles: Array | None,
    start: list[Array],
) -> list[Array]:
    half = half_squares(x)

    def least(d_neg: Array, masks: list[Array | None], axis: int) -> list[Array]:
        counted = [d_neg if m is None else jnp.where(m, d_neg, jnp.inf) for m in masks]
        return [jnp.min(d, axis=axis) for d in counted]

    def lower(found: list[Array], index: Array, rows: list[Array]) -> list[Array]:
        return [f.at[index].min(r) for f, r in zip(found, rows, strict=True)]

    def within(found: list[Array], a: Array) -> list[Array]:
        d_neg = tile_distances(x, half, a, a)
        masks = weighed(tiling.within(a, classes), tiling.alike(a, a, classes), sums.of_class)
        return lower(found, a, least(d_neg, masks, 1))

    def between(found: list[Array], a: Array, b: Array) -> list[Array]:
        d_neg = tile_distances(x, half, a, b)
        masks = weighed(tiling.between(a, b, classes), tiling.alike(a, b, classes), sums.of_class)
        return lower(lower(found, a, least(d_neg, masks, 1)), b, least(d_neg, masks, 0))

    found: list[Array] = tiling.fold(within, between, start, tiles)
    return found
