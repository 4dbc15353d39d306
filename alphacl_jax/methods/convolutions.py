"""Convolutions of a loop in the one layout for which XLA's CPU backend has a fast kernel.

That backend brings the convolutions of a program's entry computation into the layout
`[batch, height, width, channels]`, and no others: those of a loop's body keep the layout that
differentiation gave them, in which the gradient by the weights is computed by plain loops, tens of
times as slow. `in_fast_layout` writes the transposes into the program, as the backend does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend import core

# Positions of (batch, channels, height, width), of (outputs, inputs, height, width), and again.
_FAST = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def in_fast_layout(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of arrays, its 2-D convolutions in the layout of `[batch, h, w, channels]`.

    Those of functions within it are rewritten too, of its own loops and of `jax.checkpoint`; not
    those with groups.
    """

    def rewritten(*arguments: Any) -> Any:
        program, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        run = core.jaxpr_as_fun(_rewritten(program))
        return jax.tree.unflatten(jax.tree.structure(shape), run(*jax.tree.leaves(arguments)))

    return rewritten


def _rewritten(program: Any) -> Any:
    """A program, closed or not, with equations rewritten; anything else as it is."""
    # In this order: from some version of JAX on both are one class.
    if isinstance(program, core.Jaxpr):
        return program.replace(eqns=[_equation(equation) for equation in program.eqns])
    if isinstance(program, core.ClosedJaxpr):
        return program.replace(jaxpr=_rewritten(program.jaxpr))
    return program


def _equation(equation: core.JaxprEqn) -> core.JaxprEqn:
    parameters = equation.params
    if equation.primitive.name != "conv_general_dilated":
        inner = {name: _rewritten(value) for name, value in parameters.items()}
        return equation.replace(params=inner)
    if not _is_plain_2d(parameters):
        return equation
    avals = [atom.aval for atom in equation.invars]
    (call,) = jax.make_jaxpr(jax.jit(lambda *xs: _convolution(*xs, **parameters)))(*avals).eqns
    return equation.replace(primitive=call.primitive, params=call.params)


def _is_plain_2d(parameters: dict[str, Any]) -> bool:
    groups = parameters["feature_group_count"] * parameters["batch_group_count"]
    return groups == 1 and len(parameters["window_strides"]) == 2


def _convolution(
    x: Array, kernel: Array, *, dimension_numbers: jax.lax.ConvDimensionNumbers, **parameters: Any
) -> Array:
    """The convolution of transposed arrays, transposed back."""
    x_axes, kernel_axes, result_axes = dimension_numbers
    x = jnp.transpose(x, _moved(x_axes, _FAST.lhs_spec))
    kernel = jnp.transpose(kernel, _moved(kernel_axes, _FAST.rhs_spec))
    result = jax.lax.conv_general_dilated(x, kernel, dimension_numbers=_FAST, **parameters)
    return jnp.transpose(result, _moved(_FAST.out_spec, result_axes))


def _moved(given: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """The permutation that brings axes from their given places to the wanted ones."""
    return [given[wanted.index(place)] for place in range(len(wanted))]
