"""The min player: how the pairwise importance α follows from the distances.

A rule gives each anchor a row `α_i·` over its negatives, of budget `Σ_{j≠i} α_ij = 1`
(`from_family` apart, whose rows are those of the loss). `entropy`, `inverse`, `square` and
`regularized` solve `α = argmin_α E_α − R(α)` under that budget and `α ≥ 0`, with `R = Σ r(α_ij)`
(Tian, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization").
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import masked_softmax
from alphacl_jax.errors import ArgumentError
from alphacl_jax.families import Family, family_importance
from alphacl_jax.parameters import (
    Bound,
    Fixed,
    Made,
    Scalar,
    check_scalar,
    describe,
    made,
    register,
)
from alphacl_jax.solve import solve_decreasing


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
        of negatives `[anchors, candidates]` to α `[anchors, candidates]`, 0 at non-negatives.
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
            raise TypeError(f"Rule({self.importance!r}): importance must be callable")

    def __repr__(self) -> str:
        return describe(self)


def importance(rule_or_family: Rule | Family, d_neg: Array, d_pos: Array, mask: Array) -> Array:
    """α of a rule, or of a loss family, from the distances and of their type; shapes as in `Rule`.

    Raises:
      TypeError: for anything that is neither.
    """
    rule = rule_or_family
    if isinstance(rule, Family):
        rule = from_family(rule)
    if not isinstance(rule, Rule):
        raise TypeError(f"expected a Rule or a Family, got {rule_or_family!r}")
    # A parameter of a wider type, such as a float64 schedule's, does not widen the loss.
    return jnp.asarray(rule.importance(d_neg, d_pos, mask), d_neg.dtype)


def direct(temperature: Scalar = 0.5, power: Scalar = 4) -> Rule:
    """`α_ij ∝ exp(−d_ij^p / τ)` with `d^p = (d²)^{p/2}`, each row scaled to 1 (α-CL-direct).

    Args:
      temperature: τ > 0.
      power: p > 1. On the unit sphere p = 4 is exp(−(1 − cos)²/τ). A whole number is part of
        the program, which is cheaper; 4.0 is a leaf, like a temperature.

    Raises:
      ValueError: for a value out of range, where it is not traced.
    """
    check_scalar("temperature", temperature, above=0)
    check_scalar("power", power, above=1)
    fixed = Fixed(power) if isinstance(power, int) else power
    return made(_direct, temperature=temperature, power=fixed)


def _direct(temperature: Scalar, power: Scalar) -> Rule:
    return _softmax_rule(Bound(_direct_log_weight, (temperature, power)))


def entropy(temperature: Scalar = 0.5) -> Rule:
    """`α_ij ∝ exp(−d_ij²/τ)`: the entropy regulariser `r(a) = −2τ a log a` (α-CL-r_H).

    Raises:
      ValueError: for τ ≤ 0, where it is not traced.
    """
    check_scalar("temperature", temperature, above=0)
    return made(_entropy, temperature=temperature)


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
    check_scalar("temperature", temperature, above=0)
    check_scalar("gamma", gamma, above=1)
    return made(_inverse, temperature=temperature, gamma=gamma)


def _inverse(temperature: Scalar, gamma: Scalar) -> Rule:
    return Rule(Bound(_inverse_importance, (temperature, gamma)))


def square(temperature: Scalar = 0.5) -> Rule:
    """`α_ij = [μ_i − 2d_ij²]₊/τ`: `r(a) = −(τ/2) a²`, the projection on the simplex (α-CL-r_s).

    Raises:
      ValueError: for τ ≤ 0, where it is not traced.
    """
    check_scalar("temperature", temperature, above=0)
    return made(_square, temperature=temperature)


def _square(temperature: Scalar) -> Rule:
    return Rule(Bound(_square_importance, (temperature,)))


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
    check_scalar("temperature", temperature, above=0)
    check_scalar("gamma", gamma, above=0)
    return made(_reference_inverse, temperature=temperature, gamma=gamma)


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

    Raises:
      ValueError: for an empty domain.
      TypeError: for a function that cannot be called.
    """
    if not callable(r_prime_inverse):
        raise TypeError(f"r_prime_inverse={r_prime_inverse!r} must be callable")
    low, high = domain
    if not low < high:
        raise ArgumentError("domain", domain, "is empty; it must be (r'(∞), r'(0)), low < high")
    interval = Fixed((float(low), float(high)))
    return made(_regularized, r_prime_inverse=r_prime_inverse, domain=interval)


def _regularized(r_prime_inverse: Callable[[Array], Array], domain: tuple[float, float]) -> Rule:
    return Rule(Bound(_regularized_importance, (r_prime_inverse, *domain)))


