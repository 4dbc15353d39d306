"""α-CL and every loss of the family as a method: encoder, projector, loss over sharded pairs."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array
from jax.sharding import Mesh

from alphacl_jax.errors import ArgumentError
from alphacl_jax.families import Family
from alphacl_jax.losses import alpha_cl_loss, contrastive_loss
from alphacl_jax.measures import statistics
from alphacl_jax.methods.embedding import embedding_method
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.methods.network import Network
from alphacl_jax.rules import Rule


def contrastive_method(
    encoder: nn.Module,
    projector: nn.Module,
    rule_or_family: Rule | Family,
    mesh: Mesh,
    *,
    negatives: str = "both_views",
    labelled: bool = False,
    stop_gradient: bool = True,
    block_size: int | str | None = None,
    micro_batch: int | None = None,
) -> Method:
    """Contrastive learning on two views: `z = l2_normalize(projector(encoder(view)))`.

    A Rule trains by `alpha_cl_loss`, a Family by `contrastive_loss`. The encoder sees both views
    in one forward pass, and the loss compares the embeddings of all devices.

    Args:
      encoder: maps `[batch, height, width, channels]` to `[batch, features]`, called with
        `train=`; its "batch_stats" collection is the method's state.
      projector: maps `[batch, features]` to `[batch, dim]`, called with `train=`.
      rule_or_family: what makes the loss.
      mesh: the devices, with the axis "data" over which the batch is spread.
      negatives: "both_views", "same_view" or "cross_view".
      labelled: whether images of one class are no negatives of each other.
      stop_gradient: whether a rule's α is held fixed in the gradient.
      block_size: as in `contrastive_loss`.
      micro_batch: embed the batch in chunks of this many samples, over all devices, and again in
        the backward pass; None for all at once. See `methods.chunks`.

    Returns:
      The method; its metrics are those of `alphacl_jax.statistics` where a step is recorded, and
      0 where it is not. Its functions raise an ArgumentError for other than two views.
    """
    pair_loss = loss_of_objective(rule_or_family, stop_gradient=stop_gradient)
    common: dict[str, Any] = {"negatives": negatives, "block_size": block_size, "axis_name": "data"}

    def options(labels: Array | None) -> dict[str, Any]:
        if labelled and labels is None:
            raise ArgumentError("labelled", True, "reads labels, and the batch has none")
        return {**common, "labels": labels if labelled else None}

    def loss_of(z: Array, labels: Array | None) -> Array:
        return pair_loss(z[:, 0], z[:, 1], **options(labels))

    def measures_of(z: Array, labels: Array | None) -> Metrics:
        return statistics(z[:, 0], z[:, 1], rule_or_family, **options(labels))

    network = Network({"encoder": encoder, "projector": projector}, micro_batch)
    return embedding_method(
        network, loss_of, measures_of, mesh, check=require_two_views, shown=("energy",)
    )


def loss_of_objective(
    rule_or_family: Rule | Family, *, stop_gradient: bool
) -> Callable[..., Array]:
    """`(z, z_pos, **options) -> loss`: `alpha_cl_loss` or, of a family, `contrastive_loss`."""
    if isinstance(rule_or_family, Family):
        return lambda z, z_pos, **options: contrastive_loss(z, z_pos, rule_or_family, **options)
    return lambda z, z_pos, **options: alpha_cl_loss(
        z, z_pos, rule_or_family, stop_gradient=stop_gradient, **options
    )


def require_two_views(batch: Batch) -> None:
    """Refuses other views than two of one size.

    Raises:
      ArgumentError: with how many there are.
    """
    views: int | str = batch["views"].shape[1]
    if "small_views" in batch:
        views = f"{views}+{batch['small_views'].shape[1]}"
    if views != 2:
        raise ArgumentError(
            "views", views, "of each sample were made, and contrastive learning reads 2"
        )
