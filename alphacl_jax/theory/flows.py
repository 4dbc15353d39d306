"""Differential equations, solved by diffrax where it is installed."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import chex
from jax import Array

Field = Callable[[chex.ArrayTree], chex.ArrayTree]


def solve_adaptively(
    what: str, field: Field, start: Any, at: Array, *, rtol: float, atol: float
) -> Any:
    """`dy/dt = field(y)` by a fifth-order method that chooses its steps by error estimates.

    Args:
      what: that flows, for the message where diffrax is missing.
      field: of y alone.
      start: y at the first time, a tree of arrays.
      at: times, ascending, `[times]`.
      rtol, atol: tolerances of a step, relative and absolute.

    Returns:
      y at the times, each array with a leading axis `[times]`.

    Raises:
      ModuleNotFoundError: where diffrax is not installed.
    """
    diffrax = _diffrax(what)
    controller = diffrax.PIDController(rtol=rtol, atol=atol)
    return _solve(diffrax, field, start, at, controller, first=None, most=16384)


def solve_in_steps(what: str, field: Field, start: Any, at: Array, *, step: float) -> Any:
    """`dy/dt = field(y)` by the same method with steps of one size.

    Args and returns as `solve_adaptively`, with `step` in units of time in place of tolerances.
    """
    diffrax = _diffrax(what)
    return _solve(diffrax, field, start, at, diffrax.ConstantStepSize(), first=step, most=None)


def _solve(
    diffrax: ModuleType,
    field: Field,
    start: Any,
    at: Array,
    controller: Any,
    *,
    first: float | None,
    most: int | None,
) -> Any:
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: field(y)),
        diffrax.Tsit5(),
        t0=at[0],
        t1=at[-1],
        dt0=first,
        y0=start,
        saveat=diffrax.SaveAt(ts=at),
        stepsize_controller=controller,
        max_steps=most,
    ).ys


def _diffrax(what: str) -> ModuleType:
    try:
        import diffrax
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the flow of {what} needs diffrax: pip install 'alphacl_jax[theory]'", name="diffrax"
        ) from error
    module: ModuleType = diffrax
    return module
