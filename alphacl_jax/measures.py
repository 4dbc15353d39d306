"""What a training run wants to know of its embeddings beside the loss."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import xlogy

from alphacl_jax import rules
from alphacl_jax.blocks import map_anchors
from alphacl_jax.distances import masked_logsumexp, paired_squared_distances
from alphacl_jax.explicit import left_to_compiler
from alphacl_jax.families import Family
from alphacl_jax.layouts import Pairs, pair_distances
from alphacl_jax.parameters import typed
from alphacl_jax.ranges import Scalar
from alphacl_jax.rules import Rule
from alphacl_jax.sharded import AxisName, batch_pairs, reduce_anchors


@left_to_compiler(rows=lambda options: False)
def statistics(
    z: Array,
    z_pos: Array,
    rule_or_family: Rule | Family,
    *,
    negatives: Any = "both_views",
    labels: Any = None,
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> dict[str, Array]:
    """Scalars that describe a batch of embeddings; no gradient flows through them.

    positive_distance and alignment are of all anchors, also of one whose mask leaves no negative:
    padding that is no number makes these two NaN.

    Args:
      z: first views `[n, dim]`, floating; used as given.
      z_pos: second views `[n, dim]`.
      rule_or_family: what α follows from, as in `pairwise_importance`.
      negatives: as in `contrastive_loss`.
      labels: as in `contrastive_loss`.
      block_size: as in `contrastive_loss`.
      axis_name: as in `contrastive_loss`.

    Returns:
      energy: `E_α = tr C_α[z, z]`, summed over anchors.
      positive_distance: mean of d_i² over anchors.
      negative_distance: mean of d_ij² over anchors and their negatives.
      perplexity: mean over anchors of `exp(H(α_i· / Σ_j α_ij))`, the effective number of hard
        negatives: 1 to the number of negatives, 0 for a row of zeros.
      alignment: mean of ‖z_i − z_i'‖² over anchors, ≥ 0, lower is better aligned.
      uniformity: `log mean exp(−2‖z_i − z_j‖²)` over anchors and negatives, ≤ 0, lower is more
        uniform.
      mutual_information_bound: for an InfoNCE family or its rule alone: `log N − L` in nats with
        `L = log(1 + Σ_j e^{(d_i² − d_ij²)/τ})`, the mean over anchors, N − 1 being the number of
        an anchor's negatives. A lower bound of the views' mutual information, at most log N. It is
        that of ε = 1 whatever the family's ε, since the bound needs the positive among the N.

    Raises:
      As `contrastive_loss`.

    References:
      Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and
      Uniformity on the Hypersphere", 2020 (alignment and uniformity);
      van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018 (the
      bound).
    """
    rule_or_family = rules.ready(rule_or_family)
    family = rule_or_family.family if isinstance(rule_or_family, Rule) else rule_or_family
    temperature = None
    if isinstance(family, Family) and family.is_info_nce:
        temperature = family.temperature

    def rows(pairs: Pairs) -> dict[str, Array]:
        return _of_anchors(pairs, rule_or_family, temperature)

    # Stopped here: z is not all that may be differentiated, and pmax has no derivative.
    per_anchor = jax.lax.stop_gradient(
        map_anchors(rows, batch_pairs(z, z_pos, negatives, axis_name, labels), block_size)
    )

    def mean(name: str) -> Array:
        return reduce_anchors(per_anchor[name], "mean", axis_name)

    count = reduce_anchors(per_anchor["negatives"], "sum", axis_name)
    positive = mean("positive_distance")
    bound = {} if temperature is None else {"mutual_information_bound": mean("information")}
    return {
        **bound,
        "energy": reduce_anchors(per_anchor["energy"], "sum", axis_name),
        "positive_distance": positive,
        "negative_distance": reduce_anchors(per_anchor["negative_distance"], "sum", axis_name)
        / count,
        "perplexity": mean("perplexity"),
        "alignment": 2.0 * positive,
        "uniformity": _log_sum(per_anchor, axis_name) - jnp.log(count),
    }


def _of_anchors(
    pairs: Pairs, rule_or_family: Rule | Family, temperature: Scalar | None
) -> dict[str, Array]:
    """The measures anchor by anchor, each `[n]`, from which the scalars are reduced."""
    d_pos, d_neg, mask = pair_distances(pairs)
    alpha = rules.importance(rule_or_family, d_neg, d_pos, mask)
    total = jnp.sum(alpha, axis=1)
    share = alpha / jnp.where(total > 0, total, 1.0)[:, None]
    effective = jnp.exp(-jnp.sum(xlogy(share, share), axis=1))
    count = jnp.sum(mask, axis=1).astype(d_neg.dtype)
    bound = {}
    if temperature is not None:
        log_xi = masked_logsumexp((d_pos[:, None] - d_neg) / typed(temperature, d_neg), mask)
        information = jnp.log1p(count) - jax.nn.softplus(log_xi)
        bound = {"information": jnp.where(count > 0, information, 0.0).astype(d_neg.dtype)}
    return {
        **bound,
        "energy": 2.0 * jnp.sum(alpha * (d_neg - d_pos[:, None]), axis=1),
        # Of all anchors: a mask of negatives says nothing of the positives.
        "positive_distance": paired_squared_distances(pairs.anchors, pairs.positives),
        "negative_distance": jnp.sum(jnp.where(mask, d_neg, 0.0), axis=1),
        "negatives": count,
        "perplexity": jnp.where(total <= 0, 0.0, effective),  # NaN stays NaN
        "log_closeness": masked_logsumexp(-4.0 * d_neg, mask),
    }


def _log_sum(per_anchor: dict[str, Array], axis_name: AxisName) -> Array:
    """`log Σ_i exp(l_i)` over the anchors of all devices that have a negative."""
    values = jnp.where(per_anchor["negatives"] > 0, per_anchor["log_closeness"], -jnp.inf)
    highest = jnp.max(values)
    if axis_name is not None:
        highest = jax.lax.pmax(highest, axis_name)
    total = reduce_anchors(jnp.exp(values - highest), "sum", axis_name)
    return jnp.log(total) + highest
