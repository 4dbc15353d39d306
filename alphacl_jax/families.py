"""The family of contrastive losses `L = Σ_i φ(Σ_{j≠i} ψ(d_i² − d_ij²))`.

Losses whose ψ is an exponential are evaluated through log ξ, so that neither a small temperature
nor a large distance overflows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import masked_logsumexp, row_maximum
from alphacl_jax.errors import shown
from alphacl_jax.parameters import Bound, Made, describe, elementwise, made, register
from alphacl_jax.ranges import FINITE, NOT_NEGATIVE, POSITIVE, Scalar


@register
@dataclass(frozen=True, repr=False)
class Family:
    """One loss `Σ_i φ(ξ_i)`, `ξ_i = Σ_{j≠i} ψ(d_i² − d_ij²)`, φ and ψ increasing.

    A loss of one's own is `Family(phi=..., psi=...)`; its pairwise importance α follows by
    automatic differentiation. Two families are equal where their functions and parameters are, so
    a family can be a static argument of jit: pass named functions.

    A family is a pytree as well, whose leaves are its parameters, as floating numbers: it can be
    an argument of jit, `jax.vmap(families.info_nce)(temperatures)` is a stack of families to map
    over, and with `jax.grad` by a family and an optimiser's updates of it, its temperature is
    learned. Nothing keeps a temperature that is learned like that above 0, and below it the loss
    is NaN: learn its logarithm, and make the family of `learned_temperature(log_value, minimum)`
    inside the loss. Parameters of one's own become leaves by `alphacl_jax.parameters.made`.

    Attributes:
      phi: φ, elementwise on arrays.
      psi: ψ, elementwise on arrays.
      phi_of_log: optional, φ(e^u) as a function of u = log ξ.
      log_psi: optional, log ψ. With both of these the loss is evaluated in the log domain.
      temperature: optional, τ where `ψ(x) = e^{x/τ + c}` for some c; sums over pairs in the log
        domain are then cheaper.
      is_info_nce: whether `φ(x) = τ log(ε + x)` and `ψ(x) = e^{x/τ}` at that temperature, which
        bounds the mutual information of the views (`statistics`).
      made_by: the call that made it, where that was one of the functions below or `made`.
    """

    phi: Callable[[Array], Array]
    psi: Callable[[Array], Array]
    phi_of_log: Callable[[Array], Array] | None = None
    log_psi: Callable[[Array], Array] | None = None
    temperature: Scalar | None = None
    is_info_nce: bool = False
    made_by: Made | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for name in ("phi", "psi"):
            if not callable(getattr(self, name)):
                got = shown(getattr(self, name))
                raise TypeError(f"Family({name}={got}): {name} must be callable")
        if (self.phi_of_log is None) != (self.log_psi is None):
            raise ValueError("phi_of_log and log_psi go together: give both or neither")
        if self.is_info_nce and self.temperature is None:
            raise ValueError("is_info_nce=True needs the temperature of that InfoNCE")

    def __repr__(self) -> str:
        return describe(self)


def anchor_losses(family: Family, differences: Array, mask: Array) -> Array:
    """φ(ξ_i) of each anchor.

    Args:
      family: the loss.
      differences: `d_i² − d_ij²`, `[anchors, candidates]`, finite at non-negatives.
      mask: True at negatives, `[anchors, candidates]`.

    Returns:
      `[anchors]`, of the differences' type; 0 for an anchor whose mask leaves no negative.

    Raises:
      AssertionError: for a function of the family that does not work elementwise.
    """
    some = jnp.any(mask, axis=1)
    # Entries that do not count are replaced before ψ, not after: it may have no finite derivative
    # there, and 0 · inf is NaN. A row's own largest difference is a safe stand-in. With a
    # temperature log ψ is a straight line.
    if family.log_psi is None or family.temperature is None:
        differences = jnp.where(mask, differences, row_maximum(differences, mask))
    if family.phi_of_log is not None and family.log_psi is not None:
        log_terms = elementwise("log_psi", family.log_psi, differences)
        log_xi = masked_logsumexp(log_terms, mask)
        values = elementwise("phi_of_log", family.phi_of_log, log_xi)
    else:
        terms = elementwise("psi", family.psi, differences)
        xi = jnp.sum(jnp.where(mask, terms, 0.0), axis=1)
        values = elementwise("phi", family.phi, jnp.where(some, xi, 1.0))
    # A parameter of a wider type, such as a float64 schedule's, does not widen the loss.
    return jnp.where(some, values, 0.0).astype(differences.dtype)


def family_importance(family: Family, differences: Array, mask: Array) -> Array:
    """`α_ij = φ'(ξ_i) ψ'(d_i² − d_ij²)`, the derivative of the loss by `d_i² − d_ij²`.

    Args and shapes as in `anchor_losses`; returns `[anchors, candidates]`, 0 at non-negatives.
    """
    return jax.grad(lambda x: jnp.sum(anchor_losses(family, x, mask)))(differences)


def _affine(x: Array, temperature: Scalar, margin: Scalar) -> Array:
    return x / temperature + margin


def _exp_affine(x: Array, temperature: Scalar, margin: Scalar) -> Array:
    return jnp.exp(_affine(x, temperature, margin))


def _through_log(xi: Array, phi_of_log: Callable[[Array], Array]) -> Array:
    return phi_of_log(jnp.log(xi))


def _exponential(
    phi_of_log: Bound,
    temperature: Scalar = 1.0,
    margin: Scalar = 0.0,
    *,
    is_info_nce: bool = False,
) -> Family:
    """A family with `ψ(x) = e^{x/τ + margin}` and φ given as a function of log ξ."""
    return Family(
        phi=Bound(_through_log, (phi_of_log,)),
        psi=Bound(_exp_affine, (temperature, margin)),
        phi_of_log=phi_of_log,
        log_psi=Bound(_affine, (temperature, margin)),
        temperature=temperature,
        # JAX also fills in None, where leaves are set apart.
        is_info_nce=is_info_nce and temperature is not None,
    )


def _log_plus(u: Array, temperature: Scalar, eps: Scalar) -> Array:
    if isinstance(eps, int | float):
        if eps == 0:
            return temperature * u
        return temperature * jnp.logaddexp(jnp.log(jnp.asarray(eps, u.dtype)), u)
    # A traced ε may be 0 as well, where its logarithm has no derivative, but the loss has one.
    some = eps > 0
    log_sum = jnp.logaddexp(jnp.log(jnp.where(some, eps, 1.0)), u)
    near_zero = u + eps * jnp.exp(-jnp.maximum(u, 0.5 * math.log(float(jnp.finfo(u.dtype).tiny))))
    return temperature * jnp.where(some, log_sum, near_zero)


def _softplus(u: Array, temperature: Scalar) -> Array:
    return temperature * jax.nn.softplus(u)


def _identity(x: Array) -> Array:
    return x


def _squared_hinge(u: Array) -> Array:
    return jnp.square(jax.nn.relu(u))


def _hinge(x: Array, margin: Scalar) -> Array:
    return jax.nn.relu(x + margin)


def _logistic(x: Array, c: Scalar) -> Array:
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
    return made(
        _info_nce, {"temperature": POSITIVE, "eps": NOT_NEGATIVE}, temperature=temperature, eps=eps
    )


def _info_nce(temperature: Scalar, eps: Scalar) -> Family:
    return _exponential(Bound(_log_plus, (temperature, eps)), temperature, is_info_nce=True)


def mine() -> Family:
    """MINE: `φ(x) = log x`, `ψ(x) = e^x` (Belghazi et al. 2018)."""
    return made(_mine)


def _mine() -> Family:
    return _exponential(Bound(_identity))


def triplet(margin: Scalar = 0.5) -> Family:
    """Triplet: `φ(x) = x`, `ψ(x) = [x + margin]₊` (Schroff et al. 2015), summed over negatives.

    The margin is in half squared distances: a margin m stated for plain squared distances is m/2
    here (and the loss half of that one).

    Raises:
      ValueError: for a margin that is not finite.
    """
    return made(_triplet, {"margin": FINITE}, margin=margin)


def _triplet(margin: Scalar) -> Family:
    return Family(phi=_identity, psi=Bound(_hinge, (margin,)))


def soft_triplet(temperature: Scalar = 0.5, margin: Scalar = 0.0) -> Family:
    """Soft triplet: `φ(x) = τ log(1 + x)`, `ψ(x) = e^{x/τ + margin}` (Tian et al. 2020).

    Args:
      temperature: τ > 0.
      margin: added to the exponent, in units of half squared distance over τ.

    Raises:
      ValueError: for a value out of range, where it is not traced.
    """
    return made(
        _soft_triplet,
        {"temperature": POSITIVE, "margin": FINITE},
        temperature=temperature,
        margin=margin,
    )


def _soft_triplet(temperature: Scalar, margin: Scalar) -> Family:
    return _exponential(Bound(_softplus, (temperature,)), temperature, margin)


def n_plus_one_tuplet() -> Family:
    """N+1 tuplet: `φ(x) = log(1 + x)`, `ψ(x) = e^x` (Sohn 2016)."""
    return made(_n_plus_one_tuplet)


def _n_plus_one_tuplet() -> Family:
    return _exponential(Bound(_softplus, (1.0,)))


def lifted_structured(margin: Scalar = 1.0) -> Family:
    """Lifted structured: `φ(x) = ([log x]₊)²`, `ψ(x) = e^{x + margin}` (Oh Song et al. 2016).

    The margin is in half squared distances: a margin stated for plain squared distances is twice
    this one.

    Raises:
      ValueError: for a margin that is not finite.
    """
    return made(_lifted_structured, {"margin": FINITE}, margin=margin)


def _lifted_structured(margin: Scalar) -> Family:
    return _exponential(Bound(_squared_hinge), 1.0, margin)


def sigmoid(c: Scalar = 1.0) -> Family:
    """Sigmoid: `φ(x) = x`, `ψ(x) = sigmoid(c x)` (Coria et al. 2020), c > 0.

    Raises:
      ValueError: for c ≤ 0, where it is not traced.
    """
    return made(_sigmoid, {"c": POSITIVE}, c=c)


def _sigmoid(c: Scalar) -> Family:
    return Family(phi=_identity, psi=Bound(_logistic, (c,)))


def linear() -> Family:
    """Linear, also called quadratic in the embeddings: `φ(x) = ψ(x) = x` (Ji et al. 2021)."""
    return made(_linear)


def _linear() -> Family:
    return Family(phi=_identity, psi=_identity)


# Every loss that has a name here.
LOSSES = (
    info_nce,
    mine,
    triplet,
    soft_triplet,
    n_plus_one_tuplet,
    lifted_structured,
    sigmoid,
    linear,
)
