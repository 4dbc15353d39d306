"""Which embeddings of a batch are an anchor's positives, and which its negatives.

Losses of labels are functions of an anchor's distances to all the other embeddings of the batch
and of which of these are of its class. Label -1 means that nobody knows: such an embedding is of no
other sample's class, and of its own only together with the other views of its sample.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.blocks import map_blocks, resolve_block_size
from alphacl_jax.distances import check_floating, squared_distances
from alphacl_jax.explicit import all_gather
from alphacl_jax.layouts import check_labels, classes_of
from alphacl_jax.sharded import AxisName, reduce_counted


class Anchors(NamedTuple):
    """What is known of each anchor, `[anchors, ...]`.

    Attributes:
      z: `[anchors, dim]`.
      column: `[anchors]`, which candidate it is.
      classes: `[anchors]`: equal numbers are one class; or None.
      positives: `[anchors, candidates]`, True at its positives; or None, where classes say it.
    """

    z: Array
    column: Array
    classes: Array | None
    positives: Array | None

    def masks(self, of_candidates: Array | None, count: int) -> tuple[Array, Array]:
        """Where a candidate is a positive, and where it is another one; the anchor is neither."""
        alike = self.positives
        if alike is None:
            assert self.classes is not None
            assert of_candidates is not None
            alike = self.classes[:, None] == of_candidates[None, :]
        itself = self.column[:, None] == jnp.arange(count)[None, :]
        return alike & ~itself, ~alike & ~itself


class Grouped(NamedTuple):
    """This device's anchors, and the candidates of all devices.

    Attributes:
      anchors: see `Anchors`.
      candidates: `[candidates, dim]`, all embeddings of the batch.
      classes: `[candidates]`, or None where a mask says what is positive.
    """

    anchors: Anchors
    candidates: Array
    classes: Array | None


# The losses of anchors `[anchors]`, and which of them count in a mean, from their distances to all
# candidates `[anchors, candidates]` and two masks of that shape: where a candidate is a positive,
# and where it is a negative. The anchor itself is neither.
Rows = Callable[[Array, Array, Array], tuple[Array, Array]]


def grouped(z: Array, labels: Any, axis_name: AxisName = None) -> Grouped:
    """Embeddings of which those of one class are positives of each other.

    Args:
      z: `[n, dim]` or `[n, views, dim]`, floating.
      labels: `[n]`.
      axis_name: the axis over which the batch is spread, or None.

    Raises:
      AssertionError: from chex, for wrong ranks, shapes and types.
      ValueError: for a batch of 0.
    """
    rows, views = _flat(z)
    labels = check_labels(labels, rows.shape[0] // views)
    position = _position(axis_name) * labels.shape[0]
    classes = jnp.repeat(classes_of(labels, position), views)
    column = position * views + jnp.arange(rows.shape[0])
    whole = (rows, classes)
    if is_spread(axis_name):
        whole = all_gather(whole, axis_name)
    return Grouped(Anchors(rows, column, classes, None), *whole)


def with_positives(z: Array, positives: Any, axis_name: AxisName = None) -> Grouped:
    """Embeddings of which a mask says what is positive.

    Args:
      z: `[m, dim]`, floating.
      positives: bool `[m, candidates]`.
      axis_name: as in `grouped`.

    Raises:
      AssertionError: from chex, for wrong ranks, shapes and types.
      ValueError: for a batch of 0.
    """
    z = _checked(z, {2}, "[m, dim]")
    candidates = all_gather(z, axis_name) if is_spread(axis_name) else z
    positives, want = jnp.asarray(positives), (z.shape[0], candidates.shape[0])
    shapes = f"positives has shape {positives.shape}, not [m, candidates] = {want}"
    chex.assert_shape(positives, want, custom_message=shapes)
    kind = f"positives has type {positives.dtype}, not bool: True at positives"
    chex.assert_type(positives, bool, custom_message=kind)
    column = _position(axis_name) * z.shape[0] + jnp.arange(z.shape[0])
    return Grouped(Anchors(z, column, None, positives), candidates, None)


def _flat(z: Array) -> tuple[Array, int]:
    """The rows `[n * views, dim]`, the views of a sample next to each other, and how many views."""
    z = _checked(z, {2, 3}, "[n, dim] or [n, views, dim]")
    return z.reshape(-1, z.shape[-1]), z.shape[1] if z.ndim == 3 else 1


def _checked(z: Array, ranks: set[int], wanted: str) -> Array:
    z = jnp.asarray(z)
    chex.assert_rank(z, ranks, custom_message=f"z has shape {z.shape}; it must be {wanted}")
    check_floating(z=z)
    if 0 in z.shape[:-1]:
        raise ValueError(f"z has shape {z.shape}; a loss needs an embedding to compare")
    return z


def is_spread(axis_name: AxisName) -> bool:
    return axis_name is not None and jax.lax.axis_size(axis_name) > 1


def _position(axis_name: AxisName) -> Array | int:
    return jax.lax.axis_index(axis_name) if is_spread(axis_name) else 0


def loss_of_rows(
    rows: Rows, group: Grouped, block_size: Any, reduction: str, axis_name: AxisName
) -> Array:
    """A loss of each anchor, all at once or in blocks of anchors, and its reduction.

    Args:
      rows: the loss.
      group: the embeddings.
      block_size: how many anchors are worked on at a time, as in `contrastive_loss`.
      reduction: "mean" over the anchors that count, "sum", or "none".
      axis_name: as in `grouped`.
    """
    anchors, candidates = group.anchors.z.shape[0], group.candidates.shape[0]

    def of_block(block: Anchors) -> tuple[Array, Array]:
        d = squared_distances(block.z, group.candidates)
        return rows(d, *block.masks(group.classes, candidates))

    size = resolve_block_size(block_size, anchors, candidates)
    values, counted = map_blocks(of_block, group.anchors, size)
    return reduce_counted(values, counted, reduction, axis_name)


def dense_rows(rows: Rows, d: Array, labels: Any) -> Array:
    """The same of distances that are there already: `[m, m]` and `[m]` -> `[m]`.

    Raises:
      AssertionError: from chex, for wrong ranks, shapes and types.
    """
    d = jnp.asarray(d)
    shapes = f"d has shape {d.shape}; it must be [m, m]"
    chex.assert_rank(d, 2, custom_message=shapes)
    chex.assert_shape(d, (d.shape[0], d.shape[0]), custom_message=shapes)
    check_floating(d=d)
    classes = classes_of(check_labels(labels, d.shape[0]))
    every = Anchors(d, jnp.arange(d.shape[0]), classes, None)
    return rows(d, *every.masks(classes, d.shape[0]))[0]
