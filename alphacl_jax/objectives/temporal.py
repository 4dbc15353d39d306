"""InfoNCE of moments in time, with negatives drawn apart and the positive not among them."""

import math
from numbers import Integral
from typing import Any

import chex
import jax.numpy as jnp
from jax import Array

from alphacl_jax import families
from alphacl_jax.distances import check_floating, compute_dtype, l2_normalize
from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.explicit import all_gather, left_to_compiler
from alphacl_jax.layouts import check_views
from alphacl_jax.losses import contrastive_loss
from alphacl_jax.objectives.classes import is_spread
from alphacl_jax.parameters import typed
from alphacl_jax.ranges import POSITIVE, Scalar, in_its_range
from alphacl_jax.sharded import AxisName

SIMILARITIES = ("cosine", "euclidean")


def _by_rows(options: Any) -> bool:
    return bool(options.get("reduction") == "none")


@left_to_compiler(rows=_by_rows)
def temporal_loss(
    reference: Array,
    positive: Array,
    negative: Array,
    temperature: Scalar,
    *,
    similarity: str = "cosine",
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """InfoNCE of references, each with its positive, and of negatives that all of them share.

        −φ(r_i, p_i) + log Σ_j e^{φ(r_i, n_j)},   φ(r, y) = cos(r, y)/τ  or  −‖r − y‖²/τ

    The positive is not in the denominator: this is InfoNCE at ε = 0 with explicit negatives,
    divided by its temperature, which is τ on the sphere, and τ/2 for whole squared distances,
    since d is half of one. So the loss can fall below 0.

    A positive is a moment near in time, or one of similar behaviour. The behavioural method is the
    subject of US patent 12,499,131 (2025), of which users must judge for themselves; contrast over
    time is older.

    Args:
      reference: r `[n, dim]`, floating; with "cosine" normalised here, all three of them.
      positive: p `[n, dim]`.
      negative: y `[m, dim]`, drawn once for all references. With `axis_name` this device's part
        of them; each reference has those of all devices.
      temperature: τ > 0; traced where it is learned (`learned_temperature`).
      similarity: "cosine", or "euclidean" for squared distances of embeddings as given.
      reduction: "mean" over references, "sum", or "none" for `[n]`.
      block_size: how many references are compared with all negatives at a time, as in
        `contrastive_loss`.
      axis_name: as in `contrastive_loss`.

    Returns:
      A scalar, or `[n]`; float32 (float64 for float64 input). An embedding of norm 0 counts as at
      cosine ½ to all that are not.

    Raises:
      AssertionError: from chex, for wrong ranks, shapes and types.
      ValueError: without references or negatives, for a temperature that is not above 0, and an
        unknown similarity, reduction or block_size.

    Example:
      >>> import jax
      >>> from alphacl_jax import objectives
      >>> reference, positive, negative = jax.random.normal(jax.random.key(0), (3, 8, 4))
      >>> loss = objectives.temporal_loss(reference, positive, negative, temperature=0.5)
      >>> objectives.goodness_of_fit(loss, negatives=8).shape
      ()

    References:
      Schneider, Lee and Mathis, "Learnable latent embeddings for joint behavioural and neural
      analysis", 2023.
    """
    if similarity not in SIMILARITIES:
        problem = f"must be one of {', '.join(SIMILARITIES)}"
        raise ArgumentError("similarity", shown(similarity), problem)
    temperature = in_its_range("temperature", temperature, POSITIVE)
    r, p = check_views(reference, positive, ("reference", "positive"))
    y = _checked_negatives(negative, r)
    if similarity == "cosine":
        r, p, y = (l2_normalize(each.astype(compute_dtype(each))) for each in (r, p, y))
    else:
        temperature = temperature / 2
    if is_spread(axis_name):
        y = all_gather(y, axis_name)
    options: dict[str, Any] = {
        "negatives": y,
        "reduction": reduction,
        "block_size": block_size,
        "axis_name": axis_name,
    }
    loss = contrastive_loss(r, p, families.info_nce(temperature, eps=0.0), **options)
    return loss / typed(temperature, loss)


def _checked_negatives(negative: Any, reference: Array) -> Array:
    negative = jnp.asarray(negative)
    found = f"reference has shape {reference.shape}, negative has shape {negative.shape}"
    wanted = f"{found}; negative must be [m, {reference.shape[1]}]"
    chex.assert_rank(negative, 2, custom_message=wanted)
    chex.assert_equal_shape_suffix([reference, negative], 1, custom_message=wanted)
    check_floating(negative=negative)
    if 0 in (reference.shape[0], negative.shape[0]):
        raise ValueError(f"{found}; the loss needs a reference and a negative")
    return negative


def goodness_of_fit(loss: Any, negatives: int) -> Array:
    """How far `temporal_loss` is below that of embeddings that tell nothing, in bits.

        log₂(m) − L / ln 2

    A bound on the information that reference and positive share, less than log₂(m) where the
    embedding cannot tell them from others; 0 where all similarities are equal. Unlike the loss it
    can be compared between numbers of negatives.

    Args:
      loss: L, the mean loss, of any shape.
      negatives: m, how many negatives a reference had, on all devices together.

    Returns:
      Of the loss's shape.

    Raises:
      ValueError: for negatives that are no whole number >= 1.
    """
    whole = isinstance(negatives, Integral) and not isinstance(negatives, bool)
    if not whole or negatives < 1:
        raise ArgumentError("negatives", shown(negatives), "must be a whole number >= 1")
    return math.log2(negatives) - jnp.asarray(loss) / math.log(2)
