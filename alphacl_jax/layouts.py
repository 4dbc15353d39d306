"""Which embeddings are anchors, positives and negatives."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import (
    at_negatives,
    check_floating,
    paired_squared_distances,
    squared_distances,
)
from alphacl_jax.errors import ArgumentError, shown


class Layout(NamedTuple):
    """Which views of a sample are anchors, and which are candidates: 0 is z, 1 is z_pos."""

    anchors: tuple[int, ...]
    candidates: tuple[int, ...]


LAYOUTS = {
    "both_views": Layout(anchors=(0, 1), candidates=(0, 1)),
    "same_view": Layout(anchors=(0,), candidates=(0,)),
    "cross_view": Layout(anchors=(0,), candidates=(1,)),
}


class Pairs(NamedTuple):
    """Which embeddings are compared with which.

    Attributes:
      anchors: `[anchors, dim]`.
      positives: `[anchors, dim]`, the other view of each anchor.
      candidates: `[candidates, dim]`, among which each anchor has its negatives.
      excluded: `[anchors, k]`, the columns of `candidates` that are no negatives of an anchor
        (itself, and its positive).
      mask: `[anchors, candidates]`, False where a candidate is no negative, or None.
      classes: `[anchors]` and `[candidates]`: those of one class are no negatives of each other; or
        None.
      views: how many anchors each sample has, where the anchors are all the candidates, first all
        samples' first views; None where they are not, or where rows are to meet all of them.
      axis_name: the axis over whose devices, at least two, the anchors are spread, where it is
        those of all devices that are the candidates; or None.
    """

    anchors: Array
    positives: Array
    candidates: Array
    excluded: Array
    mask: Array | None = None
    classes: tuple[Array, Array] | None = None
    views: int | None = None
    axis_name: Any = None


def check_views(
    z: Array, z_pos: Array, names: tuple[str, str] = ("z", "z_pos")
) -> tuple[Array, Array]:
    """Both views as arrays, after checking that they are two floating `[batch, dim]` alike."""
    z, z_pos = jnp.asarray(z), jnp.asarray(z_pos)
    found = " ".join(f"{n} has shape {a.shape}," for n, a in zip(names, (z, z_pos), strict=True))
    shapes = f"{found[:-1]}; both must be [batch, dim]"
    chex.assert_rank([z, z_pos], 2, custom_message=shapes)
    chex.assert_equal_shape([z, z_pos], custom_message=shapes)
    check_floating(**dict(zip(names, (z, z_pos), strict=True)))
    # Views of two types: the wider one, also where JAX promotes nothing by itself.
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.promote_types(z.dtype, z_pos.dtype)
    return z.astype(dtype), z_pos.astype(dtype)


def make_pairs(
    z: Array,
    z_pos: Array,
    negatives: Any,
    *,
    labels: Any = None,
    batch: tuple[Array, Array] | None = None,
    batch_labels: Array | None = None,
    offset: Array | int = 0,
) -> Pairs:
    """Lays out anchors, positives and candidates.

    Args:
      z: first views `[n, dim]`.
      z_pos: second views `[n, dim]`.
      negatives: `"both_views"` (anchors = candidates = both views, negatives = all embeddings of
        the other samples), `"same_view"` (anchors z_i, negatives z_j, j ≠ i), `"cross_view"`
        (anchors z_i, negatives z_pos_j, j ≠ i), an array `[m, dim]` of negatives shared by all
        anchors z_i, or a tuple of such an array and a mask `[n, m]`, True at negatives.
      labels: `[n]` whole numbers, equal within a class, whose samples are no negatives of each
        other; -1 where unknown. None where nothing is known.
      batch: both views of the whole batch, where z and z_pos are one device's part of it.
      batch_labels: of the whole batch.
      offset: the position of this part's first sample in the batch.

    Raises:
      AssertionError: from chex, for wrong ranks and shapes.
      ValueError: for an unknown layout, or a batch that leaves an anchor without a negative.
    """
    local = check_views(z, z_pos)
    if not isinstance(negatives, str):
        if labels is not None:
            problem = "say nothing of negatives that are given: leave out by a mask, (array, mask)"
            raise ArgumentError("labels", shown(labels), problem)
        return _explicit_pairs(*local, negatives)
    if negatives not in LAYOUTS:
        raise _unknown(negatives)
    layout = LAYOUTS[negatives]
    whole = local if batch is None else batch
    total = whole[0].shape[0]
    # An exported program may leave the size open; then there is no number to check.
    if isinstance(total, int) and total < 2:
        raise ValueError(
            f"a batch of {total} has no negatives; negatives={negatives!r} needs n >= 2 samples"
        )
    index = (offset + jnp.arange(local[0].shape[0]))[:, None]
    sample = [index + k * total for k in range(len(layout.candidates))]
    alike = layout.anchors == layout.candidates
    classes = None
    if labels is not None:
        own = classes_of(check_labels(labels, local[0].shape[0]), offset)
        of_batch = own if batch_labels is None else classes_of(batch_labels)
        classes = _stack([own] * len(layout.anchors)), _stack([of_batch] * len(layout.candidates))
    return Pairs(
        anchors=_stack([local[view] for view in layout.anchors]),
        positives=_stack([local[1 - view] for view in layout.anchors]),
        candidates=_stack([whole[view] for view in layout.candidates]),
        excluded=_stack([jnp.concatenate(sample, axis=1)] * len(layout.anchors)),
        classes=classes,
        views=len(layout.anchors) if alike else None,
    )


def check_labels(labels: Any, samples: int, name: str = "labels") -> Array:
    """Labels as an array, after checking that they are whole numbers, one for each sample.

    Raises:
      AssertionError: from chex.
    """
    labels = jnp.asarray(labels)
    shapes = f"{name} has shape {labels.shape}, not [n] = ({samples},)"
    chex.assert_shape(labels, (samples,), custom_message=shapes)
    kind = f"{name} has type {labels.dtype}; they must be whole numbers, -1 where unknown"
    chex.assert_type(labels, int, custom_message=kind)
    return labels


def classes_of(labels: Array, offset: Array | int = 0) -> Array:
    """A class for each sample: its label, or where that is unknown one that no other sample has.

    Args:
      labels: `[n]`, -1 (or any number below 0) where unknown.
      offset: the position of the first sample in the batch of all devices.
    """
    wide = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))
    position = (offset + jnp.arange(labels.shape[0])).astype(wide.dtype)
    return jnp.where(labels < 0, -1 - position, wide)


def _stack(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def _unknown(negatives: Any) -> ArgumentError:
    problem = (
        f"is unknown; it must be one of {', '.join(LAYOUTS)}, an array [m, dim], or a tuple of "
        "such an array and a mask [anchors, m]"
    )
    return ArgumentError("negatives", shown(negatives), problem)


def _explicit_pairs(z: Array, z_pos: Array, negatives: Any) -> Pairs:
    given = negatives if isinstance(negatives, tuple) else (negatives, None)
    if len(given) != 2 or not hasattr(given[0], "shape") or isinstance(given[1], str):
        raise _unknown(negatives)
    array, mask = jnp.asarray(given[0]), given[1]
    shapes = f"z has shape {z.shape}, negatives has shape {array.shape}, not [m, {z.shape[1]}]"
    chex.assert_rank(array, 2, custom_message=shapes)
    chex.assert_equal_shape_suffix([z, array], 1, custom_message=shapes)
    check_floating(negatives=array)
    if array.shape[0] < 1:
        raise ValueError("negatives is an empty array: each anchor needs a negative")
    if mask is not None:
        mask = jnp.asarray(mask)
        want = (z.shape[0], array.shape[0])
        chex.assert_shape(
            mask, want, custom_message=f"the mask has shape {mask.shape}, not [anchors, m] = {want}"
        )
        kind = f"the mask has type {mask.dtype}, not bool: True at negatives"
        chex.assert_type(mask, bool, custom_message=kind)
    none_excluded = jnp.zeros((z.shape[0], 0), dtype=jnp.int32)
    return Pairs(z, z_pos, array, none_excluded, mask)


def negative_mask(pairs: Pairs) -> Array:
    """True where a candidate is a negative of an anchor: `[anchors, candidates]`."""
    shape = (pairs.anchors.shape[0], pairs.candidates.shape[0])
    mask = jnp.ones(shape, dtype=bool) if pairs.mask is None else pairs.mask
    columns = jnp.arange(shape[1])[None, :]
    for k in range(pairs.excluded.shape[1]):
        mask &= columns != pairs.excluded[:, k : k + 1]
    if pairs.classes is not None:
        own, others = pairs.classes
        mask &= own[:, None] != others[None, :]
    return mask


def pair_distances(pairs: Pairs) -> tuple[Array, Array, Array]:
    """The three arrays that losses and rules are functions of.

    Returns:
      d_pos `[anchors]` (d_i²), d_neg `[anchors, candidates]` (d_ij²), and the mask of negatives
      `[anchors, candidates]`. Under an explicit mask what is no negative cannot matter, whatever
      embeddings it has: there d_neg is that of the row's nearest negative, and d_pos of an anchor
      without negatives is 0.
    """
    mask = negative_mask(pairs)
    if pairs.mask is not None:
        return *_masked_distances(pairs, mask), mask
    d_pos = paired_squared_distances(pairs.anchors, pairs.positives)
    # Among the embeddings themselves the matrix is symmetric, which saves a product.
    alone = pairs.views is not None and pairs.axis_name is None
    others = None if alone else pairs.candidates
    return d_pos, squared_distances(pairs.anchors, others), mask


def _masked_distances(pairs: Pairs, mask: Array) -> tuple[Array, Array]:
    """d_pos and d_neg where the embeddings of what is masked may be anything, inf and NaN as well.

    Their products with gradients of 0 would be NaN, so that they are replaced before the distances.
    """
    some = jnp.any(mask, axis=1, keepdims=True)
    anchors, positives = (
        jnp.where(some, z, jnp.zeros_like(z)) for z in (pairs.anchors, pairs.positives)
    )
    broken = ~jnp.all(jnp.isfinite(pairs.candidates), axis=1)
    candidates = jnp.where(broken[:, None], jnp.zeros_like(pairs.candidates), pairs.candidates)
    d_neg = squared_distances(anchors, candidates)
    # Where such an embedding does count, the value and its anchor's gradient are NaN.
    counts = mask & broken[None, :]
    d_neg = d_neg * jnp.where(counts, jnp.nan, jnp.ones_like(d_neg))
    return paired_squared_distances(anchors, positives), at_negatives(d_neg, mask)
