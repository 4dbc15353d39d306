"""The same mathematics a block at a time, and the choice of the blocks.

Losses that are sums over pairs (`alphacl_jax.sums`) whose anchors are also the candidates visit
square tiles, each pair once (`alphacl_jax.tiles`); everything else whole rows, in
O(block · candidates) memory.
"""

from collections.abc import Callable
from numbers import Integral
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from alphacl_jax.distances import paired_squared_distances
from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.layouts import Pairs
from alphacl_jax.sums import PairSums
from alphacl_jax.tiles import resolve_tile, tiled_values

Rows = TypeVar("Rows")

# Above this many anchor-candidate pairs, "auto" works in blocks: a handful of float32 arrays of
# that size is where a dense form begins to cost hundreds of megabytes.
_DENSE_PAIRS = 2**24


def resolve_block_size(block_size: Any, anchors: int, candidates: int) -> int:
    """The number of anchors worked on at a time.

    Args:
      block_size: None (all), "auto" (all, or as many as keep a block near 2²⁴ pairs), or a number.
        Sizes that an exported program leaves open take None and "auto", which is all then.
      anchors: how many anchors there are.
      candidates: how many candidates there are.

    Raises:
      ValueError: for a number below 1, a fraction, or another word.
    """
    if block_size is None:
        return anchors
    known = isinstance(anchors, int) and isinstance(candidates, int)
    if block_size == "auto":
        fit = not known or anchors * candidates <= _DENSE_PAIRS
        return anchors if fit else max(1, _DENSE_PAIRS // candidates)
    whole = isinstance(block_size, Integral) and not isinstance(block_size, bool)
    if not whole or block_size < 1:
        problem = "must be a whole number >= 1, 'auto' or None"
        raise ArgumentError("block_size", shown(block_size), problem)
    if not known:
        problem = (
            f"needs a fixed number of embeddings, not {anchors} anchors and {candidates} "
            "candidates; export with block_size=None, or with a batch of a fixed size"
        )
        raise ArgumentError("block_size", repr(block_size), problem)
    return anchors if block_size >= candidates else min(int(block_size), anchors)


def tile_side(block_size: Any, anchors: int, candidates: int | None = None) -> int | None:
    """The side of the tiles in which all pairs of anchors are visited; None for no tiles.

    Args:
      block_size: as in `resolve_block_size`.
      anchors: how many anchors there are on this device.
      candidates: how many there are on all devices; None where this one is all.

    Raises:
      ValueError: as `resolve_block_size`.
    """
    candidates = anchors if candidates is None else candidates
    size = resolve_block_size(block_size, anchors, candidates)
    if not isinstance(anchors, int):
        return None
    return resolve_tile(size, anchors, candidates, automatic=block_size == "auto")


def map_anchors(
    function: Callable[[Pairs], Rows],
    pairs: Pairs,
    block_size: Any,
    sums: PairSums | None = None,
) -> Any:
    """Applies a function of pairs at once, in blocks of whole rows, or in square tiles.

    Args:
      function: maps pairs to arrays with one row per anchor, `[anchors, ...]`.
      pairs: the layout.
      block_size: as in `resolve_block_size`.
      sums: the same function as sums over pairs, where it is such a loss. Tiles need these, and
        anchors that are the candidates.

    Returns:
      What `function(pairs)` returns. In blocks and tiles the backward pass computes each again.
    """
    anchors, candidates = pairs.anchors.shape[0], pairs.candidates.shape[0]
    size = resolve_block_size(block_size, anchors, candidates)
    if not isinstance(anchors, int):
        return function(pairs)
    if sums is not None and pairs.views is not None:
        tile = tile_side(block_size, anchors, candidates)
        if tile is not None:
            d_pos = paired_squared_distances(pairs.anchors, pairs.positives)
            classes = None if pairs.classes is None else pairs.classes[0]
            return tiled_values(
                sums, pairs.anchors, d_pos, pairs.views, tile, classes, axis_name=pairs.axis_name
            )
        return function(pairs)
    return function(pairs) if size >= anchors else _map_rows(function, pairs, size)


def _map_rows(function: Callable[[Pairs], Rows], pairs: Pairs, size: int) -> Rows:
    """`function(pairs)` in blocks of `size` anchors, each with all candidates."""
    own = None if pairs.classes is None else pairs.classes[0]
    rows = (pairs.anchors, pairs.positives, pairs.excluded, pairs.mask, own)

    def one_block(block: Any) -> Rows:
        anchors, positives, excluded, mask, own = block
        classes = None if pairs.classes is None else (own, pairs.classes[1])
        return function(Pairs(anchors, positives, pairs.candidates, excluded, mask, classes))

    return map_blocks(one_block, rows, size)


def map_blocks(function: Callable[[Any], Rows], per_anchor: Any, size: int) -> Rows:
    """`function(per_anchor)`, `size` anchors at a time; the backward pass computes each again.

    Args:
      function: maps arrays with a row per anchor to arrays with a row per anchor.
      per_anchor: a tree of arrays `[anchors, ...]`.
      size: how many anchors at a time; as many as there are, or more, for all at once.
    """
    anchors: int = jax.tree.leaves(per_anchor)[0].shape[0]
    if size >= anchors:
        return function(per_anchor)
    blocks = -(-anchors // size)

    def fold(x: jax.Array) -> jax.Array:
        padding = [(0, blocks * size - anchors)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding, mode="edge").reshape(blocks, size, *x.shape[1:])

    rows = jax.lax.map(jax.checkpoint(function), jax.tree.map(fold, per_anchor))
    return jax.tree.map(lambda x: x.reshape(blocks * size, *x.shape[2:])[:anchors], rows)
