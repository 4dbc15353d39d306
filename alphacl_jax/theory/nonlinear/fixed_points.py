"""When a fixed point of a nonlinear node is stable: the gap of A(w*) against how fast A varies.

References:
  Tian 2022, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization" (slide
  "1-layer 1-node nonlinear network").
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory.nonlinear.activations import Activation
from alphacl_jax.theory.nonlinear.local_maxima import node_covariance
from alphacl_jax.theory.nonlinear.patterns import NodeData

# How far from 1 a norm may be: above what float32 rounds, below what would move a gap.
_UNIT = 1e-4


class Stability(NamedTuple):
    """Of a fixed point A(w*)w* = λ*w*; scalars, or arrays under vmap.

    Attributes:
      eigenvalue: λ* = w*ᵀA(w*)w*.
      residual: ‖A(w*)w* − λ*w*‖ / ‖A(w*)w*‖, 0 at a fixed point.
      gap: λ* less the largest eigenvalue of A(w*) across w*. Negative where w* is not the top
        eigenvector φ₁(w*).
      lipschitz: L as found by sampling (see `stability`).
    """

    eigenvalue: Array
    residual: Array
    gap: Array
    lipschitz: Array

    @property
    def is_stable(self) -> Array:
        """The sufficient condition λ_gap(w*) > L."""
        return self.gap > self.lipschitz


def stability(
    key: Array,
    w: Array,
    data: NodeData,
    activation: Activation,
    *,
    radius: float = 0.1,
    num_samples: int = 64,
) -> Stability:
    """The two sides of the stability condition λ_gap(w*) > L at a fixed point.

    Near w*, a tangent displacement δ obeys dδ/dt = P(A(w*) − λ*)δ + P(A(w* + δ) − A(w*))w* + …,
    the first term at most −λ_gap‖δ‖ along δ and the second at most L‖δ‖, where

        L = max_v ‖A(v) − A(w*)‖₂ / ‖v − w*‖.

    Here the maximum is over `num_samples` unit vectors v at distances between radius/4 and radius
    from w*, so a lower bound of the Lipschitz constant there. Smaller distances are left out: with
    ReLU and finite data A is a step function, whose steps look infinitely steep from near, and the
    field A(v)v is continuous all the same.

    Args:
      key: of the samples.
      w: the fixed point w*, `[dim]`, dim at least 2. Its norm must be 1: off the sphere neither
        the gap nor L means anything. A traced w (under jit or vmap) is taken at its word.
      data: views and α.
      activation: h.
      radius: in (0, 1].
      num_samples: at least 1.

    Raises:
      ValueError: a radius or num_samples out of range, or a norm that is not 1 within 1e-4.
    """
    chex.assert_rank(w, 1)
    if not 0 < radius <= 1:
        raise ArgumentError("radius", radius, "is out of range; it must be in (0, 1]")
    if num_samples < 1:
        raise ArgumentError("num_samples", num_samples, "is out of range; it must be at least 1")
    _require_unit(w)
    a = node_covariance(w, data, activation)
    product = a @ w
    eigenvalue = w @ product
    across = jnp.eye(w.shape[0], dtype=w.dtype) - jnp.outer(w, w)
    # Directions along w get an eigenvalue below all others, so that they never are the largest.
    below = 2 * jnp.linalg.norm(a)
    rest = jnp.linalg.eigvalsh(across @ a @ across - below * jnp.outer(w, w))[-1]

    key_v, key_r = jax.random.split(key)
    tangent = jax.random.normal(key_v, (num_samples, w.shape[0]), w.dtype) @ across
    tangent = tangent / jnp.linalg.norm(tangent, axis=1, keepdims=True)
    distance = radius * jax.random.uniform(key_r, (num_samples,), w.dtype, 0.25, 1.0)
    turn = 2 * jnp.arcsin(distance / 2)  # the angle whose chord is the distance
    v = jnp.cos(turn)[:, None] * w[None] + jnp.sin(turn)[:, None] * tangent
    change = jax.vmap(lambda v: node_covariance(v, data, activation))(v) - a[None]
    slopes = jnp.linalg.norm(change, ord=2, axis=(1, 2)) / distance
    residual = jnp.linalg.norm(product - eigenvalue * w) / jnp.linalg.norm(product)
    return Stability(eigenvalue, residual, eigenvalue - rest, jnp.max(slopes))


def _require_unit(w: Array) -> None:
    if isinstance(w, jax.core.Tracer):
        return
    norm = float(jnp.linalg.norm(w))
    if not abs(norm - 1) <= _UNIT:
        raise ValueError(f"w has norm {norm:g}; it must be 1: divide w by its norm")
