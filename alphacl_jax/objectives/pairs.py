"""Losses of two arrays of embeddings, row by row: N-pairs, two towers, regression on a target."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax import families
from alphacl_jax.blocks import map_anchors
from alphacl_jax.distances import (
    compute_dtype,
    l2_normalize,
    masked_logsumexp,
    precise_matmul,
)
from alphacl_jax.explicit import left_to_compiler
from alphacl_jax.layouts import Pairs, check_views, negative_mask
from alphacl_jax.losses import contrastive_loss
from alphacl_jax.parameters import typed
from alphacl_jax.ranges import POSITIVE, Scalar, in_its_range
from alphacl_jax.sharded import AxisName, batch_pairs, reduce_anchors


def _by_rows(options: Any) -> bool:
    return bool(options.get("reduction") == "none")


@left_to_compiler(rows=_by_rows)
def regression_loss(
    prediction: Array,
    target: Array,
    *,
    stop_gradient: bool = True,
    reduction: str = "mean",
    axis_name: AxisName = None,
) -> Array:
    """`2 − 2 cos(p_i, t_i)`, the target held fixed: BYOL's loss of one view, by default its mean.

    That is ‖p/‖p‖ − t/‖t‖‖², so as a loss of distances its α is −2 between a row and its target and
    0 elsewhere: there are no negatives. BYOL and SimSiam add the same with the views swapped.
    SimSiam's −cos is half of it, less 1.

    Args:
      prediction: p `[n, dim]`, floating; normalised here.
      target: t `[n, dim]`, of the other view; normalised here.
      stop_gradient: whether t is held fixed; without it both sides are drawn together, which
        collapses where nothing else is in the way.
      reduction: "mean" over rows, "sum", or "none" for `[n]`.
      axis_name: as in `contrastive_loss`.

    Returns:
      A scalar, or `[n]`, in [0, 4]; float32 (float64 for float64 input).

    Raises:
      AssertionError: from chex, for wrong ranks, shapes and types.
      ValueError: for an unknown reduction.

    References:
      Grill et al., "Bootstrap Your Own Latent", 2020; Chen and He, "Exploring Simple Siamese
      Representation Learning", 2021.
    """
    p, t = check_views(prediction, jax.lax.stop_gradient(target) if stop_gradient else target)
    dtype = compute_dtype(p)
    p, t = (l2_normalize(each.astype(dtype)) for each in (p, t))
    return reduce_anchors(2.0 - 2.0 * jnp.sum(p * t, axis=1), reduction, axis_name)


def clip_loss(
    z_image: Array,
    z_text: Array,
    temperature: Scalar,
    *,
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """Two towers, each sample's embeddings told from those of all others, both ways round.

        ½ ( −log softmax_j(⟨x_i, y_j⟩/τ)_i − log softmax_j(⟨y_i, x_j⟩/τ)_i )

    on the unit sphere; in general with −d_ij for the products. This is InfoNCE with ε = 1 of each
    tower against the other, divided by τ, as published.

    Args:
      z_image: x `[n, dim]`, floating; used as given: `l2_normalize` it first.
      z_text: y `[n, dim]`.
      temperature: τ > 0; traced where it is learned (`learned_temperature`).
      reduction: "mean" over samples, "sum", or "none" for `[n]`.
      block_size: as in `contrastive_loss`.
      axis_name: as in `contrastive_loss`.

    Returns:
      A scalar, or `[n]`; float32 (float64 for float64 input).

    Raises:
      As `contrastive_loss`.

    References:
      Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.
    """
    family = families.info_nce(temperature)
    options: dict[str, Any] = {
        "negatives": "cross_view",
        "reduction": reduction,
        "block_size": block_size,
        "axis_name": axis_name,
    }
    both = contrastive_loss(z_image, z_text, family, **options)
    both += contrastive_loss(z_text, z_image, family, **options)
    return both / (2.0 * in_its_range("temperature", temperature, POSITIVE))


@left_to_compiler(rows=_by_rows)
def n_pair_loss(
    z: Array,
    z_pos: Array,
    labels: Any = None,
    *,
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """N-pairs: each embedding's partner told from the partners of the others, by products.

        log(1 + Σ_n e^{⟨z_i, z'_n⟩ − ⟨z_i, z'_i⟩})

    over the partners z'_n of samples of other classes; a batch is made of one pair a class. These
    are products of embeddings as given, whose norms are the temperature: no loss of distances,
    unless all norms are equal.

    Args:
      z: z `[n, dim]`, floating.
      z_pos: z' `[n, dim]`, another sample of the same class in each row.
      labels: `[n]` whole numbers, equal within a class, -1 where unknown; None where each row is of
        a class of its own.
      reduction: "mean" over rows, "sum", or "none" for `[n]`. A row that no other class is beside
        contributes 0.
      block_size: how many rows are compared with all partners at a time, as in `contrastive_loss`.
      axis_name: as in `contrastive_loss`.

    Returns:
      A scalar, or `[n]`; float32 (float64 for float64 input).

    Raises:
      AssertionError: from chex, for wrong ranks, shapes and types.
      ValueError: for n < 2, and an unknown reduction or block_size.

    References:
      Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", 2016.
    """
    pairs = batch_pairs(z, z_pos, "cross_view", axis_name, labels)

    def rows(pairs: Pairs) -> Array:
        dtype = compute_dtype(pairs.anchors)
        x, own, others = (
            a.astype(dtype) for a in (pairs.anchors, pairs.positives, pairs.candidates)
        )
        return told_apart(x, own, others, negative_mask(pairs))

    return reduce_anchors(map_anchors(rows, pairs, block_size), reduction, axis_name)


def told_apart(
    x: Array, own: Array, others: Array, mask: Array, temperature: Scalar = 1.0
) -> Array:
    """`log(1 + Σ_j e^{(⟨x_i, y_j⟩ − ⟨x_i, own_i⟩)/τ})` over the negatives y_j of each row.

    That is the cross-entropy of its own among these and itself.

    Args:
      x: `[rows, dim]`.
      own: `[rows, dim]`.
      others: y `[candidates, dim]`.
      mask: True at negatives, `[rows, candidates]`.
      temperature: τ > 0.

    Returns:
      `[rows]`, 0 for a row without negatives.
    """
    behind = precise_matmul(x, others.T) - jnp.sum(x * own, axis=1, keepdims=True)
    values = jax.nn.softplus(masked_logsumexp(behind / typed(temperature, behind), mask))
    return jnp.where(jnp.any(mask, axis=1), values, 0.0)
