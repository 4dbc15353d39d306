"""The family of contrastive losses `L = Σ_i φ(Σ_{j≠i} ψ(d_i² − d_ij²))`.

Losses whose ψ is an exponential are evaluated through log ξ, so that neither a small temperature
nor a large distance overflows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import masked_logsumexp

Scalar = float | Array


@dataclass(frozen=True)
class Bound:
    """A function with its last arguments filled in; equal by value, unlike a closure."""

    function: Callable[..., Array]
    parameters: tuple[Any, ...] = ()

    def __call__(self, *arguments: Array) -> Array:
        return self.function(*arguments, *self.parameters)


@dataclass(frozen=True)
class Affine:
    """`x ↦ x/temperature + margin`, the log ψ of every exponential loss of the table."""

    temperature: Scalar
    margin: Scalar

    def __call__(self, x: Array) -> Array:
        return x / self.temperature + self.margin


@dataclass(frozen=True)
class Family:
    """One loss `Σ_i φ(ξ_i)`, `ξ_i = Σ_{j≠i} ψ(d_i² − d_ij²)`, φ and ψ increasing.

    A loss of one's own is `Family(phi=..., psi=...)`; its pairwise importance α follows by
    automatic differentiation. Two families are equal where their functions are, so a family can
    be a static argument of jit: pass named functions, or a `Bound` of one and its parameters.

    Attributes:
      phi: φ, elementwise on arrays.
      psi: ψ, elementwise on arrays.
      phi_of_log: optional, φ(e^u) as a function of u = log ξ.
      log_psi: optional, log ψ. With both of these the loss is evaluated in the log domain.
    """

    phi: Callable[[Array], Array]
    psi: Callable[[Array], Array]
    phi_of_log: Callable[[Array], Array] | None = None
    log_psi: Callable[[Array], Array] | None = None

    def __post_init__(self) -> None:
        for name in ("phi", "psi"):
            if not callable(getattr(self, name)):
                raise TypeError(f"Family({name}={getattr(self, name)!r}): {name} must be callable")
        if (self.phi_of_log is None) != (self.log_psi is None):
            raise ValueError("phi_of_log and log_psi go together: give both or neither")


def anchor_losses(family: Family, differences: Array, mask: Array) -> Array:
    """φ(ξ_i) of each anchor.

    Args:
      family: the loss.
      differences: `d_i² − d_ij²`, `[anchors, candidates]`.
      mask: True at negatives, `[anchors, candidates]`.

    Returns:
      `[anchors]`, of the differences' type; 0 for an anchor whose mask leaves no negative.
    """
    some = jnp.any(mask, axis=1)
    if family.phi_of_log is not None and family.log_psi is not None:
        values = family.phi_of_log(masked_logsumexp(family.log_psi(differences), mask))
    else:
        # Entries that do not count are replaced before ψ, not after: ψ may have no finite
        # derivative there, and 0 · inf is NaN. A row's own largest difference is a safe stand-in.
        highest = jnp.max(jnp.where(mask, differences, -jnp.inf), axis=1, keepdims=True)
        stand_in = jax.lax.stop_gradient(jnp.where(jnp.isfinite(highest), highest, 0.0))
        terms = family.psi(jnp.where(mask, differences, stand_in))
        xi = jnp.sum(jnp.where(mask, terms, 0.0), axis=1)
        values = family.phi(jnp.where(some, xi, 1.0))
    # A parameter of a wider type, such as a float64 schedule's, does not widen the loss.
    return jnp.where(some, values, 0.0).astype(differences.dtype)


def family_importance(family: Family, differences: Array, mask: Array) -> Array:
    """`α_ij = φ'(ξ_i) ψ'(d_i² − d_ij²)`, the derivative of the loss by `d_i² − d_ij²`.

    Args and shapes as in `anchor_losses`; returns `[anchors, candidates]`, 0 at non-negatives.
    """
    return jax.grad(lambda x: jnp.sum(anchor_losses(family, x, mask)))(differences)


def check_scalar(name: str, value: Any, *, above: float, inclusive: bool = False) -> None:
    """Raises ValueError unless `value` is a finite scalar above the bound; traced values pass."""
    if isinstance(value, jax.core.Tracer):
        if value.ndim != 0:
            raise ValueError(f"{name} must be a scalar, but has shape {value.shape}")
        return
    if jnp.ndim(value) != 0:
        raise ValueError(f"{name} must be a scalar, but has shape {jnp.shape(value)}")
    number = float(value)
    if not math.isfinite(number) or not (number > above or (inclusive and number == above)):
        sign = ">=" if inclusive else ">"
        bound = f" {sign} {above:g}" if math.isfinite(above) else ""
        raise ValueError(f"{name}={number:g} is out of range; it must be a finite number{bound}")


def _exp_affine(x: Array, temperature: Scalar, margin: Scalar) -> Array:
    return jnp.exp(x / temperature + margin)


def _through_log(xi: Array, phi_of_log: Callable[[Array], Array]) -> Array:
    return phi_of_log(jnp.log(xi))


def _exponential(phi_of_log: Bound, temperature: Scalar = 1.0, margin: Scalar = 0.0) -> Family:
    """A family with `ψ(x) = e^{x/τ + margin}` and φ given as a function of log ξ."""
    return Family(
        phi=Bound(_through_log, (phi_of_log,)),
        psi=Bound(_exp_affine, (temperature, margin)),
        phi_of_log=phi_of_log,
        log_psi=Affine(temperature, margin),
    )


def _log_plus(u: Array, temperature: Scalar, eps: Scalar) -> Array:
    if isinstance(eps, int | float) and eps == 0:
        return temperature * u
    return temperature * jnp.logaddexp(jnp.log(jnp.asarray(eps, u.dtype)), u)


def _softplus(u: Array, temperature: Scalar) -> Array:
    return temperature * jax.nn.softplus(u)


def _identity(x: Array) -> Array:
    return x


def _squared_hinge(u: Array) -> Array:
    return jnp.square(jax.nn.relu(u))


def _hinge(x: Array, margin: Scalar) -> Array:
    return jax.nn.relu(x + margin)


def _sigmoid(x: Array, c: Scalar) -> Array:
    return jax.nn.sigmoid(c * x)


def info_nce(temperature: Scalar = 0.5, eps: Scalar = 1.0) -> Family:
    """InfoNCE: `φ(x) = τ log(ε + x)`, `ψ(x) = e^{x/τ}`.

    With `eps=1` the positive is in the denominator; with `negatives="both_views"` the loss is
    then τ times NT-Xent. With `eps=0` α is the softmax of −d_ij²/τ.

    Args:
      temperature: τ > 0.
      eps: ε ≥ 0.

    Raises:
      ValueError: for a value out of range, where it is not traced.

    References:
      van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018;
      Tian, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization", 2022.
    """
    check_scalar("temperature", temperature, above=0)
    check_scalar("eps", eps, above=0, inclusive=True)
    return _exponential(Bound(_log_plus, (temperature, eps)), temperature)


def info_nce_temperature(family: Family) -> Scalar | None:
    """τ of a family made by `info_nce`; None for any other."""
    phi = family.phi_of_log
    if isinstance(phi, Bound) and phi.function is _log_plus:
        temperature: Scalar = phi.parameters[0]
        return temperature
    return None


def mine() -> Family:
    """MINE: `φ(x) = log x`, `ψ(x) = e^x` (Belghazi et al. 2018)."""
    return _exponential(Bound(_identity))


def triplet(margin: Scalar = 0.5) -> Family:
    """Triplet: `φ(x) = x`, `ψ(x) = [x + margin]₊` (Schroff et al. 2015), summed over negatives.

    The margin is in half squared distances: a margin m stated for plain squared distances is m/2
    here (and the loss half of that one).

    Raises:
      ValueError: for a margin that is not finite.
    """
    check_scalar("margin", margin, above=-math.inf)
    return Family(phi=_identity, psi=Bound(_hinge, (margin,)))


def soft_triplet(temperature: Scalar = 0.5, margin: Scalar = 0.0) -> Family:
    """Soft triplet: `φ(x) = τ log(1 + x)`, `ψ(x) = e^{x/τ + margin}` (Tian et al. 2020).

    Args:
      temperature: τ > 0.
      margin: added to the exponent, in units of half squared distance over τ.

    Raises:
      ValueError: for a value out of range, where it is not traced.
    """
    check_scalar("temperature", temperature, above=0)
    check_scalar("margin", margin, above=-math.inf)
    return _exponential(Bound(_softplus, (temperature,)), temperature, margin)


def n_plus_one_tuplet() -> Family:
    """N+1 tuplet: `φ(x) = log(1 + x)`, `ψ(x) = e^x` (Sohn 2016)."""
    return _exponential(Bound(_softplus, (1.0,)))


def lifted_structured(margin: Scalar = 1.0) -> Family:
    """Lifted structured: `φ(x) = ([log x]₊)²`, `ψ(x) = e^{x + margin}` (Oh Song et al. 2016).

    The margin is in half squared distances: a margin stated for plain squared distances is twice
    this one.

    Raises:
      ValueError: for a margin that is not finite.
    """
    check_scalar("margin", margin, above=-math.inf)
    return _exponential(Bound(_squared_hinge), 1.0, margin)


def sigmoid(c: Scalar = 1.0) -> Family:
    """Sigmoid: `φ(x) = x`, `ψ(x) = sigmoid(c x)` (Coria et al. 2020), c > 0.

    Raises:
      ValueError: for c ≤ 0, where it is not traced.
    """
    check_scalar("c", c, above=0)
    return Family(phi=_identity, psi=Bound(_sigmoid, (c,)))


def linear() -> Family:
    """Linear, also called quadratic in the embeddings: `φ(x) = ψ(x) = x` (Ji et al. 2021)."""
    return Family(phi=_identity, psi=_identity)
