"""The moments whose context is nearest to one that is asked for, by search among sorted numbers or
by comparing with all.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_BLOCK = 64  # moments


def search_order(context: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The order in which `nearest` is to be given moments: by class, and in it by a number.

    Args:
      context: `[n, dims]`; of one dimension, it is sorted by.
      classes: `[n]`, numbers from 0.
    """
    if context.shape[1] == 1:
        return np.lexsort((context[:, 0], classes))
    return np.argsort(classes, kind="stable")


def nearest(key: Array, context: Array, first: Array, end: Array, queries: Array) -> Array:
    """Of the moments [first, end) the one whose context is nearest to each query, int32 `[q]`.

    Nearest by ‖context − query‖. Of several that are equally near, the one of one dimension is
    drawn among those of the same context; of more dimensions, it is the first.

    Args:
      key: random.
      context: `[n, dims]`, in the order of `search_order`.
      first: `[q]`, where the moments that may be found begin: those of a class, or all.
      end: `[q]`, where they end; one at least.
      queries: `[q, dims]`.
    """
    if context.shape[1] == 1:
        return _in_sorted(key, context[:, 0], first, end, queries[:, 0])
    return _among_all(context, first, end, queries)


def _in_sorted(key: Array, numbers: Array, first: Array, end: Array, queries: Array) -> Array:
    above = _bisect(numbers, first, end, lambda x: x < queries)
    below = jnp.clip(above - 1, first, end - 1)
    above = jnp.clip(above, first, end - 1)
    nearer = jnp.abs(numbers[below] - queries) <= jnp.abs(numbers[above] - queries)
    found = numbers[jnp.where(nearer, below, above)]
    # Coarse contexts are shared by many moments, of which none is to be preferred.
    start = _bisect(numbers, first, end, lambda x: x < found)
    stop = _bisect(numbers, first, end, lambda x: x <= found)
    return jax.random.randint(key, start.shape, start, stop)


def _bisect(numbers: Array, first: Array, end: Array, is_before: Callable[[Array], Array]) -> Array:
    """The first place in [first, end] whose number is not before; those that are come first."""

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) // 2
        up = (low < high) & is_before(numbers[middle])
        return jnp.where(up, middle + 1, low), jnp.where(up, high, middle)

    # Of n places one is found in ⌊log2 n⌋ + 1 halvings.
    times = len(numbers).bit_length()
    low, _ = jax.lax.fori_loop(0, times, halve, (first, end))
    return low


def _among_all(context: Array, first: Array, end: Array, queries: Array) -> Array:
    """By blocks: the smallest number of each is found several times sooner than its place."""
    moments, dims = context.shape
    block = min(_BLOCK, moments)
    context = jnp.pad(context, ((0, -moments % block), (0, 0)))
    blocks = len(context) // block

    def squares(context: Array, place: Array) -> Array:
        # The differences themselves: in ‖x‖² + ‖y‖² − 2xy near ones would be lost in rounding.
        differences = (context[..., i] - queries[:, i, None] for i in range(dims))
        allowed = (place >= first[:, None]) & (place < end[:, None])
        return jnp.where(allowed, sum(map(jnp.square, differences)), jnp.inf)

    of_all = squares(context[None], jnp.arange(len(context), dtype=jnp.int32)[None])
    smallest = jnp.min(of_all.reshape(len(queries), blocks, block), axis=2)
    best = jnp.argmin(smallest, axis=1).astype(jnp.int32)
    inside = best[:, None] * block + jnp.arange(block, dtype=jnp.int32)[None]
    found = jnp.argmin(squares(context[inside], inside), axis=1).astype(jnp.int32)
    return best * block + found
