"""What a function closes over, as arguments of it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend import core
from jax.tree_util import Partial


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


def traced(function: Callable[..., Any], *examples: Any) -> Partial:
    """A function as it is traced here, with the mapped axes that are known here.

    Args:
      function: of trees of arrays; it gives one.
      examples: arguments of it, whose structures, shapes and types are those of all calls.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*examples)
    structure = jax.tree.structure(shapes)

    def call(constants: list[Array], *arguments: Any) -> Any:
        program = core.ClosedJaxpr(closed.jaxpr, constants)
        found = core.jaxpr_as_fun(program)(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(structure, found)

    return Partial(call, closed.consts)
