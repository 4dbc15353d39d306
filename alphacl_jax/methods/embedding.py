"""Methods whose loss compares the embeddings of a batch with each other."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from alphacl_jax.distances import l2_normalize, varying_like
from alphacl_jax.methods.chunks import embed_in_chunks
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.methods.network import Network, flat_views

# Of embeddings `[batch, views, dim]` and labels `[batch]`, both one device's part of the batch; the
# labels are None where the batch has none.
OfEmbeddings = Callable[[Array, Array | None], Any]
# A batch's views by size, in the order in which their embeddings stand.
_SIZES: tuple[str, ...] = ("views", "small_views")


def embedding_method(
    network: Network,
    loss_of: OfEmbeddings,
    measures_of: OfEmbeddings,
    mesh: Mesh,
    *,
    check: Callable[[Batch], None],
    shown: tuple[str, ...] = (),
) -> Method:
    """A method from a loss of normalised embeddings, `z = l2_normalize(network(view))`.

    The network sees the views of one size in one forward pass.

    Args:
      network: whose part "encoder" makes the features.
      loss_of: the loss of the whole batch, over the mesh's axis "data".
      measures_of: scalars that describe the batch, as `loss_of`; computed where a step is recorded.
      mesh: the devices, with the axis "data" over which the batch is spread.
      check: refuses a batch whose views the loss does not read.
      shown: as in `Method`.
    """

    def init(key: Array, batch: Batch) -> tuple[Any, Any]:
        check(batch)
        return network.init(key, flat_views(batch["views"]))

    def loss_and_measures(z: Array, labels: Array | None, recorded: Array) -> tuple[Array, Metrics]:
        return loss_of(z, labels), if_recorded(
            recorded, measures_of, jax.lax.stop_gradient(z), labels
        )

    # The one place that names devices: the gradient is taken outside this map, by the trainer.
    everywhere = jax.shard_map(
        loss_and_measures, mesh=mesh, in_specs=(P("data"), P("data"), P()), out_specs=P()
    )

    def loss(
        params: Any, state: Any, batch: Batch, key: Array
    ) -> tuple[Array, tuple[Any, Metrics]]:
        del key
        check(batch)
        x, new_state = project_views(network, params, state, batch)
        value, metrics = everywhere(l2_normalize(x), batch.get("labels"), batch["recorded"])
        return value, (new_state, metrics)

    return Method(init, loss, *evaluated(network), shown=shown, unit="images")


def project_views(network: Network, params: Any, stats: Any, batch: Batch) -> tuple[Array, Any]:
    """The network's outputs `[batch, views, dim]` in training mode, and the moved statistics.

    Small views, where there are some, come after the others and in a forward pass of their own.
    With a `micro_batch`, the network sees the batch in chunks.
    """
    views = {name: batch[name] for name in _SIZES if name in batch}
    own_params, own_stats = (
        {name: tree[name] for name in network.modules} for tree in (params, stats)
    )
    if network.micro_batch is None:
        x, moved = _in_one_go(network, own_params, own_stats, views)
    else:
        embed = functools.partial(_in_one_go, network)
        x, moved = embed_in_chunks(embed, network.micro_batch, own_params, own_stats, views)
    return x, {**stats, **moved}


def _in_one_go(network: Network, params: Any, stats: Any, sizes: Batch) -> tuple[Array, Any]:
    """`project_views` of views of one or two sizes."""
    found = []
    # A pytree's dict has lost its order.
    for name in filter(sizes.__contains__, _SIZES):
        views = sizes[name]
        x, stats = network.train(params, stats, flat_views(views))
        found.append(x.reshape(*views.shape[:2], x.shape[-1]))
    return found[0] if len(found) == 1 else jnp.concatenate(found, axis=1), stats


def evaluated(
    network: Network,
) -> tuple[Callable[[Any, Any, Array], Array], Callable[[Any, Any, Array], Array]]:
    """`features` and `embed` of a method: what "encoder" makes, and the normalised output."""
    encoder = network.up_to("encoder")

    def features(params: Any, state: Any, inputs: Array) -> Array:
        return encoder.evaluate(params, state, inputs)

    def embed(params: Any, state: Any, inputs: Array) -> Array:
        return l2_normalize(network.evaluate(params, state, inputs))

    return features, embed


def if_recorded(
    recorded: Array, measures: Callable[..., Any], *arguments: Any, like: Array | None = None
) -> Any:
    """The measures where a step is recorded, and 0 where it is not.

    Args:
      recorded: whether it is.
      measures: of the arguments.
      *arguments: as it takes them.
      like: where the measures differ from device to device, something that does.
    """

    def nothing(*arguments: Any) -> Any:
        zeros = jax.tree.map(
            lambda of: jnp.zeros(of.shape, of.dtype), jax.eval_shape(measures, *arguments)
        )
        return zeros if like is None else varying_like(zeros, like)

    # One program for all steps, of which those that nobody looks at do not pay.
    return jax.lax.cond(recorded, measures, nothing, *arguments)
