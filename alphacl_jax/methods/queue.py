"""Negatives from a queue of earlier keys, of a slowly moving encoder: MoCo's structure."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from alphacl_jax.distances import l2_normalize
from alphacl_jax.errors import ArgumentError
from alphacl_jax.families import Family
from alphacl_jax.measures import statistics
from alphacl_jax.methods.contrastive import loss_of_objective, require_two_views
from alphacl_jax.methods.embedding import evaluated, if_recorded, project_views
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.methods.network import Network, flat_views
from alphacl_jax.methods.target import Momentum, moved, unmoved
from alphacl_jax.rules import Rule


def queue_method(
    encoder: nn.Module,
    projector: nn.Module,
    rule_or_family: Rule | Family,
    mesh: Mesh,
    *,
    size: int,
    momentum: Momentum,
    stop_gradient: bool = True,
    block_size: int | str | None = None,
    micro_batch: int | None = None,
) -> Method:
    """The loss of queries `z_u` with positives `k_v`, u ≠ v, the mean over both ways round.

    Keys k are embeddings by a moving average of encoder and projector, held fixed; an anchor's
    negatives are the `size` newest keys of the steps before, of both views. So the number of
    negatives is not that of the batch. The queue starts with random directions.

    Args:
      encoder: as in `contrastive_method`.
      projector: as in `contrastive_method`.
      rule_or_family: as in `contrastive_method`.
      mesh: as in `contrastive_method`.
      size: how many keys the queue holds, a multiple of twice the batch.
      momentum: of the moving average.
      stop_gradient: as in `contrastive_method`.
      block_size: as in `contrastive_method`.
      micro_batch: as in `contrastive_method`.

    Returns:
      The method, of two views; its metrics are those of `alphacl_jax.statistics` of the first
      view's anchors, where a step is recorded, and 0 where it is not. Its functions raise an
      ArgumentError for other than two views, and for a batch that the queue is no multiple of.

    References:
      He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", 2020.
    """
    network = Network({"encoder": encoder, "projector": projector}, micro_batch)
    common: dict[str, Any] = {"block_size": block_size, "axis_name": "data"}
    pair_loss = loss_of_objective(rule_or_family, stop_gradient=stop_gradient)

    def init(key: Array, batch: Batch) -> tuple[Any, Any]:
        require_two_views(batch)
        network_key, queue_key = jax.random.split(key)
        params, stats = network.init(network_key, flat_views(batch["views"]))
        embedded = jax.eval_shape(network.evaluate, params, stats, batch["views"][:, 0])
        keys = l2_normalize(jax.random.normal(queue_key, (size, embedded.shape[1])))
        count = jnp.zeros((), jnp.int32)
        return params, {**stats, "target": unmoved(params), "queue": keys, "count": count}

    def loss_of(z: Array, keys: Array, queue: Array) -> Array:
        one_way = functools.partial(pair_loss, negatives=queue, **common)
        return 0.5 * (one_way(z[:, 0], keys[:, 1]) + one_way(z[:, 1], keys[:, 0]))

    def measures_of(z: Array, keys: Array, queue: Array) -> Metrics:
        return statistics(z[:, 0], keys[:, 1], rule_or_family, negatives=queue, **common)

    def loss_and_measures(
        z: Array, keys: Array, queue: Array, recorded: Array
    ) -> tuple[Array, Metrics]:
        return loss_of(z, keys, queue), if_recorded(
            recorded, measures_of, jax.lax.stop_gradient(z), keys, queue
        )

    everywhere = jax.shard_map(
        loss_and_measures, mesh=mesh, in_specs=(P("data"), P("data"), P(), P()), out_specs=P()
    )

    def loss(
        params: Any, state: Any, batch: Batch, key: Array
    ) -> tuple[Array, tuple[Any, Metrics]]:
        del key
        require_two_views(batch)
        new = 2 * batch["views"].shape[0]
        if size % new:
            problem = f"must be a multiple of {new}, the keys of one batch"
            raise ArgumentError("queue_size", size, problem)
        target = moved(state["target"], params, state["count"], momentum)
        x, stats = project_views(network, params, state, batch)
        k, _ = project_views(network, target, state, batch)
        keys = jax.lax.stop_gradient(l2_normalize(k))
        value, metrics = everywhere(l2_normalize(x), keys, state["queue"], batch["recorded"])
        oldest = (state["count"] % (size // new)) * new
        queue = jax.lax.dynamic_update_slice_in_dim(
            state["queue"], flat_views(keys), oldest, axis=0
        )
        metrics["momentum"] = momentum(state["count"])
        new_state = {
            **stats,
            "target": target,
            "queue": queue,
            "count": state["count"] + 1,
        }
        return value, (new_state, metrics)

    return Method(init, loss, *evaluated(network), shown=("energy",), unit="images")
