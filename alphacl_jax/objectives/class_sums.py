"""Losses with labels whose anchors follow from sums over pairs: at once, in blocks or in tiles.

In a sum over pairs it matters of each pair whether it is of one class, and no row need be seen at
once (`alphacl_jax.sums`). One description of such a loss serves whole rows and square tiles.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from alphacl_jax.blocks import tile_side
from alphacl_jax.distances import compute_dtype, masked_logsumexp
from alphacl_jax.objectives.classes import Grouped, is_spread, loss_of_rows
from alphacl_jax.sharded import AxisName, reduce_counted
from alphacl_jax.sums import PairSums
from alphacl_jax.tiles import tiled_values


class Totals(NamedTuple):
    """What an anchor's loss is a function of, where that is a loss by sums: each `[anchors]`.

    Attributes:
      positives: |P|, how many others are of the anchor's class; 1 where none is.
      others: |A|, how many others there are; 1 where there is none.
      of_all: log Σ_{a∈A} e^{l(d_a)}.
      of_class: log Σ_{p∈P} e^{l(d_p)}; that of all where P is empty, so that the exponential of
        their difference is in range there too.
      values: Σ_{a∈A} v_k(d_a, a ∈ P).
    """

    positives: Array
    others: Array
    of_all: Array
    of_class: Array
    values: list[Array]


class ClassSums(NamedTuple):
    """An anchor's loss by sums over all others A, of which P are of its class.

    Attributes:
      logits: l, elementwise and falling with the distance; None for no exponentials.
      values: maps distances, and whether they are to one of the class, to the tuple of the v_k,
        elementwise.
      finish: maps the totals to the losses `[anchors]`.
      of_class: whether the sum of exponentials over the class is asked for.
      needs_positive: whether an anchor counts by having a positive, and not by having any other;
        one that does not count has the loss 0.
    """

    logits: Callable[[Array], Array] | None
    values: Callable[[Array, Array], tuple[Array, ...]]
    finish: Callable[[Totals], Array]
    of_class: bool = False
    needs_positive: bool = True

    def rows(self, d: Array, same: Array, other: Array) -> tuple[Array, Array]:
        """The loss as `Rows`."""
        every = same | other
        of_all = of_class = jnp.zeros(d.shape[:1], d.dtype)
        if self.logits is not None:
            logits = self.logits(d)
            of_all = masked_logsumexp(logits, every)
            of_class = masked_logsumexp(logits, same) if self.of_class else of_class
        values = [jnp.sum(jnp.where(every, v, 0.0), axis=1) for v in self.values(d, same)]
        positives, others = (jnp.sum(mask, axis=1).astype(d.dtype) for mask in (same, every))
        return self._finished(Totals(positives, others, of_all, of_class, values))

    def tiled(self, z: Array, classes: Array, tile: int) -> tuple[Array, Array]:
        """The same of all embeddings `[m, dim]`, in tiles of pairs, each visited once."""
        ranked, dtype = jnp.sort(classes), compute_dtype(z)
        first, last = (jnp.searchsorted(ranked, classes, side=side) for side in ("left", "right"))
        positives = (last - first - 1).astype(dtype)
        others = jnp.full_like(positives, classes.shape[0] - 1)
        some, logits = positives > 0, self.logits

        def finish(zero: Array, shifts: list[Array], sums: list[Array]) -> Array:
            of_all = of_class = zero
            if logits is not None:
                of_all = shifts[0] + jnp.log(sums[0])
            if self.of_class:
                of_class = shifts[1] + jnp.log(jnp.where(some, sums[1], 1.0))
            values = sums[2 if self.of_class else 1 :]
            return self._finished(Totals(positives, others, of_all, of_class, values))[0]

        sums = PairSums(
            logits=None if logits is None else lambda _, d: logits(d),
            values=lambda _, d, alike: self.values(d, alike),
            finish=finish,
            of_class=self.of_class,
        )
        no_pair = jnp.zeros_like(positives)
        values = tiled_values(sums, z, no_pair, 1, tile, classes, told_apart=True)
        return values, some if self.needs_positive else others > 0

    def _finished(self, totals: Totals) -> tuple[Array, Array]:
        counted = (totals.positives if self.needs_positive else totals.others) > 0
        totals = totals._replace(
            positives=jnp.maximum(totals.positives, 1),
            others=jnp.maximum(totals.others, 1),
            of_class=jnp.where(totals.positives > 0, totals.of_class, totals.of_all),
        )
        return jnp.where(counted, self.finish(totals), 0.0), counted


def loss_of_sums(
    sums: ClassSums, group: Grouped, block_size: Any, reduction: str, axis_name: AxisName
) -> Array:
    """A loss of each anchor, all at once, in blocks or in tiles, and its reduction.

    Tiles need anchors that are all the candidates, and classes: a mask says more than these.

    Args:
      sums: the loss.
      group: the embeddings.
      block_size: as in `contrastive_loss`.
      reduction: as in `loss_of_rows`.
      axis_name: as in `grouped`.
    """
    z, classes = group.anchors.z, group.anchors.classes
    if classes is None or is_spread(axis_name):
        return loss_of_rows(sums.rows, group, block_size, reduction, axis_name)
    tile = tile_side(block_size, z.shape[0])
    if tile is None:
        return loss_of_rows(sums.rows, group, None, reduction, axis_name)
    return reduce_counted(*sums.tiled(z, classes, tile), reduction, axis_name)
