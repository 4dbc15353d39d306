"""What a function closes over, as arguments of it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend import core


def opened(
    function: Callable[..., Any], *examples: Array
) -> tuple[Callable[..., list[Array]], list[Array], list[Array]]:
    """A function without a closure, and the arrays that it had closed over.

    `jax.closure_convert` leaves in the closure what cannot be differentiated by as it looks, such
    as whole numbers, and temperatures that are mapped over outside a gradient; but derivatives of
    one's own, and loops, may hold no traced value at all.

    Args:
      function: of arrays; it gives arrays, in a tuple or alone.
      examples: arguments of it, whose shapes and types are those of all calls.

    Returns:
      `converted(*arguments, *constants)`, which gives a list of arrays; and the constants, those
      that it can be differentiated by before the others, as two lists.
    """
    closed = jax.make_jaxpr(function)(*examples)
    smooth = [
        isinstance(c, jax.core.Tracer) and jnp.issubdtype(jnp.result_type(c), jnp.inexact)
        for c in closed.consts
    ]
    order = sorted(range(len(smooth)), key=lambda i: not smooth[i])

    def converted(*arguments: Array) -> list[Array]:
        own, constants = arguments[: len(examples)], arguments[len(examples) :]
        by_place = [
            c for _, c in sorted(zip(order, constants, strict=True), key=lambda pair: pair[0])
        ]
        found: list[Array] = core.jaxpr_as_fun(core.ClosedJaxpr(closed.jaxpr, by_place))(*own)
        return found

    constants = [closed.consts[i] for i in order]
    return converted, constants[: sum(smooth)], constants[sum(smooth) :]
