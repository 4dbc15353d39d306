"""The same mathematics where the batch is spread over devices."""

from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax import ring
from alphacl_jax.distances import varying_like
from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.explicit import all_gather
from alphacl_jax.layouts import Pairs, check_labels, check_views, make_pairs

AxisName = str | tuple[str, ...] | None

T = TypeVar("T")

REDUCTIONS = ("mean", "sum", "none")


def batch_pairs(
    z: Array, z_pos: Array, negatives: Any, axis_name: AxisName, labels: Any = None
) -> Pairs:
    """This device's anchors against the candidates of all devices.

    Explicit negatives are taken as the whole set, the same on each device.
    """
    spread = axis_name is not None and jax.lax.axis_size(axis_name) > 1
    if not spread or not isinstance(negatives, str):
        return make_pairs(z, z_pos, negatives, labels=labels)
    z, z_pos = check_views(z, z_pos)
    batch = all_gather((z, z_pos), axis_name)
    offset = jax.lax.axis_index(axis_name) * z.shape[0]
    of_batch = None
    if labels is not None:
        labels = check_labels(labels, z.shape[0])
        of_batch = all_gather(labels, axis_name)
    pairs = make_pairs(
        z, z_pos, negatives, labels=labels, batch=batch, batch_labels=of_batch, offset=offset
    )
    if jax.lax.axis_size(axis_name) > ring.MOST_DEVICES:
        return pairs._replace(views=None)
    return pairs._replace(axis_name=axis_name)


def local_parameters(parameters: T, z: Array, axis_name: AxisName) -> T:
    """Traced parameters, whose gradients are summed over devices once, and not at each use.

    Args:
      parameters: a tree, such as a family.
      z: this device's part of the batch.
      axis_name: the axis over which it is spread, or None.
    """
    if axis_name is None:
        return parameters

    def local(leaf: Any) -> Any:
        return varying_like(leaf, z) if isinstance(leaf, jax.core.Tracer) else leaf

    return jax.tree.map(local, parameters)


def reduce_anchors(
    values: Array, reduction: str, axis_name: AxisName = None, weights: Any = None
) -> Array:
    """The mean or the sum over the anchors of all devices, or the local anchors' values.

    Args:
      values: `[anchors]`.
      reduction: "mean", "sum" or "none".
      axis_name: the axis over which anchors are spread, or None.
      weights: `[n]`, of the samples, or None. The mean is the weighted one, 0 where all are 0.

    Raises:
      AssertionError: from chex, for weights of another shape.
      ValueError: for an unknown reduction.
    """
    if weights is not None:
        each = _anchor_weights(weights, values)
        if reduction != "mean":
            return reduce_anchors(each * values, reduction, axis_name)
        total, weight = (reduce_anchors(x, "sum", axis_name) for x in (each * values, each))
        return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1.0), 0.0)
    if reduction not in REDUCTIONS:
        problem = f"is unknown; use one of {', '.join(REDUCTIONS)}"
        raise ArgumentError("reduction", shown(reduction), problem)
    if reduction == "none":
        return values
    total = jnp.sum(values) if reduction == "sum" else jnp.mean(values)
    if axis_name is None:
        return total
    return (jax.lax.psum if reduction == "sum" else jax.lax.pmean)(total, axis_name)


def _anchor_weights(weights: Any, values: Array) -> Array:
    """The weights of samples for their anchors, which are all first views, then all second."""
    weights, anchors = jnp.asarray(weights), values.shape[0]
    shapes = f"weights has shape {weights.shape}, not [n] of a batch with {anchors} anchors"
    chex.assert_rank(weights, 1, custom_message=shapes)
    views = max(1, anchors // max(1, weights.shape[0]))
    chex.assert_shape(jnp.tile(weights, views), values.shape, custom_message=shapes)
    return jnp.tile(weights.astype(values.dtype), views)


def reduce_counted(
    values: Array, counted: Array, reduction: str, axis_name: AxisName = None
) -> Array:
    """As `reduce_anchors`, with the mean over the anchors that count; 0 where none does.

    Args:
      values: `[anchors]`, 0 where an anchor does not count.
      counted: `[anchors]`, bool.
      reduction: "mean", "sum" or "none".
      axis_name: the axis over which anchors are spread, or None.

    Raises:
      ValueError: for an unknown reduction.
    """
    if reduction != "mean":
        return reduce_anchors(values, reduction, axis_name)
    total = reduce_anchors(values, "sum", axis_name)
    count = reduce_anchors(counted.astype(values.dtype), "sum", axis_name)
    return total / jnp.maximum(count, 1.0)
