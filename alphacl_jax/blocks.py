"""The same mathematics a block at a time, in O(block · candidates) memory.

Losses that are sums over pairs (`alphacl_jax.sums`) whose anchors are also the candidates visit
square tiles, each pair once (`alphacl_jax.tiles`); everything else whole rows, here.
"""

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from alphacl_jax.layouts import Pairs
from alphacl_jax.tiles import TILES_AT_ONCE

Rows = TypeVar("Rows")

# The side of the fastest tiles on a CPU, whose cache holds a few of that size.
_CPU_TILE = 512

# Above this many anchor-candidate pairs, "auto" works in blocks: a handful of float32 arrays of
# that size is where a dense form begins to cost hundreds of megabytes.
_DENSE_PAIRS = 2**24


def resolve_block_size(block_size: Any, anchors: int, candidates: int) -> int:
    """The number of anchors worked on at a time.

    Args:
      block_size: None (all), "auto" (all, or as many as keep a block near 2²⁴ pairs), or a number.
      anchors: how many anchors there are.
      candidates: how many candidates there are.

    Raises:
      ValueError: for a number below 1, a fraction, or another word.
    """
    if block_size is None:
        return anchors
    if block_size == "auto":
        return (
            anchors if anchors * candidates <= _DENSE_PAIRS else max(1, _DENSE_PAIRS // candidates)
        )
    whole = isinstance(block_size, Integral) and not isinstance(block_size, bool)
    if not whole or block_size < 1:
        raise ValueError(f"block_size={block_size!r} must be a whole number >= 1, 'auto' or None")
    return anchors if block_size >= candidates else min(int(block_size), anchors)


def resolve_tile(block_size: Any, anchors: int) -> int:
    """The side of the tiles in which all pairs of anchors are visited; `anchors` for no tiles.

    Tiles hold no more pairs at a time than `block_size` rows do. On a CPU they are also kept to
    the size that is fastest there, and "auto" takes them as soon as they beat the dense form.

    Raises:
      ValueError: as `resolve_block_size`.
    """
    size = resolve_block_size(block_size, anchors, anchors)
    on_cpu = jax.default_backend() == "cpu"
    if block_size == "auto" and on_cpu:
        return _CPU_TILE if anchors > 2 * _CPU_TILE else anchors
    if size >= anchors:
        return anchors
    side = max(1, math.isqrt(size * anchors // TILES_AT_ONCE))
    return min(side, _CPU_TILE) if on_cpu else side


def map_rows(function: Callable[[Pairs], Rows], pairs: Pairs, block_size: Any) -> Rows:
    """Applies a function of pairs to blocks of anchors, each with all candidates.

    Args:
      function: maps pairs to arrays with one row per anchor, `[anchors, ...]`.
      pairs: the layout.
      block_size: as in `resolve_block_size`.

    Returns:
      What `function(pairs)` returns. The backward pass computes each block again.
    """
    anchors = pairs.anchors.shape[0]
    size = resolve_block_size(block_size, anchors, pairs.candidates.shape[0])
    if size >= anchors:
        return function(pairs)
    blocks = -(-anchors // size)

    def fold(x: jax.Array) -> jax.Array:
        padding = [(0, blocks * size - anchors)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding, mode="edge").reshape(blocks, size, *x.shape[1:])

    per_anchor = {
        name: fold(value)
        for name, value in pairs._asdict().items()
        if name != "candidates" and value is not None
    }

    @jax.checkpoint
    def one_block(block: dict[str, jax.Array]) -> Rows:
        return function(pairs._replace(**block))

    rows = jax.lax.map(one_block, per_anchor)
    return jax.tree.map(lambda x: x.reshape(blocks * size, *x.shape[2:])[:anchors], rows)
