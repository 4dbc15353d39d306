"""α-CL and every loss of the family as a method: encoder, projector, loss over sharded pairs."""

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
from alphacl_jax.losses import alpha_cl_loss, contrastive_loss
from alphacl_jax.measures import statistics
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.rules import Rule


def contrastive_method(
    encoder: nn.Module,
    projector: nn.Module,
    rule_or_family: Rule | Family,
    mesh: Mesh,
    *,
    negatives: str = "both_views",
    stop_gradient: bool = True,
    block_size: int | str | None = None,
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
      stop_gradient: whether a rule's α is held fixed in the gradient.
      block_size: as in `contrastive_loss`.

    Returns:
      The method; its metrics are those of `alphacl_jax.statistics` where a step is recorded, and
      0 where it is not. Its functions raise an ArgumentError for other than two views.
    """

    def init(key: Array, batch: Batch) -> tuple[Any, Any]:
        encoder_key, projector_key = jax.random.split(key)
        h, variables = encoder.init_with_output(encoder_key, _flat(batch["views"]), train=True)
        heads = projector.init(projector_key, h, train=True)
        params = {"encoder": variables["params"], "projector": heads.get("params", {})}
        state = {
            "encoder": variables.get("batch_stats", {}),
            "projector": heads.get("batch_stats", {}),
        }
        return params, state

    def embed_views(params: Any, state: Any, views: Array) -> tuple[Array, Any]:
        x = _flat(views)
        new_state = {}
        for name, module in (("encoder", encoder), ("projector", projector)):
            variables = {"params": params[name], "batch_stats": state[name]}
            x, updates = module.apply(variables, x, train=True, mutable=["batch_stats"])
            new_state[name] = updates.get("batch_stats", state[name])
        z = l2_normalize(x)
        return z.reshape(*views.shape[:2], z.shape[-1]), new_state

    common: dict[str, Any] = {"negatives": negatives, "block_size": block_size, "axis_name": "data"}

    def pair_loss(z: Array, recorded: Array) -> tuple[Array, Metrics]:
        first, second = z[:, 0], z[:, 1]
        if isinstance(rule_or_family, Rule):
            loss = alpha_cl_loss(
                first, second, rule_or_family, stop_gradient=stop_gradient, **common
            )
        else:
            loss = contrastive_loss(first, second, rule_or_family, **common)
        return loss, measures_if(recorded, jax.lax.stop_gradient(z))

    def measures_if(recorded: Array, z: Array) -> Metrics:
        def measures(z: Array) -> Metrics:
            return statistics(z[:, 0], z[:, 1], rule_or_family, **common)

        def nothing(z: Array) -> Metrics:
            return jax.tree.map(
                lambda of: jnp.zeros(of.shape, of.dtype), jax.eval_shape(measures, z)
            )

        # One program for all steps, of which those that nobody looks at do not pay.
        return jax.lax.cond(recorded, measures, nothing, z)

    # The one place that names devices: the gradient is taken outside this map, by the trainer.
    global_loss = jax.shard_map(pair_loss, mesh=mesh, in_specs=(P("data"), P()), out_specs=P())

    def loss(
        params: Any, state: Any, batch: Batch, key: Array
    ) -> tuple[Array, tuple[Any, Metrics]]:
        del key
        z, new_state = embed_views(params, state, batch["views"])
        value, metrics = global_loss(z, batch["recorded"])
        return value, (new_state, metrics)

    def features(params: Any, state: Any, inputs: Array) -> Array:
        return _evaluated(encoder, params["encoder"], state["encoder"], inputs)

    def embed(params: Any, state: Any, inputs: Array) -> Array:
        h = features(params, state, inputs)
        return l2_normalize(_evaluated(projector, params["projector"], state["projector"], h))

    return Method(init, loss, features, embed, shown=("energy",), unit="images")


def _flat(views: Array) -> Array:
    """Two views of each sample as one batch, `[2 batch, height, width, channels]`."""
    if views.shape[1] != 2:
        raise ArgumentError(
            "views", views.shape[1], "of each sample were made, and contrastive learning reads 2"
        )
    # Views lie on axis 1, so that this reshape stays within each device's part of the batch.
    return views.reshape(-1, *views.shape[2:])


def _evaluated(module: nn.Module, params: Any, batch_stats: Any, x: Array) -> Array:
    variables = {"params": params, "batch_stats": batch_stats}
    y: Array = module.apply(variables, x, train=False)  # type: ignore[assignment]
    return y
