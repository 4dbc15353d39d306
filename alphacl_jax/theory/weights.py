"""Random weights: the draws behind every network of the theory, each in one place.

Networks scale them in words of their own paper (1/√fan-in, He's √(2/fan-in), ±1/√fan-in); how they
are drawn, and in which order, is what the published tables depend on.
"""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def standard_normals(key: Array, shapes: Iterable[tuple[int, ...]]) -> tuple[Array, ...]:
    """Independent N(0, 1) entries, each array drawn with a key of its own.

    Args:
      key: split into one for each array.
      shapes: of the arrays.
    """
    sizes = list(shapes)
    keys = jax.random.split(key, len(sizes))
    return tuple(jax.random.normal(k, size) for k, size in zip(keys, sizes, strict=True))


def uniform_within(key: Array, shape: tuple[int, ...], bound: float = 1.0) -> Array:
    """Independent entries, uniform in ±bound.

    Drawn flat, then reshaped: under a vmap over keys a draw of rank 3 takes many times as long to
    compile.
    """
    flat = jax.random.uniform(key, (math.prod(shape),), minval=-bound, maxval=bound)
    return flat.reshape(shape)


def uniform_by_fan_in(key: Array, shapes: Iterable[tuple[int, ...]]) -> tuple[Array, ...]:
    """Weights `[..., in, out]`, uniform in ±1/√in, all from one draw."""
    sizes = list(shapes)
    counts = [math.prod(size) for size in sizes]
    parts = jnp.split(uniform_within(key, (sum(counts),)), np.cumsum(counts)[:-1])
    return tuple(
        part.reshape(size) / jnp.sqrt(float(size[-2]))
        for part, size in zip(parts, sizes, strict=True)
    )
