"""One increasing unknown per row: the scalar equations behind the regularised min player."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.closures import opened
from alphacl_jax.distances import varying_like

# Newton takes about ten steps; the rest is room for the bisection that guards it.
_MAX_STEPS = 200

# Lower and upper bound, the guess, the function there, and the number of steps taken.
_Carry = tuple[Array, Array, Array, Array, Array]


def _value_and_slope(f: Callable[..., Array], u: Array) -> tuple[Array, Array]:
    return jax.jvp(f, (u,), (jnp.ones_like(u),))


def solve_decreasing(f: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """The root of each `f_i(u_i)`, f decreasing: Newton's steps, bisection where they leave it.

    The value is exact to float precision; first and second derivatives, by whatever f depends on,
    are the implicit ones, `du = −df(u) / f'(u)` and its derivative.

    Args:
      f: maps u `[rows]` to `[rows]`, row by row.
      low: lower bounds of the roots, `[rows]`.
      high: upper bounds of the roots, `[rows]`.

    Returns:
      u `[rows]`.
    """
    u = _search(f, jax.lax.stop_gradient(low), jax.lax.stop_gradient(high))
    # More Newton steps, from a fixed u with a fixed slope, polish the root and carry the
    # derivatives: each step makes one more order right.
    slope = jax.lax.stop_gradient(_value_and_slope(f, u)[1])
    ok = jnp.isfinite(slope) & (slope < 0)
    for _ in range(2):
        u = u - jnp.where(ok, f(u) / jnp.where(ok, slope, -1.0), 0.0)
    return u


def _search(f: Callable[[Array], Array], low: Array, high: Array) -> Array:
    low, high = varying_like((low, high), f(low))
    # A while loop has no reverse derivative, so whatever traced values f closes over come in
    # as constants.
    converted, smooth, others = opened(f, low)
    constants = jax.lax.stop_gradient([*smooth, *others])
    eps = float(jnp.finfo(low.dtype).eps)
    # Newton's error squares at each step, so the step that the caller adds takes this below eps,
    # where rounding in f would keep a search for eps itself busy.
    tolerance = eps**0.75

    def fixed(u: Array) -> Array:
        return converted(u, *constants)[0]

    def unfinished(carry: _Carry) -> Array:
        low, high, _, value, step = carry
        width = (high - low) > eps * jnp.maximum(jnp.abs(low), jnp.abs(high))
        return jnp.any((jnp.abs(value) > tolerance) & width) & (step < _MAX_STEPS)

    def improve(carry: _Carry) -> _Carry:
        low, high, u, before, step = carry
        value, slope = _value_and_slope(fixed, u)
        low, high = jnp.where(value > 0, u, low), jnp.where(value > 0, high, u)
        newton = u - value / slope
        inside = (newton > low) & (newton < high)
        # Newton alone may creep along a flat stretch.
        quick = jnp.abs(value) < 0.5 * jnp.abs(before)
        guess = jnp.where(inside & quick, newton, 0.5 * (low + high))
        done = jnp.abs(value) <= tolerance
        return low, high, jnp.where(done, u, guess), value, step + 1

    start = (low, high, 0.5 * (low + high), jnp.full_like(low, jnp.inf), jnp.zeros((), jnp.int32))
    return jax.lax.stop_gradient(jax.lax.while_loop(unfinished, improve, start)[2])
