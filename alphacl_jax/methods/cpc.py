"""Contrastive predictive coding as a method: contexts predict the steps to come."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from alphacl_jax.errors import ArgumentError
from alphacl_jax.explicit import all_gather
from alphacl_jax.methods.embedding import if_recorded
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.methods.network import Network
from alphacl_jax.objectives.predictive import (
    NEGATIVES,
    predictive_hits,
    predictive_values,
    tell,
)
from alphacl_jax.sharded import reduce_counted

# What a batch calls that by which `predictive_loss` tells negatives.
_TOLD_BY = {"recordings": "recordings", "groups": "labels"}


def cpc_method(
    encoder: nn.Module,
    context: nn.Module,
    mesh: Mesh,
    *,
    steps: int = 12,
    negatives: str = "mixed",
    temperature: float = 1.0,
    block_size: int | str | None = None,
) -> Method:
    """CPC: `z_t = encoder(x)`, `c_t = context(z_1 ... z_t)`, and `W_k c_t` predicts `z_{t+k}`.

    The loss is the mean over k = 1 ... K of `predictive_loss`, over all t of all windows that K
    steps follow; the W_k have no bias.

    Args:
      encoder: maps `[batch, time, channels]` to `[batch, steps, dim]`, called with `train=`.
      context: maps `[batch, steps, dim]` to `[batch, steps, width]`, called with `train=`; a step
        of it knows of no later one.
      mesh: the devices, with the axis "data" over which the batch is spread.
      steps: K, how far is predicted.
      negatives: as in `predictive_loss`. The groups are the batch's "labels", such as the speakers;
        a window whose label is -1, unknown, has no negatives of them.
      temperature: as in `predictive_loss`.
      block_size: as in `predictive_loss`.

    Returns:
      The method, of batches of "windows" `[batch, time, channels]`, "recordings" `[batch]` and
      "labels" `[batch]`, the last two where the policy asks for them. Its features are the mean of
      the contexts of a window, see `cpc_contexts`, and `embed` is the mean of its z. Where a step
      is recorded, its metrics are "accuracy_1" ... "accuracy_K" (how often the positive scores
      highest), "candidates" (N, the geometric mean over moments) and "bound", log N − loss in nats:
      of "mixed" negatives a lower bound on the information that contexts have of later steps.

    Raises:
      ArgumentError: for `steps` below 1 or unknown negatives; from its functions for windows of
        too few steps, and a batch without what the policy asks for.

    References:
      van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding",
      2018.
    """
    if steps < 1:
        raise ArgumentError("steps", steps, "must be at least 1, the next step")
    if negatives not in NEGATIVES:
        problem = f"is unknown; it must be one of {', '.join(NEGATIVES)}"
        raise ArgumentError("negatives", repr(negatives), problem)
    network, past = Network({"encoder": encoder}), Network({"context": context})

    def check(batch: Batch) -> None:
        for name in map(_TOLD_BY.__getitem__, NEGATIVES[negatives]):
            if name not in batch:
                problem = f"is told by the {name} of windows, and the batch has none"
                raise ArgumentError("negatives", repr(negatives), problem)

    def init(key: Array, batch: Batch) -> tuple[Any, Any]:
        check(batch)
        encoder_key, context_key, own_key = jax.random.split(key, 3)
        params, stats = network.init(encoder_key, batch["windows"])
        z = network.evaluate(params, stats, batch["windows"])
        of_context, stats_of_context = past.init(context_key, z)
        c = past.evaluate(of_context, stats_of_context, z)
        # So small that all candidates start about alike, whatever the widths.
        shape = (steps, c.shape[-1], z.shape[-1])
        bilinear = jax.random.normal(own_key, shape) / (c.shape[-1] * z.shape[-1]) ** 0.5
        return {**params, **of_context, "predictor": {"kernel": bilinear}}, {
            **stats,
            **stats_of_context,
        }

    def losses_and_measures(
        prediction: Array, z: Array, told_by: Mapping[str, Array], recorded: Array
    ) -> tuple[Array, Metrics]:
        """The loss of each k; `prediction` is `[K, batch, moments, dim]`, one device's part."""
        moments = prediction.shape[2]
        labels = {name: jnp.repeat(of, moments) for name, of in told_by.items()}
        told = tell(negatives, labels, z.shape[0] * moments, "data")
        # Once, before the loop over k, in which no device then waits for another.
        everywhere = all_gather(z, "data")

        def of_each_k(function: Callable[..., Any], prediction: Array, *own: Any) -> Any:
            """A function of the rows of each k: `[K, rows]`, twice."""

            def of_one(given: tuple[Array, Array]) -> Any:
                k, predicted = given
                rows = [predicted, _after(z, k, moments), _after(everywhere, k, moments)]
                return function(*(x.reshape(-1, x.shape[-1]) for x in rows), told, *own, block_size)

            # One after the other: the scores of one k are in memory at a time.
            return jax.lax.map(of_one, (jnp.arange(1, len(prediction) + 1), prediction))

        def measures(prediction: Array) -> dict[str, Array]:
            return {
                "hits": of_each_k(predictive_hits, prediction)[0],
                # Where all scores are equal, the loss is the log of how many candidates there are.
                "chance": of_each_k(predictive_values, 0 * prediction[:1], temperature)[0],
            }

        values, counted = of_each_k(predictive_values, prediction, temperature)
        losses, held = _means(values, counted), jax.lax.stop_gradient(prediction)
        found = if_recorded(recorded, measures, held, like=held)
        accuracies, (chance,) = _means(found["hits"], counted), _means(found["chance"], counted[:1])
        metrics = {
            **{f"accuracy_{k}": accuracies[k - 1] for k in range(1, steps + 1)},
            "candidates": jnp.exp(chance),
            "bound": chance - jax.lax.stop_gradient(jnp.mean(losses)),
        }
        return losses, {name: jnp.where(recorded, of, 0.0) for name, of in metrics.items()}

    # The one place that names devices: the gradient is taken outside this map, by the trainer.
    everywhere = jax.shard_map(
        losses_and_measures,
        mesh=mesh,
        in_specs=(P(None, "data"), P("data"), P("data"), P()),
        out_specs=P(),
    )

    def loss(
        params: Any, state: Any, batch: Batch, key: Array
    ) -> tuple[Array, tuple[Any, Metrics]]:
        del key
        check(batch)
        z, moved = network.train(params, state, batch["windows"])
        moments = z.shape[1] - steps
        if moments < 1:
            problem = (
                f"are too many: of a window of {batch['windows'].shape[1]} moments the encoder "
                f"makes {z.shape[1]} steps; predict fewer, or use longer windows"
            )
            raise ArgumentError("steps", steps, problem)
        c, moved = past.train(params, moved, z)
        prediction = jnp.einsum("btc,kcd->kbtd", c[:, :moments], params["predictor"]["kernel"])
        told_by = {name: batch[_TOLD_BY[name]] for name in NEGATIVES[negatives]}
        losses, metrics = everywhere(prediction, z, told_by, batch["recorded"])
        return jnp.mean(losses), (moved, metrics)

    contexts = cpc_contexts(encoder, context)

    def features(params: Any, state: Any, inputs: Array) -> Array:
        return jnp.mean(contexts(params, state, inputs), axis=1)

    def embed(params: Any, state: Any, inputs: Array) -> Array:
        return jnp.mean(network.evaluate(params, state, inputs), axis=1)

    return Method(
        init,
        loss,
        features,
        embed,
        shown=("bound", "accuracy_1"),
        unit="windows",
        warning=_warning,
    )


def cpc_contexts(encoder: nn.Module, context: nn.Module) -> Callable[[Any, Any, Array], Array]:
    """`(params, state, windows) -> c [batch, steps, width]`, of parameters of `cpc_method`.

    What probes of moments read; in evaluation mode.
    """
    return Network({"encoder": encoder, "context": context}).evaluate


def _after(z: Array, k: Array, moments: int) -> Array:
    """The steps `[batch, moments, dim]` that come k later."""
    return jax.lax.dynamic_slice_in_dim(z, k, moments, axis=1)


def _means(values: Array, counted: Array) -> Array:
    """`[K]`, over the rows of all devices, of rows `[K, rows]` that count."""
    return jax.vmap(lambda v, c: reduce_counted(v, c, "mean", "data"))(values, counted)


def _warning(recorded: Mapping[str, float]) -> str:
    if recorded["candidates"] > 1:
        return ""
    return (
        "no moment of the batch has a negative, so nothing is learned: use more windows a batch, "
        "recordings whose labels are known, or other negatives"
    )