def from_family(family: Family) -> Rule:
    """`α_ij = φ'(ξ_i) ψ'(d_i² − d_ij²)`: the min player that a loss of the family implies.

    Raises:
      TypeError: for anything that is no Family.
    """
    if not isinstance(family, Family):
        raise TypeError(f"from_family expects a Family, got {family!r}")
    return made(_from_family, family=family)


def _from_family(family: Family) -> Rule:
    return Rule(Bound(_family_importance, (family,)), family=family)


def _softmax_rule(log_weight: Callable[[Array], Array]) -> Rule:
    return Rule(Bound(_softmax, (log_weight,)), log_weight=log_weight)


def _softmax(
    d_neg: Array, d_pos: Array, mask: Array, log_weight: Callable[[Array], Array]
) -> Array:
    del d_pos
    return masked_softmax(log_weight(d_neg), mask)


def _direct_log_weight(d_neg: Array, temperature: Scalar, power: Scalar) -> Array:
    # Saturated, not infinite: the difference of two infinities is NaN.
    limit = math.sqrt(float(jnp.finfo(d_neg.dtype).max))
    bounded = jnp.minimum(d_neg, limit ** (2 / power))
    if isinstance(power, int | float) and power >= 2:
        return -(bounded ** (power / 2)) / temperature
    # d^p with p < 2 has an infinite slope at duplicates; they get value 0 and slope 0.
    apart = bounded > 0
    powers = jnp.where(apart, jnp.where(apart, bounded, 1.0) ** (power / 2), 0.0)
    return -powers / temperature


def _entropy_log_weight(d_neg: Array, temperature: Scalar) -> Array:
    return -d_neg / temperature


def _reference_inverse_log_weight(d_neg: Array, temperature: Scalar, gamma: Scalar) -> Array:
    return -gamma * jnp.log(d_neg + temperature)


def _family_importance(d_neg: Array, d_pos: Array, mask: Array, family: Family) -> Array:
    return family_importance(family, d_pos[:, None] - d_neg, mask)


def _square_importance(d_neg: Array, d_pos: Array, mask: Array, temperature: Scalar) -> Array:
    del d_pos
    u = -2.0 * _above_minimum(d_neg, mask) / temperature
    ranked = -jnp.sort(-jax.lax.stop_gradient(jnp.where(mask, u, -jnp.inf)), axis=1)
    ranks = jnp.arange(1, u.shape[1] + 1, dtype=u.dtype)[None, :]
    total = jnp.cumsum(ranked, axis=1)
    size = jnp.maximum(jnp.sum(1 + ranks * ranked > total, axis=1, keepdims=True), 1)
    threshold = (jnp.take_along_axis(total, size - 1, axis=1) - 1) / size.astype(u.dtype)
    support = mask & (u > threshold)
    # The same threshold again from the support, which is what carries the gradient.
    count = jnp.maximum(jnp.sum(support, axis=1, keepdims=True), 1).astype(u.dtype)
    level = (jnp.sum(jnp.where(support, u, 0.0), axis=1, keepdims=True) - 1) / count
    return jnp.where(support, u - level, 0.0)


def _inverse_importance(
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


def _regularized_importance(
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
        values = r_prime_inverse(jnp.where(inside, arguments, least)).astype(d_neg.dtype)
        return jnp.where(inside, jnp.maximum(values, 0.0), 0.0)

    def log_budget(u: Array) -> Array:
        return jnp.log(jnp.clip(jnp.sum(weights(u), axis=1), finfo.tiny, finfo.max))

    # Most of the exponents that the float type has: every reachable argument is in the bracket.
    reach = jnp.zeros_like(excess[:, 0]) + 0.9 * math.log(float(finfo.max))
    return weights(solve_decreasing(log_budget, -reach, reach))


def _into_domain(u: Array, low: float, high: float) -> Array:
    """An increasing map of the real line onto the open interval (low, high)."""
    if math.isinf(low) and math.isinf(high):
        return jnp.sinh(u)
    if math.isinf(high):
        return low + jnp.exp(u)
    if math.isinf(low):
        return high - jnp.exp(-u)
    return low + (high - low) * jax.nn.sigmoid(u)


def _above_minimum(d_neg: Array, mask: Array) -> Array:
    """`d_ij² − min_j d_ij²` at negatives, 0 elsewhere: rows keep their digits at any scale."""
    nearest = jnp.min(jnp.where(mask, d_neg, jnp.inf), axis=1, keepdims=True)
    return jnp.where(mask, d_neg - jnp.where(jnp.isfinite(nearest), nearest, 0.0), 0.0)
