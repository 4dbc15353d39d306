"""The losses that people call: a whole family by (φ, ψ), and α-CL by its rule for α."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax import rules
from alphacl_jax.blocks import map_anchors
from alphacl_jax.errors import shown
from alphacl_jax.explicit import left_to_compiler
from alphacl_jax.families import Family, anchor_losses
from alphacl_jax.layouts import Pairs, pair_distances
from alphacl_jax.parameters import in_range
from alphacl_jax.rules import Rule
from alphacl_jax.sharded import AxisName, batch_pairs, local_parameters, reduce_anchors
from alphacl_jax.sums import family_sums, rule_sums


@left_to_compiler(rows=lambda options: options.get("reduction") == "none")
def contrastive_loss(
    z: Array,
    z_pos: Array,
    family: Family,
    *,
    negatives: Any = "both_views",
    labels: Any = None,
    weights: Array | None = None,
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """A loss of the family, `L = Σ_i φ(Σ_{j≠i} ψ(d_i² − d_ij²))`, by default its mean over i.

    `d_i² = ½‖z_i − z_pos_i‖²` and `d_ij²` likewise to each negative: **half** squared distances,
    1 − cosine on the unit sphere. Embeddings are used as given; `l2_normalize` them first where
    the loss is to be one of directions.

    With `axis_name`, z and z_pos are this device's part of the batch, the negatives come from all
    devices, and the value is that of the whole batch on each device. Take the gradient *outside*
    `jax.shard_map`, `jax.pmap` or `jax.vmap`. Inside a map, for parameters that are the same on
    all devices (in `shard_map`: passed with `in_specs=P()`, not cast to varying),
    `pmean(grad(loss))` is right, since the loss is already the global one.

    Args:
      z: first views `[n, dim]`, floating.
      z_pos: second views `[n, dim]`.
      family: a loss of `alphacl_jax.families`, or a `Family` of one's own. Its parameters, the
        leaves of its pytree (temperatures, margins), may be traced and learned: the gradient by
        them is the derivative of the value. One that leaves its range while it is traced makes
        value and gradients NaN; `learned_temperature` keeps a temperature in range.
      negatives: which candidates are the negatives of an anchor:
        "both_views" (2n anchors concat([z, z_pos]), each with the 2n − 2 embeddings of the other
        samples: the NT-Xent layout), "same_view" (n anchors z_i, negatives z_j, j ≠ i),
        "cross_view" (anchors z_i, negatives z_pos_j, j ≠ i), an array `[m, dim]` of negatives
        shared by all anchors z_i and, with `axis_name`, by all devices, or a tuple of such an
        array and a boolean mask `[n, m]`, True at negatives. An anchor whose mask leaves no
        negative contributes 0.
      labels: `[n]` whole numbers: samples of one class are no negatives of each other ("distinct
        classes"). -1 means unknown: a negative of all others. The positive stays the sample's other
        view. An anchor that is left no negative contributes 0. None where nothing is known; not
        with negatives that are an array, whose mask says the same.
      weights: `[n]` >= 0, of the samples: each anchor's loss is multiplied by its sample's.
      reduction: "mean" over anchors (with weights, the weighted mean), "sum", or "none" for
        `[anchors]`.
      block_size: how many rows of pairs are held at a time; None for all, "auto" to choose by size
        and backend. The value is the same; memory is O(block_size · candidates), forward and
        backward, and the backward pass computes each block again, but of at most 8 blocks of at
        most 512 rows the distances are kept, 39 MB of float32. In blocks, "both_views" and
        "same_view" visit each pair once for both of its rows; forward-mode derivatives (`jax.jvp`)
        then need `block_size=None`.
      axis_name: the mapped axis (or axes) over which the batch is spread, or None.

    Returns:
      A scalar, or `[anchors]`; float32 (float64 for float64 input).

    Raises:
      AssertionError: from chex, for wrong ranks, shapes and types.
      ValueError: for n < 2, and an unknown `negatives`, `reduction` or `block_size`.
      TypeError: for a `family` that is no Family.

    Example:
      >>> import jax
      >>> import alphacl_jax as acl
      >>> z, z_pos = acl.l2_normalize(jax.random.normal(jax.random.key(0), (2, 8, 4)))
      >>> tau = 0.5
      >>> nt_xent = acl.contrastive_loss(z, z_pos, acl.families.info_nce(tau)) / tau
      >>> nt_xent.shape
      ()

    References:
      Tian, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization", 2022,
      Eqn. 1 and Tbl. 1.
    """
    if not isinstance(family, Family):
        got = f"{shown(family)}{rules.meant(family)}"
        raise TypeError(
            f"contrastive_loss expects a Family, got {got}; a rule for α goes to alpha_cl_loss"
        )
    family = local_parameters(in_range(family), z, axis_name)

    def rows(pairs: Pairs) -> Array:
        d_pos, d_neg, mask = pair_distances(pairs)
        return anchor_losses(family, d_pos[:, None] - d_neg, mask)

    pairs = batch_pairs(z, z_pos, negatives, axis_name, labels)
    values = map_anchors(rows, pairs, block_size, family_sums(family))
    return reduce_anchors(values, reduction, axis_name, weights)


@left_to_compiler(rows=lambda options: options.get("reduction") == "none")
def alpha_cl_loss(
    z: Array,
    z_pos: Array,
    rule: Rule,
    *,
    negatives: Any = "both_views",
    labels: Any = None,
    weights: Array | None = None,
    stop_gradient: bool = True,
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """α-CL: `Σ_j α_ij (d_i² − d_ij²)` of each anchor, by default its mean over anchors.

    That mean is `−½ E_α / #anchors` with the energy `E_α = tr C_α[z, z]`, so a descent step on it
    is the max player's ascent step on the energy, α being the min player's answer to z.

    Args:
      z: first views `[n, dim]`, floating; used as given.
      z_pos: second views `[n, dim]`.
      rule: how α follows from the distances, one of `alphacl_jax.rules`. Its parameters, the
        leaves of its pytree, may be traced, but are learned only with `stop_gradient=False`, where
        the gradient by them is the derivative through α. By default α is held, and `jax.grad` by
        a temperature of the rule is 0, as it is by a constant. One that leaves its range while it
        is traced makes the loss NaN.
      negatives: as in `contrastive_loss`.
      labels: as in `contrastive_loss`.
      weights: as in `contrastive_loss`.
      stop_gradient: whether α is held fixed in the gradient (the max player's step). False lets
        the gradient flow through α as well ("backprop α(θ)").
      reduction: as in `contrastive_loss`.
      block_size: as in `contrastive_loss`. Rules that solve an equation per row (inverse, square,
        regularized) and rules of a user's own work on blocks of whole rows in every layout.
      axis_name: as in `contrastive_loss`, with the same word on gradients.

    Returns:
      A scalar, or `[anchors]`; float32 (float64 for float64 input).

    Raises:
      As `contrastive_loss`; TypeError for a `rule` that is no Rule.

    Example:
      >>> import jax
      >>> import alphacl_jax as acl
      >>> z, z_pos = acl.l2_normalize(jax.random.normal(jax.random.key(0), (2, 8, 4)))
      >>> rule = acl.rules.direct(temperature=0.5, power=4)
      >>> jax.grad(acl.alpha_cl_loss)(z, z_pos, rule).shape
      (8, 4)

    References:
      Tian, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization", 2022.
    """
    if not isinstance(rule, Rule):
        got = f"{shown(rule)}{rules.meant(rule)}"
        raise TypeError(
            f"alpha_cl_loss expects a Rule, got {got}; wrap a loss in rules.from_family"
        )
    rule = local_parameters(in_range(rule), z, axis_name)

    def rows(pairs: Pairs) -> Array:
        d_pos, d_neg, mask = pair_distances(pairs)
        alpha = rules.importance(rule, d_neg, d_pos, mask)
        alpha = jax.lax.stop_gradient(alpha) if stop_gradient else alpha
        return jnp.sum(alpha * (d_pos[:, None] - d_neg), axis=1)

    pairs = batch_pairs(z, z_pos, negatives, axis_name, labels)
    values = map_anchors(rows, pairs, block_size, rule_sums(rule, stop_gradient))
    return reduce_anchors(values, reduction, axis_name, weights)


@left_to_compiler(rows=lambda options: True)
def pairwise_importance(
    z: Array,
    z_pos: Array,
    rule_or_family: Rule | Family,
    *,
    negatives: Any = "both_views",
    labels: Any = None,
    axis_name: AxisName = None,
) -> Array:
    """The pairwise importance α_ij, dense.

    Args:
      z: first views `[n, dim]`, floating; used as given.
      z_pos: second views `[n, dim]`.
      rule_or_family: a rule, or a loss whose `α_ij = φ'(ξ_i) ψ'(d_i² − d_ij²)`.
      negatives: as in `contrastive_loss`, which names the order of anchors and candidates.
      labels: as in `contrastive_loss`.
      axis_name: as in `contrastive_loss`.

    Returns:
      `[anchors, candidates]` (with `axis_name`: this device's anchors, all candidates), 0 where a
      candidate is no negative.

    Raises:
      As `contrastive_loss`.
    """
    chosen = rules.ready(rule_or_family)
    d_pos, d_neg, mask = pair_distances(batch_pairs(z, z_pos, negatives, axis_name, labels))
    return rules.importance(chosen, d_neg, d_pos, mask)
