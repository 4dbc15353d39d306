"""Samples with labels: which embeddings are of an anchor's class, and which of others.

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


class Grouped(NamedTuple):
    """Embeddings with their classes.

    Attributes:
      anchors: `[anchors, dim]`.
      classes: `[anchors]`, of the anchors: equal numbers are one class.
      column: `[anchors]`, which candidate an anchor is.
      candidates: `[candidates, dim]`, all embeddings of the batch.
      candidate_classes: `[candidates]`.
    """

    anchors: Array
    classes: Array
    column: Array
    candidates: Array
    candidate_classes: Array


# The losses of anchors `[anchors]`, and which of them count in a mean, from their distances to all
# candidates `[anchors, candidates]` and two masks of that shape: where a candidate is of the
# anchor's class (and not itself), and where it is of another one.
Rows = Callable[[Array, Array, Array], tuple[Array, Array]]


def grouped(z: Array, labels: Any, axis_name: AxisName = None) -> Grouped:
    """This device's embeddings as anchors, those of all devices as candidates.

    Args:
      z: `[n, dim]` or `[n, views, dim]`, floating.
      labels: `[n]`.
      axis_name: the axis over which the batch is spread, or None.

    Raises:
      AssertionError: from chex, for wrong ranks, shapes and types.
    """
    z = jnp.asarray(z)
    chex.assert_rank(
        z, {2, 3}, custom_message=f"z has shape {z.shape}; it must be [n, dim] or [n, views, dim]"
    )
    check_floating(z=z)
    labels = check_labels(labels, z.shape[0])
    views = z.shape[1] if z.ndim == 3 else 1
    anchors = z.reshape(-1, z.shape[-1])
    spread = axis_name is not None and jax.lax.axis_size(axis_name) > 1
    position = jax.lax.axis_index(axis_name) * z.shape[0] if spread else 0
    classes = jnp.repeat(classes_of(labels, position), views)
    column = position * views + jnp.arange(anchors.shape[0])
    if not spread:
        return Grouped(anchors, classes, column, anchors, classes)
    return Grouped(anchors, classes, column, *all_gather((anchors, classes), axis_name))


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
    own = {name: getattr(group, name) for name in ("anchors", "classes", "column")}

    def of_block(block: dict[str, Array]) -> tuple[Array, Array]:
        d = squared_distances(block["anchors"], group.candidates)
        return rows(d, *_masks(block["classes"], block["column"], group.candidate_classes))

    count = group.anchors.shape[0]
    size = resolve_block_size(block_size, count, group.candidates.shape[0])
    values, counted = map_blocks(of_block, own, size)
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
    return rows(d, *_masks(classes, jnp.arange(d.shape[0]), classes))[0]


def _masks(classes: Array, column: Array, candidate_classes: Array) -> tuple[Array, Array]:
    alike = classes[:, None] == candidate_classes[None, :]
    itself = column[:, None] == jnp.arange(candidate_classes.shape[0])[None, :]
    return alike & ~itself, ~alike
