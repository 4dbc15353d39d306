"""Losses with labels as a method: encoder, projector, any number of views of each image."""

from collections.abc import Callable

import flax.linen as nn
from jax import Array
from jax.sharding import Mesh

from alphacl_jax.methods.embedding import embedding_method
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.methods.network import Network, flat_views
from alphacl_jax.methods.spread import collapse_warning, spread


def supervised_method(
    encoder: nn.Module,
    projector: nn.Module,
    loss: Callable[..., Array],
    mesh: Mesh,
    *,
    micro_batch: int | None = None,
) -> Method:
    """Embeddings of one class are drawn together, `z = l2_normalize(projector(encoder(view)))`.

    Args:
      encoder: as in `contrastive_method`.
      projector: as in `contrastive_method`.
      loss: `(z [batch, views, dim], labels [batch], axis_name=...) -> scalar`, such as
        `objectives.supcon_loss`.
      mesh: as in `contrastive_method`.
      micro_batch: as in `contrastive_method`.

    Returns:
      The method, of any number of views of one or two sizes. Its metrics are those of `spread`
      where a step is recorded, and 0 where it is not.
    """

    def loss_of(z: Array, labels: Array | None) -> Array:
        return loss(z, labels, axis_name="data")

    def measures_of(z: Array, labels: Array | None) -> Metrics:
        del labels
        return spread(flat_views(z), axis_name="data")

    def any_views(batch: Batch) -> None:
        del batch

    network = Network({"encoder": encoder, "projector": projector}, micro_batch)
    method = embedding_method(
        network, loss_of, measures_of, mesh, check=any_views, shown=("embedding_rank",)
    )
    return method._replace(warning=collapse_warning)
