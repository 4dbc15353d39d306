"""The min player: how the pairwise importance α follows from the distances.

A rule gives each anchor a row `α_i·` over its negatives, of budget `Σ_{j≠i} α_ij = 1`
(`from_family` apart, whose rows are those of the loss). `entropy`, `inverse`, `square` and
`regularized` solve `α = argmin_α E_α − R(α)` under that budget and `α ≥ 0`, with `R = Σ r(α_ij)`
(Tian, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization").
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import at_negatives, masked_softmax
from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.families import LOSSES, Family, family_importance
from alphacl_jax.parameters import (
    Bound,
    Fixed,
    Made,
    check_shape,
    describe,
    elementwise,
    in_range,
    made,
    register,
)
from alphacl_jax.ranges import POSITIVE, Range, Scalar
from alphacl_jax.solve import (
    check_decreasing,
    inverse_importance,
    regularized_importance,
    square_importance,
)

_ABOVE_ONE = Range(1.0)


@register
@dataclass(frozen=True, repr=False)
class Rule:
    """α as a function of the distances.

    A rule is frozen, hashable and equal by value, so it can be a static argument of jit; it is
    also a pytree, whose leaves are its parameters, as floating numbers. They are learned as those
    of a `Family` are, in a loss with `stop_gradient=False`: no gradient reaches them through an α
    that is stopped.

    Attributes:
      importance: maps d_neg `[anchors, candidates]` (d_ij²), d_pos `[anchors]` (d_i²) and the mask
        of negatives `[anchors, candidates]` to α `[anchors, candidates]`. At non-negatives d_neg
        is that of the row's nearest negative, and α counts as 0 whatever is returned.
      log_weight: optional, where `α_ij ∝ exp(log_weight(d_ij²))` in each row: that function,
        elementwise and falling. With it a loss in blocks visits each pair once, not each row.
      family: optional, the loss whose α this is; it serves the same end.
      made_by: the call that made it, where that was one of the functions below or
        `alphacl_jax.parameters.made`.
    """

    importance: Callable[[Array, Array, Array], Array]
    log_weight: Callable[[Array], Array] | None = None
    family: Family | None = None
    made_by: Made | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not callable(self.importance):
            raise TypeError(f"Rule({shown(self.importance)}): importance must be callable")
        if not (self.log_weight is None or callable(self.log_weight)):
            raise TypeError(f"Rule(log_weight={shown(self.log_weight)}): it must be callable")
        if not (self.family is None or isinstance(self.family, Family)):
            got = f"{shown(self.family)}{meant(self.family)}"
            raise TypeError(f"Rule(family=...) expects a Family, got {got}")

    def __repr__(self) -> str:
        return describe(self)


def ready(rule_or_family: Any) -> Any:
    """A rule or a family for use, its parameters in range (`in_range`).

    Raises:
      TypeError: for anything that is neither.
    """
    _check_kind(rule_or_family)
    return in_range(rule_or_family)


def _check_kind(rule_or_family: Any) -> None:
    if not isinstance(rule_or_family, Rule | Family):
        expected = f"expected a Rule or a Family, got {shown(rule_or_family)}"
        raise TypeError(f"{expected}{meant(rule_or_family)}")


def meant(value: Any) -> str:
    """What to write in place of a name of a loss or a rule, or of the function that makes it."""
    for module, makers in (("families", LOSSES), ("rules", RULES)):
        for maker in makers:
            if value is maker or _simple(value) == _simple(maker.__name__):
                arguments = "..." if maker in (regularized, from_family) else ""
                return f"; write {module}.{maker.__name__}({arguments})"
    return ""


def _simple(name: Any) -> str:
    """A name without what people write differently, such as InfoNCE and info-nce."""
    return "".join(filter(str.isalnum, name)).lower() if isinstance(name, str) else ""


def importance(rule_or_family: Rule | Family, d_neg: Array, d_pos: Array, mask: Array) -> Array:
    """α of a rule, or of a loss family, from the distances and of their type; shapes as in `Rule`.

    It is 0 at non-negatives, whatever a rule of somebody's own returns there.

    Raises:
      AssertionError: for a rule that returns another shape.
    """
    _check_kind(rule_or_family)
    rule = from_family(rule_or_family) if isinstance(rule_or_family, Family) else rule_or_family
    if rule.made_by is None or rule.made_by.build not in _FINITE_ANYWHERE:
        d_neg = at_negatives(d_neg, mask)
    alpha = rule.importance(d_neg, d_pos, mask)
    check_shape(f"{rule!r}, which must give [anchors, candidates],", alpha, d_neg.shape)
    # A parameter of a wider type, such as a float64 schedule's, does not widen the loss.
    return jnp.where(mask, jnp.asarray(alpha, d_neg.dtype), 0.0)


def direct(temperature: Scalar = 0.5, power: Scalar = 4) -> Rule:
    """`α_ij ∝ exp(−d_ij^p / τ)` with `d^p = (d²)^{p/2}`, each row scaled to 1 (α-CL-direct).

    Args:
      temperature: τ > 0.
      power: p > 1. On the unit sphere p = 4 is exp(−(1 − cos)²/τ). A whole number is part of
        the program, which is cheaper; 4.0 is a leaf, like a temperature.

    Raises:
      ValueError: for a value out of range, where it is not traced.
    """
    fixed = Fixed(power) if isinstance(power, int) else power
    return made(
        _direct,
        {"temperature": POSITIVE, "power": _ABOVE_ONE},
        temperature=temperature,
        power=fixed,
    )


def _direct(temperature: Scalar, power: Scalar) -> Rule:
    return _softmax_rule(Bound(_direct_log_weight, (temperature, power)))


def entropy(temperature: Scalar = 0.5) -> Rule:
    """`α_ij ∝ exp(−d_ij²/τ)`: the entropy regulariser `r(a) = −2τ a log a` (α-CL-r_H).

    Raises:
      ValueError: for τ ≤ 0, where it is not traced.
    """
    return made(_entropy, {"temperature": POSITIVE}, temperature=temperature)


def _entropy(temperature: Scalar) -> Rule:
    return _softmax_rule(Bound(_entropy_log_weight, (temperature,)))


def inverse(temperature: Scalar = 0.5, gamma: Scalar = 2.0) -> Rule:
    """`α_ij = (τ/(d_ij² − μ_i/2))^{1/γ}`: `r(a) = 2τ/(1−γ) a^{1−γ}` (α-CL-r_γ).

    μ_i is solved row by row such that the row sums to 1, to float precision. What the paper's
    code ran in its place is `reference_inverse`.

    Args:
      temperature: τ > 0.
      gamma: γ > 1.

    Raises:
      ValueError: for a value out of range, where it is not traced.
    """
    return made(
        _inverse,
        {"temperature": POSITIVE, "gamma": _ABOVE_ONE},
        temperature=temperature,
        gamma=gamma,
    )


def _inverse(temperature: Scalar, gamma: Scalar) -> Rule:
    return Rule(Bound(inverse_importance, (temperature, gamma)))


def square(temperature: Scalar = 0.5) -> Rule:
    """`α_ij = [μ_i − 2d_ij²]₊/τ`: `r(a) = −(τ/2) a²`, the projection on the simplex (α-CL-r_s).

    Raises:
      ValueError: for τ ≤ 0, where it is not traced.
    """
    return made(_square, {"temperature": POSITIVE}, temperature=temperature)


def _square(temperature: Scalar) -> Rule:
    return Rule(Bound(square_importance, (temperature,)))


def uniform() -> Rule:
    """`α_ij = 1/#negatives of i`: the quadratic loss, scaled to a budget of 1."""
    return made(_uniform)


def _uniform() -> Rule:
    return _softmax_rule(jnp.zeros_like)


def reference_inverse(temperature: Scalar = 0.5, gamma: Scalar = 2.0) -> Rule:
    """`α_ij ∝ 1/(d_ij² + τ)^γ`, each row scaled to 1: the paper's code for its α-CL-r_γ rows.

    It is not the stationary point of r_γ (that is `inverse`).

    Args:
      temperature: τ > 0.
      gamma: γ > 0, the exponent of the code.

    Raises:
      ValueError: for a value out of range, where it is not traced.
    """
    return made(
        _reference_inverse,
        {"temperature": POSITIVE, "gamma": POSITIVE},
        temperature=temperature,
        gamma=gamma,
    )


def _reference_inverse(temperature: Scalar, gamma: Scalar) -> Rule:
    return _softmax_rule(Bound(_reference_inverse_log_weight, (temperature, gamma)))


def regularized(r_prime_inverse: Callable[[Array], Array], *, domain: tuple[float, float]) -> Rule:
    """`α_ij = [(r')⁻¹(2d_ij² − μ_i)]₊` for a strictly concave regulariser r of one's own.

    μ_i is solved row by row such that the row sums to 1, and α is differentiable where it is not
    stopped.

    Args:
      r_prime_inverse: (r')⁻¹, elementwise on arrays; strictly decreasing, since r is concave.
      domain: the open interval of arguments that r_prime_inverse is defined on, which is the
        range of r' over a > 0: (r'(∞), r'(0)). Arguments at or above the upper end give α = 0.
        Entropy: (−inf, inf). Inverse: (0, inf). Square: (−inf, 0).

    Returns:
      The rule. Where no μ_i makes a row sum to 1, as when r is not concave, the row is NaN.

    Raises:
      ValueError: for an empty domain, and for a function that does not fall over its domain, which
        is looked at in a few places, unless the function depends on traced values or the rule is
        made within a mesh (`jax.set_mesh`, `jax.shard_map`).
      TypeError: for a function that cannot be called.
    """
    if not callable(r_prime_inverse):
        raise TypeError(f"r_prime_inverse={r_prime_inverse!r} must be callable")
    low, high = domain
    if not low < high:
        raise ArgumentError("domain", domain, "is empty; it must be (r'(∞), r'(0)), low < high")
    check_decreasing(r_prime_inverse, float(low), float(high))
    interval = Fixed((float(low), float(high)))
    return made(_regularized, r_prime_inverse=r_prime_inverse, domain=interval)


def _regularized(r_prime_inverse: Callable[[Array], Array], domain: tuple[float, float]) -> Rule:
    return Rule(Bound(regularized_importance, (r_prime_inverse, *domain)))


def from_family(family: Family) -> Rule:
    """`α_ij = φ'(ξ_i) ψ'(d_i² − d_ij²)`: the min player that a loss of the family implies.

    Raises:
      TypeError: for anything that is no Family.
    """
    if not isinstance(family, Family):
        raise TypeError(f"from_family expects a Family, got {shown(family)}{meant(family)}")
    return made(_from_family, family=family)


def _from_family(family: Family) -> Rule:
    return Rule(Bound(_family_importance, (family,)), family=family)


def _softmax_rule(log_weight: Callable[[Array], Array]) -> Rule:
    return Rule(Bound(_softmax, (log_weight,)), log_weight=log_weight)


def _softmax(
    d_neg: Array, d_pos: Array, mask: Array, log_weight: Callable[[Array], Array]
) -> Array:
    del d_pos
    return masked_softmax(elementwise("log_weight", log_weight, d_neg), mask)


def _direct_log_weight(d_neg: Array, temperature: Scalar, power: Scalar) -> Array:
    # Saturated, not infinite: the difference of two infinities is NaN.
    limit = math.sqrt(float(jnp.finfo(d_neg.dtype).max))
    bounded = jnp.minimum(d_neg, limit ** (2 / power))
    if isinstance(power, int | float) and power >= 2:
        return -(bounded ** (power / 2)) / temperature
    # d^p with p < 2 has an infinite slope at duplicates; they get value 0 and slope 0.
    apart = ~(bounded <= 0)  # true of NaN
    powers = jnp.where(apart, jnp.where(apart, bounded, 1.0) ** (power / 2), 0.0)
    return -powers / temperature


def _entropy_log_weight(d_neg: Array, temperature: Scalar) -> Array:
    return -d_neg / temperature


def _reference_inverse_log_weight(d_neg: Array, temperature: Scalar, gamma: Scalar) -> Array:
    return -gamma * jnp.log(d_neg + temperature)


def _family_importance(d_neg: Array, d_pos: Array, mask: Array, family: Family) -> Array:
    return family_importance(family, d_pos[:, None] - d_neg, mask)


# Rules whose functions have finite values and derivatives at any distance, or mask by themselves.
_FINITE_ANYWHERE = (_direct, _entropy, _uniform, _reference_inverse, _from_family)

# Every rule that has a name here.
RULES = (direct, entropy, inverse, square, uniform, reference_inverse, regularized, from_family)
