"""Triplets of an anchor, one of its class and one of another: all, the hardest, the semi-hard."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.explicit import left_to_compiler
from alphacl_jax.objectives.classes import Rows, dense_rows, grouped, loss_of_rows
from alphacl_jax.parameters import typed
from alphacl_jax.ranges import POSITIVE, Scalar, in_its_range
from alphacl_jax.sharded import AxisName

MININGS = ("all", "hard", "semihard")


@left_to_compiler(rows=lambda options: options.get("reduction") == "none")
def triplet_loss(
    z: Array,
    labels: Any,
    margin: Scalar,
    *,
    mining: str = "all",
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """The hinge of triplets, `[d_ip − d_in + margin]₊`, anchor by anchor.

    p is of anchor i's class, n of another one, and d are half squared distances: a margin of the
    literature's ‖·‖² is twice one here. An anchor's value is the mean over its triplets:

    - "all": every (p, n), including those whose hinge is 0;
    - "hard": one, of the farthest p and the nearest n;
    - "semihard": those with `d_ip < d_in < d_ip + margin`.

    Triplets are summed by sorting an anchor's distances: O(m log m) for each of m anchors, where a
    list of them has O(m³) entries. That search needs a fixed number of embeddings, so a program
    that is exported with an open one takes "hard".

    Args:
      z: embeddings `[n, dim]`, or of several views of each sample `[n, views, dim]`, floating; used
        as given.
      labels: `[n]` whole numbers, equal within a class; -1 where unknown.
      margin: > 0, of d.
      mining: which triplets count, as above.
      reduction: "mean" over the anchors that have a triplet, "sum", or "none" for `[anchors]`. An
        anchor without triplets contributes 0, and where there is no other the mean is 0.
      block_size: how many anchors are compared with all embeddings at a time; None for all, "auto"
        to choose. In blocks the backward pass computes each again.
      axis_name: as in `supcon_loss`.

    Returns:
      A scalar, or `[anchors]`; float32 (float64 for float64 input).

    Raises:
      AssertionError: from chex, for wrong ranks, shapes and types.
      ValueError: for a margin that is not above 0, an unknown mining, reduction or block_size.

    References:
      Schroff, Kalenichenko and Philbin, "FaceNet: A Unified Embedding for Face Recognition and
      Clustering", 2015 (semi-hard); Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for
      Person Re-Identification", 2017 (all, and the hardest of a batch).
    """
    group = grouped(z, labels, axis_name)
    return loss_of_rows(_rows(margin, mining), group, block_size, reduction, axis_name)


def triplet_of_distances(d: Array, labels: Any, margin: Scalar, *, mining: str = "all") -> Array:
    """`triplet_loss` of half squared distances `[m, m]`: one value per anchor, `[m]`."""
    return dense_rows(_rows(margin, mining), d, labels)


def _rows(margin: Scalar, mining: str) -> Rows:
    if mining not in MININGS:
        raise ArgumentError("mining", repr(mining), f"must be one of {', '.join(MININGS)}")
    margin = in_its_range("margin", margin, POSITIVE)

    def rows(d: Array, same: Array, other: Array) -> tuple[Array, Array]:
        least = typed(margin, d)
        if mining == "hard":
            values, some = _hardest(d, same, other, least)
        else:
            values, some = _all_triplets(d, same, other, least, semihard=mining == "semihard")
        # Times 1, or NaN for a margin out of its range, whose hinge has no slope to tell of it.
        return values * jax.lax.stop_gradient(least / least), some

    return rows


def _hardest(d: Array, same: Array, other: Array, margin: Any) -> tuple[Array, Array]:
    farthest = jnp.max(jnp.where(same, d, -jnp.inf), axis=1)
    nearest = jnp.min(jnp.where(other, d, jnp.inf), axis=1)
    some = jnp.any(same, axis=1) & jnp.any(other, axis=1)
    gap = jnp.where(some, farthest, 0.0) - jnp.where(some, nearest, 0.0)
    return jnp.where(some, jnp.maximum(gap + margin, 0.0), 0.0), some


def _all_triplets(
    d: Array, same: Array, other: Array, margin: Any, *, semihard: bool
) -> tuple[Array, Array]:
    """The mean hinge of each row's triplets, from sums over its sorted negatives."""
    negatives = jnp.sort(jnp.where(other, d, jnp.inf), axis=1)
    finite = jnp.where(jnp.isfinite(negatives), negatives, 0.0)
    sums = jnp.cumsum(jnp.pad(finite, ((0, 0), (1, 0))), axis=1)
    limit = d + margin

    def below(bound: Array, side: str) -> Array:
        search = jax.vmap(functools.partial(jnp.searchsorted, side=side))
        return search(negatives, jax.lax.stop_gradient(bound))

    def hinge(count: Array) -> Array:
        """The sum of `limit − d_n` over the `count` nearest negatives, for each positive."""
        return count * limit - jnp.take_along_axis(sums, count, axis=1)

    nearer = below(limit, "left")
    total, triplets = hinge(nearer), jnp.sum(other, axis=1, keepdims=True)
    if semihard:
        skipped = jnp.minimum(below(d, "right"), nearer)
        total, triplets = total - hinge(skipped), nearer - skipped
    count = jnp.sum(jnp.where(same, triplets, 0), axis=1)
    values = jnp.sum(jnp.where(same, total, 0.0), axis=1) / jnp.maximum(count, 1)
    # Sorted behind all others, it would be no negative of anybody.
    broken = jnp.any(jnp.isnan(d) & (same | other), axis=1)
    values = jnp.where(broken, jnp.nan, values)
    return values.astype(d.dtype), count > 0
