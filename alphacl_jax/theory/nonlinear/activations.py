"""Homogeneous activations: the nonlinearities for which a network is linear in gated data."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from alphacl_jax.errors import ArgumentError


class Activation(NamedTuple):
    """A homogeneous activation, `h'(u) u = degree · h(u)`.

    Attributes:
      apply: h.
      derivative: h', with h'(0) = 0 for ReLU and the slope of the negative side for leaky ReLU.
      degree: the p above: 1 for linear and (leaky) ReLU, p for h(u) = uᵖ.
      sign_symmetric: whether h(−u) = ±h(u), so that w and −w are the same filter to an energy.
    """

    apply: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    degree: int
    sign_symmetric: bool


# Module constants and cached makers: compiled programs are shared between equal activations.
LINEAR = Activation(lambda u: u, jnp.ones_like, 1, True)
RELU = Activation(
    lambda u: jnp.where(u <= 0, 0.0, u),  # NaN stays NaN
    lambda u: jnp.where(u > 0, 1.0, 0.0).astype(u.dtype),
    1,
    False,
)


@cache
def leaky_relu(slope: float = 0.1) -> Activation:
    """`h(u) = u` for u > 0, else `slope · u`.

    Args:
      slope: of the negative side, in (0, 1); 0 and 1 are `RELU` and `LINEAR`.

    Raises:
      ValueError: a slope outside (0, 1).
    """
    if not 0 < slope < 1:
        raise ArgumentError("slope", slope, "is out of range; it must be in (0, 1)")
    return Activation(
        lambda u: jnp.where(u > 0, u, slope * u),
        lambda u: jnp.where(u > 0, 1.0, slope).astype(u.dtype),
        1,
        False,
    )


@cache
def monomial(power: int) -> Activation:
    """`h(u) = uᵖ`, of degree p.

    Args:
      power: p, an integer of at least 2; 1 is `LINEAR`.

    Raises:
      ValueError: another power.
    """
    if power < 2 or power != int(power):
        raise ArgumentError("power", power, "is out of range; it must be an integer of at least 2")
    return Activation(lambda u: u**power, lambda u: power * u ** (power - 1), power, True)
