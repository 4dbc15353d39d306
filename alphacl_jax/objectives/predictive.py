"""Predictions of embeddings to come, each told from others by its product with them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.blocks import map_blocks, resolve_block_size
from alphacl_jax.distances import compute_dtype, precise_matmul
from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.explicit import all_gather, left_to_compiler
from alphacl_jax.layouts import check_labels, check_views, classes_of
from alphacl_jax.objectives.classes import is_spread
from alphacl_jax.objectives.pairs import told_apart
from alphacl_jax.ranges import POSITIVE, Scalar, in_its_range
from alphacl_jax.sharded import AxisName, reduce_counted

# Which rows are negatives of a row: by what they are told, and whether they are to be of its own
# (its recording, its group) or of another.
NEGATIVES: dict[str, dict[str, bool]] = {
    "mixed": {},
    "mixed_excluded": {"recordings": False},
    "same": {"groups": True},
    "same_excluded": {"groups": True, "recordings": False},
    "current": {"recordings": True},
}


def _by_rows(options: Any) -> bool:
    return bool(options.get("reduction") == "none")


@left_to_compiler(rows=_by_rows)
def predictive_loss(
    prediction: Array,
    z: Array,
    temperature: Scalar = 1.0,
    *,
    negatives: str = "mixed",
    recordings: Any = None,
    groups: Any = None,
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """CPC's InfoNCE of one step ahead: what was predicted, picked out from other moments.

        −log( e^{⟨p_i, z_i⟩/τ} / Σ_{j ∈ {i} ∪ N(i)} e^{⟨p_i, z_j⟩/τ} )

    with `p_i = W_k c_t` and `z_i = z_{t+k}` of one moment t and one k. The positive is in the
    denominator, as in InfoNCE at ε = 1, but of products: norms are part of the temperature. Log of
    how many candidates there are, less the loss, is a lower bound on the information that context
    and moment share, where negatives are drawn from all.

    Args:
      prediction: p `[n, dim]`, floating: of moments of any number of recordings, in any order.
      z: z `[n, dim]`, in each row the embedding that the same row of `prediction` is of.
      temperature: τ > 0; traced where it is learned.
      negatives: which other rows are N(i): "mixed" (all), "mixed_excluded" (of other recordings),
        "same" (of the row's group), "same_excluded" (of its group, and of other recordings) or
        "current" (of its recording).
      recordings: `[n]` whole numbers, equal within a recording; -1 where unknown: one of its own.
        Read by the policies that ask for it.
      groups: `[n]` likewise, such as the speaker.
      reduction: "mean" over rows that have a negative, "sum", or "none" for `[n]`. A row without
        negatives contributes 0.
      block_size: how many rows are compared with all others at a time, as in `contrastive_loss`.
      axis_name: as in `contrastive_loss`; a recording has the same number on all devices.

    Returns:
      A scalar, or `[n]`; float32 (float64 for float64 input).

    Raises:
      AssertionError: from chex, for wrong ranks, shapes and types.
      ValueError: without rows, for a temperature that is not above 0, a policy without what it is
        told by, and unknown negatives, reduction or block_size.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from alphacl_jax import objectives
      >>> prediction, z = jax.random.normal(jax.random.key(0), (2, 6, 4))
      >>> of = {"negatives": "current", "recordings": jnp.array([0, 0, 0, 1, 1, 1])}
      >>> objectives.predictive_loss(prediction, z, **of).shape
      ()

    References:
      van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding",
      2018, Eqn. 4 and Tbl. 2 (the policies).
    """
    labels = {"recordings": recordings, "groups": groups}
    given = _given(prediction, z, negatives, labels, axis_name)
    found = predictive_values(*given, temperature, block_size)
    return reduce_counted(*found, reduction, axis_name)


@left_to_compiler(rows=_by_rows)
def predictive_accuracy(
    prediction: Array,
    z: Array,
    temperature: Scalar = 1.0,
    *,
    negatives: str = "mixed",
    recordings: Any = None,
    groups: Any = None,
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """How often the positive has the highest score of all candidates; a tie is no hit.

    Arguments, shapes and errors as in `predictive_loss`, so that both take the same ones; the
    temperature changes no order. With "none" a row is 1 or 0, and 0 without negatives.
    """
    in_its_range("temperature", temperature, POSITIVE)
    labels = {"recordings": recordings, "groups": groups}
    given = _given(prediction, z, negatives, labels, axis_name)
    found = predictive_hits(*given, block_size)
    return reduce_counted(*found, reduction, axis_name)


def predictive_values(
    prediction: Array,
    own: Array,
    others: Array,
    told: "Told",
    temperature: Scalar,
    block_size: int | str | None,
) -> tuple[Array, Array]:
    """`predictive_loss` of each row, and which rows have a negative, with no word to other devices.

    Args:
      prediction: `[n, dim]`, this device's.
      own: z `[n, dim]`, this device's.
      others: z `[m, dim]`, of all devices.
      told: which of them are negatives of which rows.
      temperature, block_size: as in `predictive_loss`.
    """
    temperature = in_its_range("temperature", temperature, POSITIVE)

    def values(p: Array, own: Array, others: Array, masks: Masks) -> Array:
        return told_apart(p, own, others, masks.negatives, temperature)

    return _by_row(values, prediction, own, others, told, block_size)


def predictive_hits(
    prediction: Array, own: Array, others: Array, told: "Told", block_size: int | str | None
) -> tuple[Array, Array]:
    """`predictive_accuracy` of each row; arguments as of `predictive_values`."""

    def hits(p: Array, own: Array, others: Array, masks: Masks) -> Array:
        # The positive's score from the same product, so that equal embeddings tie.
        scores = precise_matmul(p, others.T)
        positive, highest = (
            jnp.max(jnp.where(mask, scores, -jnp.inf), axis=1)
            for mask in (masks.itself, masks.negatives)
        )
        counts = jnp.any(masks.negatives, axis=1)
        return (counts & (positive > highest)).astype(scores.dtype)

    return _by_row(hits, prediction, own, others, told, block_size)


class Masks(NamedTuple):
    """Which candidates are a row's positive and its negatives: each `[rows, candidates]`."""

    itself: Array
    negatives: Array


class Told(NamedTuple):
    """By what the negatives of this device's rows are told.

    Attributes:
      alike: by name, whether a negative is of the row's own class, or of another.
      classes: by name `[n]`, of this device's rows.
      of_others: by name `[m]`, of the rows of all devices.
      column: `[n]`, which of those this device's are.
    """

    alike: dict[str, bool]
    classes: dict[str, Array]
    of_others: dict[str, Array]
    column: Array


def tell(negatives: str, labels: dict[str, Any], rows: int, axis_name: AxisName) -> Told:
    """What a policy tells negatives by.

    Args:
      negatives: as in `predictive_loss`.
      labels: "recordings" and "groups" `[n]`, None where there are none.
      rows: n, on this device.
      axis_name: as in `predictive_loss`.

    Raises:
      ValueError: for an unknown policy, and labels that it asks for and are not there.
    """
    if negatives not in NEGATIVES:
        problem = f"is unknown; it must be one of {', '.join(NEGATIVES)}"
        raise ArgumentError("negatives", shown(negatives), problem)
    alike, spread = NEGATIVES[negatives], is_spread(axis_name)
    position = jax.lax.axis_index(axis_name) * rows if spread else 0
    classes = {
        name: classes_of(_needed(name, labels[name], negatives, rows), position) for name in alike
    }
    everywhere = all_gather(classes, axis_name) if spread and classes else classes
    return Told(alike, classes, everywhere, position + jnp.arange(rows))


def _needed(name: str, labels: Any, negatives: str, rows: int) -> Array:
    if labels is None:
        problem = f"is what negatives={negatives!r} are told by; give [n] whole numbers"
        raise ArgumentError(name, None, problem)
    return check_labels(labels, rows, name)


def _given(
    prediction: Array, z: Array, negatives: str, labels: dict[str, Any], axis_name: AxisName
) -> tuple[Array, Array, Array, Told]:
    """The first arguments of `predictive_values`."""
    prediction, z = check_views(prediction, z, ("prediction", "z"))
    if z.shape[0] == 0:
        raise ValueError(f"z has shape {z.shape}; a loss needs an embedding to predict")
    told = tell(negatives, labels, z.shape[0], axis_name)
    z = z.astype(compute_dtype(z))
    others = all_gather(z, axis_name) if is_spread(axis_name) else z
    return prediction.astype(z.dtype), z, others, told


class Row(NamedTuple):
    """What is known of each row, `[rows, ...]`: its column is that of its own z."""

    prediction: Array
    own: Array
    column: Array
    classes: dict[str, Array]

    def masks(self, told: Told, candidates: int) -> Masks:
        itself = self.column[:, None] == jnp.arange(candidates)[None, :]
        mask = ~itself
        for name, alike in told.alike.items():
            same = self.classes[name][:, None] == told.of_others[name][None, :]
            mask &= same if alike else ~same
        return Masks(itself, mask)


def _by_row(
    function: Callable[[Array, Array, Array, Masks], Array],
    prediction: Array,
    own: Array,
    others: Array,
    told: Told,
    block_size: Any,
) -> tuple[Array, Array]:
    """A function of each row, its own z, all z and its masks; and which rows have a negative."""

    def of_block(block: Row) -> tuple[Array, Array]:
        masks = block.masks(told, others.shape[0])
        values = function(block.prediction, block.own, others, masks)
        return values, jnp.any(masks.negatives, axis=1)

    size = resolve_block_size(block_size, own.shape[0], others.shape[0])
    return map_blocks(of_block, Row(prediction, own, told.column, told.classes), size)
