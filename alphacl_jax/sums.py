"""Losses whose rows follow from sums over pairs, so that a row need not be seen at once.

Such a loss can visit the pairs in any order, a tile at a time (`alphacl_jax.tiles`). The rules that
solve an equation per row, and rules of a user's own, need whole rows and have no such form.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.families import Family
from alphacl_jax.parameters import elementwise, typed
from alphacl_jax.ranges import Scalar
from alphacl_jax.rules import Rule


class PairSums(NamedTuple):
    """An anchor's loss as a function of sums over its negatives,

        S_i0 = Σ_j w_ij,  S_ik = Σ_j w_ij v_k(d_i², d_ij²),  w_ij = exp(l(d_i², d_ij²) − shift_i).

    Where pairs of one class are told apart (`alphacl_jax.tiling`), the sums are over all others,
    the v_k know which of them are of the anchor's class, and their weight is 1.

    Attributes:
      logits: l, elementwise and falling with d_ij²; None where every weight is 1.
      values: maps (d_i², d_ij²) to the tuple of the v_k, elementwise; where pairs are told apart,
        (d_i², d_ij², whether they are of one class).
      finish: maps d_i² `[anchors]`, the shifts and the sums, lists of `[anchors]`, to the losses
        `[anchors]`. There is one shift for each sum of weights.
      of_class: whether the second sum is that of the weights of the anchor's class, which has a
        shift of its own; for pairs that are told apart, with logits.
    """

    logits: Callable[[Array, Array], Array] | None
    values: Callable[..., tuple[Array, ...]]
    finish: Callable[[Array, list[Array], list[Array]], Array]
    of_class: bool = False


def family_sums(family: Family) -> PairSums:
    """The sums behind `families.anchor_losses`."""
    phi_of_log, log_psi = family.phi_of_log, family.log_psi
    if phi_of_log is None or log_psi is None:
        return PairSums(
            logits=None,
            values=lambda d_pos, d_neg: (elementwise("psi", family.psi, d_pos - d_neg),),
            finish=lambda d_pos, shift, sums: elementwise("phi", family.phi, sums[1]),
        )
    logits, log_sum = _log_domain(log_psi, family.temperature)
    return PairSums(
        logits=logits,
        values=lambda d_pos, d_neg: (),
        finish=lambda d_pos, shift, sums: elementwise(
            "phi_of_log", phi_of_log, log_sum(d_pos, shift, sums)
        ),
    )


def rule_sums(rule: Rule, stop_gradient: bool) -> PairSums | None:
    """The sums behind `Σ_j α_ij (d_i² − d_ij²)`, or None where α needs whole rows.

    Args:
      rule: how α follows from the distances.
      stop_gradient: whether α is held fixed in the gradient.
    """
    held = jax.lax.stop_gradient if stop_gradient else _as_is
    if rule.log_weight is not None:
        log_weight = rule.log_weight
        return PairSums(
            logits=lambda d_pos, d_neg: held(elementwise("log_weight", log_weight, d_neg)),
            values=lambda d_pos, d_neg: (d_neg,),
            finish=lambda d_pos, shift, sums: d_pos - sums[1] / sums[0],
        )
    if rule.family is None:
        return None
    return _implied_sums(rule.family, held)


def _implied_sums(family: Family, held: Callable[[Array], Array]) -> PairSums:
    """The same for `α_ij = φ'(ξ_i) ψ'(d_i² − d_ij²)`."""
    phi_of_log, log_psi = family.phi_of_log, family.log_psi
    if phi_of_log is None or log_psi is None:
        slope, psi_slope = _derivative(family.phi), _derivative(family.psi)

        def terms(d_pos: Array, d_neg: Array) -> tuple[Array, ...]:
            x = d_pos - d_neg
            return held(elementwise("psi", family.psi, x)), held(psi_slope(x)) * x

        return PairSums(None, terms, lambda d_pos, shift, sums: held(slope(sums[1])) * sums[2])
    # In the log domain, α_ij = φ_log'(log ξ_i) · ψ_ij/ξ_i · (log ψ)'_ij.
    temperature = family.temperature
    logits, log_sum = _log_domain(log_psi, temperature)
    log_slope, psi_log_slope = _derivative(phi_of_log), _derivative(log_psi)

    def weighted(d_pos: Array, d_neg: Array) -> tuple[Array, ...]:
        if temperature is not None:
            return (d_neg,)
        x = d_pos - d_neg
        return (held(psi_log_slope(x)) * x,)

    def finish(d_pos: Array, shift: list[Array], sums: list[Array]) -> Array:
        mean = sums[1] / sums[0]
        if temperature is not None:
            # 1/τ is (log ψ)', a factor of α.
            mean = (d_pos - mean) / held(jnp.asarray(temperature, mean.dtype))
        return held(log_slope(log_sum(d_pos, shift, sums))) * mean

    return PairSums(lambda d_pos, d_neg: held(logits(d_pos, d_neg)), weighted, finish)


def _log_domain(
    log_psi: Callable[[Array], Array], temperature: Scalar | None
) -> tuple[Callable[[Array, Array], Array], Callable[[Array, list[Array], list[Array]], Array]]:
    """The logits of ψ, and log ξ_i from d_i², shifts and sums.

    With a temperature (log ψ is x/τ and a constant) d_i² is left out of the logits and added to
    log ξ_i: its gradient then needs no sums over pairs.
    """
    if temperature is not None:
        return (
            lambda d_pos, d_neg: elementwise("log_psi", log_psi, -d_neg),
            lambda d_pos, shift, sums: (
                d_pos / typed(temperature, d_pos) + shift[0] + jnp.log(sums[0])
            ),
        )
    return (
        lambda d_pos, d_neg: elementwise("log_psi", log_psi, d_pos - d_neg),
        lambda d_pos, shift, sums: shift[0] + jnp.log(sums[0]),
    )


def _derivative(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The derivative of an elementwise function."""
    return lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def _as_is(x: Array) -> Array:
    return x
