"""One increasing unknown per row: the scalar equations behind the regularised min player.

Functions named `*_importance` map d_ij² `[anchors, candidates]`, d_i² `[anchors]`, the mask of
negatives and parameters to α, as `alphacl_jax.rules` says.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.closures import opened
from alphacl_jax.distances import masked_softmax, varying_like
from alphacl_jax.errors import ArgumentError
from alphacl_jax.parameters import elementwise, named
from alphacl_jax.ranges import Scalar

# How far the sum of a row may be from its budget: far more than rounding moves it.
_MISSED_BUDGET = 0.1

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


def square_importance(d_neg: Array, d_pos: Array, mask: Array, temperature: Scalar) -> Array:
    del d_pos
    u = -2.0 * _above_minimum(d_neg, mask) / temperature
    ranked = -jnp.sort(-jax.lax.stop_gradient(jnp.where(mask, u, -jnp.inf)), axis=1)
    ranks = jnp.arange(1, u.shape[1] + 1, dtype=u.dtype)[None, :]
    total = jnp.cumsum(ranked, axis=1)
    size = jnp.maximum(jnp.sum(1 + ranks * ranked > total, axis=1, keepdims=True), 1)
    threshold = (jnp.take_along_axis(total, size - 1, axis=1) - 1) / size.astype(u.dtype)
    support = mask & ~(u <= threshold)  # true of NaN
    # The same threshold again from the support, which is what carries the gradient.
    count = jnp.maximum(jnp.sum(support, axis=1, keepdims=True), 1).astype(u.dtype)
    level = (jnp.sum(jnp.where(support, u, 0.0), axis=1, keepdims=True) - 1) / count
    return jnp.where(support, u - level, 0.0)


def inverse_importance(
    d_neg: Array, d_pos: Array, mask: Array, temperature: Scalar, gamma: Scalar
) -> Array:
    """Solves `Σ_j (τ/(e_j + t))^{1/γ} = 1` for log t, with e = d² − min d² and t = min d² − μ/2."""
    del d_pos
    excess = _above_minimum(d_neg, mask)
    log_temperature = jnp.log(jnp.asarray(temperature, d_neg.dtype))
    gamma = jnp.asarray(gamma, d_neg.dtype)

    def logits(log_t: Array) -> Array:
        # log(e + t) by way of e/t: t itself, up to τ #negatives^γ, overflows at a large γ.
        ratio = excess * jnp.exp(-log_t)[:, None]
        return (log_temperature - log_t[:, None] - jnp.log1p(ratio)) / gamma

    def log_budget(log_t: Array) -> Array:
        weights = jnp.where(mask, jnp.exp(logits(log_t)), 0.0)
        return jnp.log(jnp.maximum(jnp.sum(weights, axis=1), jnp.finfo(d_neg.dtype).tiny))

    # One negative alone, or all as near as the nearest, bound t from below and from above.
    count = jnp.maximum(jnp.sum(mask, axis=1), 1).astype(d_neg.dtype)
    lowest = jnp.zeros_like(count) + log_temperature
    log_t = solve_decreasing(log_budget, lowest, lowest + gamma * jnp.log(count))
    return masked_softmax(logits(log_t), mask)


def regularized_importance(
    d_neg: Array,
    d_pos: Array,
    mask: Array,
    r_prime_inverse: Callable[[Array], Array],
    low: float,
    high: float,
) -> Array:
    del d_pos
    excess = _above_minimum(d_neg, mask)
    finfo = jnp.finfo(d_neg.dtype)

    def weights(u: Array) -> Array:
        least = _into_domain(u, low, high)[:, None]
        arguments = least + 2.0 * excess
        inside = mask & (arguments < high)
        values = elementwise(
            "r_prime_inverse", r_prime_inverse, jnp.where(inside, arguments, least)
        ).astype(d_neg.dtype)
        return jnp.where(inside, jnp.maximum(values, 0.0), 0.0)

    def log_budget(u: Array) -> Array:
        return jnp.log(jnp.clip(jnp.sum(weights(u), axis=1), finfo.tiny, finfo.max))

    # Most of the exponents that the float type has: every reachable argument is in the bracket.
    reach = jnp.zeros_like(excess[:, 0]) + 0.9 * math.log(float(finfo.max))
    alpha = weights(solve_decreasing(log_budget, -reach, reach))
    met = jnp.abs(jnp.sum(alpha, axis=1, keepdims=True) - 1.0) < _MISSED_BUDGET
    return jnp.where(met | ~mask, alpha, jnp.nan)


def check_decreasing(r_prime_inverse: Callable[[Array], Array], low: float, high: float) -> None:
    """Raises ValueError for an (r')⁻¹ that does not fall over its domain, where that can be seen.

    It is looked at in places all over the domain, but for those where it is not finite; before the
    first of these, +inf is as good as a large number. Only values up to 1 count, which is the
    budget of a row, and only rises that are more than rounding. Nothing is seen of a function that
    depends on traced values, and none within a mesh (`jax.set_mesh`, `jax.shard_map`).
    """
    if jax.sharding.get_abstract_mesh().axis_names:
        return  # JAX cannot compute at once what belongs to no mesh
    places = _places(low, high)
    with jax.ensure_compile_time_eval(), jax.debug_nans(False), jax.debug_infs(False):
        found = elementwise("r_prime_inverse", r_prime_inverse, jnp.asarray(places))
        if isinstance(found, jax.core.Tracer):
            return
        values: list[float] = found.tolist()
    if _falls(places, values):
        return
    problem = (
        f"does not fall over its domain ({low:g}, {high:g}), as the (r')⁻¹ of a concave r does; "
        "check its sign, and that the domain is (r'(∞), r'(0))"
    )
    raise ArgumentError("r_prime_inverse", named(r_prime_inverse), problem)


def _falls(places: list[float], values: list[float]) -> bool:
    """Whether values, cut to 0 to 1, fall from the first to the last and rise nowhere."""
    first = next((k for k, value in enumerate(values) if math.isfinite(value)), len(values))
    kept = [
        (place, min(max(value, 0.0), 1.0))
        for k, (place, value) in enumerate(zip(places, values, strict=True))
        if math.isfinite(value) or (k < first and value > 0)
    ]
    eps = float(jnp.finfo(jnp.float32).eps)
    rises = any(
        after > before + 1e-3 + 8 * eps * abs(place)
        for (_, before), (place, after) in itertools.pairwise(kept)
    )
    return bool(kept) and kept[0][1] > kept[-1][1] and not rises


def _places(low: float, high: float) -> list[float]:
    """Rising arguments all over the open interval (low, high), as `_into_domain` spaces them."""
    reach = 0.9 * math.log(float(jnp.finfo(jnp.float32).max))
    # By Python's functions: JAX would compile each of its own, which takes a second.
    return [_into_domain(reach * (k / 32 - 1), low, high, _BY_PYTHON) for k in range(65)]


class _Functions(NamedTuple):
    sinh: Callable[..., Any]
    exp: Callable[..., Any]
    sigmoid: Callable[..., Any]


_BY_JAX = _Functions(jnp.sinh, jnp.exp, jax.nn.sigmoid)
_BY_PYTHON = _Functions(math.sinh, math.exp, lambda u: 1 / (1 + math.exp(-u)))


def _into_domain(u: Any, low: float, high: float, by: _Functions = _BY_JAX) -> Any:
    """An increasing map of the real line onto the open interval (low, high)."""
    if math.isinf(low) and math.isinf(high):
        return by.sinh(u)
    if math.isinf(high):
        return low + by.exp(u)
    if math.isinf(low):
        return high - by.exp(-u)
    return low + (high - low) * by.sigmoid(u)


def _above_minimum(d_neg: Array, mask: Array) -> Array:
    """`d_ij² − min_j d_ij²` at negatives, 0 elsewhere: rows keep their digits at any scale."""
    nearest = jnp.min(jnp.where(mask, d_neg, jnp.inf), axis=1, keepdims=True)
    return jnp.where(mask, d_neg - jnp.where(jnp.isfinite(nearest), nearest, 0.0), 0.0)
