"""Theorem 4: what discriminates the hidden variable gets a larger basin of attraction.

A filter on the unit sphere follows dw/dt = P(L(w) + c u_lu_lᵀ)w, P the projection across w, with

    L(w) = Σ_m g(u_mᵀw) u_mu_mᵀ,   g(a) = 1 + slope·a > 0 on [−1, 1], and {u_m} orthonormal.

In the coordinates a_m = u_mᵀw, signs never change and d/dt log|a_l/a_m| = slope·(a_l − a_m) + c.
Hence, as fractions of the sphere, the basin of u_l is

    (1 − 2^−dim)/dim              for c = 0      (a_l > 0 and the largest),
    3/8 + arcsin(c/(√2·slope))/2π for dim = 2, 0 ≤ c ≤ slope,
    1/2                           for c ≥ slope  (a_l > 0 is enough).

References:
  Tian 2022, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization",
  Theorem 4 of the slides, "Global modulation of attractive basin".
"""

import math

import chex
import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.errors import ArgumentError


def basin_members(
    starts: Array,
    strength: Array,
    *,
    slope: float = 0.5,
    step: float = 1.0,
    num_steps: int = 400,
) -> Array:
    """Which starts flow to the modulated pattern.

    Each step multiplies a_m by exp(step · its rate) and normalises: signs, fixed points and, at
    c = 0, the order of the coordinates are those of the flow exactly if step · slope < 1.

    Args:
      starts: `[starts, dim]` in the coordinates of {u_m}, of any norm but 0; the modulated pattern
        u_l is the first.
      strength: c, a scalar.
      slope: of g, in (0, 1).
      step: in time.
      num_steps: how many; one that has not come within 60° of u_l by then is no member.

    Returns:
      `[starts]`, booleans.

    Raises:
      ValueError: a slope out of range.
    """
    chex.assert_rank([starts, strength], [2, 0])
    _check_slope(slope)
    bonus = strength * jnp.eye(1, starts.shape[1], dtype=starts.dtype)

    def move(_: int, w: Array) -> Array:
        w = w * jnp.exp(step * (slope * w + bonus))
        return w / jnp.linalg.norm(w, axis=1, keepdims=True)

    starts = starts / jnp.linalg.norm(starts, axis=1, keepdims=True)
    return jax.lax.fori_loop(0, num_steps, move, starts)[:, 0] > 0.5


def _check_slope(slope: float) -> None:
    if not 0 < slope < 1:
        raise ArgumentError("slope", slope, "is out of range; g stays positive for one in (0, 1)")


def predicted_basin(strength: float, dim: int, *, slope: float = 0.5) -> float | None:
    """The basin as a fraction of the sphere where it has a closed form (above), else None.

    Args:
      strength: c, at least 0.
      dim: at least 2.
      slope: of g, in (0, 1).

    Raises:
      ValueError: out of range.
    """
    _check_slope(slope)
    if dim < 2:
        raise ArgumentError("dim", dim, "is out of range; it must be at least 2")
    if not strength >= 0:
        raise ArgumentError("strength", strength, "is out of range; it must be at least 0")
    if strength >= slope:
        return 0.5
    if strength == 0:
        return (1 - 0.5**dim) / dim
    if dim == 2:
        return 0.375 + math.asin(strength / (2**0.5 * slope)) / (2 * math.pi)
    return None
