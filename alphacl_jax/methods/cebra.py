"""CEBRA as a method: InfoNCE of moments, with positives near in time or of similar behaviour.

References:
  Schneider, Lee and Mathis 2023, "Learnable latent embeddings for joint behavioural and neural
  analysis" (doi:10.1038/s41586-023-06031-6).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from alphacl_jax.distances import l2_normalize
from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.methods.network import Network, flat_views
from alphacl_jax.objectives.temporal import SIMILARITIES, goodness_of_fit, temporal_loss
from alphacl_jax.ranges import POSITIVE, in_its_range, learned_temperature

# The moments of a batch, in the order in which the loss has them; "later" is there in a hybrid.
MOMENTS = ("reference", "positive", "negative")
_LATER = "later"


@dataclasses.dataclass(frozen=True)
class Similarity:
    """How embeddings are compared.

    Attributes:
      kind: "cosine", or "euclidean" for squared distances of embeddings that have any length.
      temperature: τ > 0; where it is learned, what it starts from.
      minimum: the floor of a learned temperature; None where it is fixed.

    Raises:
      ArgumentError: for an unknown kind, and temperatures out of range.
    """

    kind: str = "cosine"
    temperature: float = 1.0
    minimum: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in SIMILARITIES:
            problem = f"must be one of {', '.join(SIMILARITIES)}"
            raise ArgumentError("similarity", shown(self.kind), problem)
        in_its_range("temperature", self.temperature, POSITIVE)
        if self.minimum is None:
            return
        in_its_range("minimum", self.minimum, POSITIVE)
        if self.minimum > self.temperature:
            problem = f"is above {self.temperature}, the temperature that learning starts from"
            raise ArgumentError("minimum", self.minimum, problem)

    def init(self) -> dict[str, Any]:
        """The parameters: of a learned temperature its logarithm."""
        if self.minimum is None:
            return {}
        return {"temperature": {"log": jnp.log(jnp.float32(self.temperature))}}

    def temperature_of(self, params: Mapping[str, Any]) -> Array:
        if self.minimum is None:
            return jnp.float32(self.temperature)
        return learned_temperature(params["temperature"]["log"], self.minimum)

    def prepared(self, z: Array) -> Array:
        """What is compared, and what an embedding is: of length 1 for cosines."""
        return l2_normalize(z) if self.kind == "cosine" else z


def cebra_method(
    encoder: nn.Module,
    mesh: Mesh,
    similarity: Similarity,
    *,
    block_size: int | str | None = None,
) -> Method:
    """CEBRA of one session: `temporal_loss` of the embeddings of windows.

    With the moments "later" of a hybrid the loss is the sum of two: of positives of similar
    behaviour, and of positives in time, with the same references and negatives. The behavioural
    positives are the subject of US patent 12,499,131 (2025), of which users must judge for
    themselves; contrast over time is older.

    Args:
      encoder: maps windows `[batch, r, channels]` to `[batch, 1, dim]`, called with `train=`, such
        as `models.temporal.WindowEncoder`.
      mesh: the devices, with the axis "data" over which the batch is spread.
      similarity: how embeddings are compared.
      block_size: as in `temporal_loss`.

    Returns:
      The method, of batches of the windows "reference", "positive" and "negative", and of a hybrid
      "later", `[batch, r, channels]`: each reference is compared with the negatives of the whole
      batch. Its features are its embeddings. Its metrics are "goodness", the goodness of fit in
      bits, "goodness_later" of a hybrid, and "temperature". Its functions raise an ArgumentError
      for windows longer than r.
    """
    network = Network({"encoder": encoder})
    compare = _comparison(similarity, mesh, block_size)

    def init(key: Array, batch: Batch) -> tuple[Any, Any]:
        params, stats = network.init(key, batch["reference"])
        return {**params, **similarity.init()}, stats

    def loss(
        params: Any, state: Any, batch: Batch, key: Array
    ) -> tuple[Array, tuple[Any, Metrics]]:
        del key
        z, moved = _embedded(network, params, state, batch)
        temperature = similarity.temperature_of(params)
        value, metrics = compare({name: similarity.prepared(z[name]) for name in z}, temperature)
        return value, (moved, metrics)

    moments = cebra_embeddings(encoder, similarity)

    def embed(params: Any, state: Any, inputs: Array) -> Array:
        return moments(params, state, inputs)[:, 0]

    return Method(init, loss, embed, embed, shown=("goodness", "temperature"), unit="moments")


def cebra_sessions_method(
    encoders: Sequence[nn.Module],
    mesh: Mesh,
    similarity: Similarity,
    *,
    block_size: int | str | None = None,
) -> Method:
    """CEBRA of several sessions, each with an encoder of its own, and one space for all.

    The positive of a reference may be of another session; the negatives are of its own. The loss
    is the mean over sessions.

    Args:
      encoders: one for each session, as of `cebra_method`; all make embeddings of as many
        dimensions. Sessions may have different numbers of channels.
      mesh, similarity, block_size: as of `cebra_method`.

    Returns:
      The method, of batches of "sessions", a list of what `cebra_method` reads, and "partner"
      int32 `[sessions · batch]`: of all sessions' positives, one behind the other, the number of
      each reference's. Parameters of a session's encoder are named "encoder_0" and so on. The
      features and embeddings of one session are those of `cebra_embeddings`; `features` and
      `embed` here are of the first.
    """
    networks = [Network({session_name(i): encoder}) for i, encoder in enumerate(encoders)]
    compare = _comparison(similarity, mesh, block_size)

    def init(key: Array, batch: Any) -> tuple[Any, Any]:
        params: dict[str, Any] = similarity.init()
        stats: dict[str, Any] = {}
        keys = jax.random.split(key, len(networks))
        for own_key, network, own in zip(keys, networks, batch["sessions"], strict=True):
            own_params, own_stats = network.init(own_key, own["reference"])
            params |= own_params
            stats |= own_stats
        return params, stats

    def loss(params: Any, state: Any, batch: Any, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        del key
        found, moved = [], dict(state)
        for network, own in zip(networks, batch["sessions"], strict=True):
            z, moved = _embedded(network, params, moved, own)
            found.append({name: similarity.prepared(z[name]) for name in z})
        positives = jnp.concatenate([z["positive"] for z in found])[batch["partner"]]
        temperature = similarity.temperature_of(params)
        values = [
            compare({**z, "positive": own}, temperature)
            for z, own in zip(found, jnp.split(positives, len(found)), strict=True)
        ]
        losses, metrics = zip(*values, strict=True)
        mean = jax.tree.map(lambda *each: jnp.mean(jnp.stack(each)), *metrics)
        return jnp.mean(jnp.stack(losses)), (moved, mean)

    first = cebra_embeddings(encoders[0], similarity, session_name(0))

    def embed(params: Any, state: Any, inputs: Array) -> Array:
        return first(params, state, inputs)[:, 0]

    return Method(init, loss, embed, embed, shown=("goodness", "temperature"), unit="moments")


def session_name(number: int) -> str:
    """What the parameters of a session's encoder are called."""
    return f"encoder_{number}"


def cebra_embeddings(
    encoder: nn.Module, similarity: Similarity, name: str = "encoder"
) -> Callable[[Any, Any, Array], Array]:
    """`(params, state, signal [batch, time, channels]) -> z [batch, time − r + 1, dim]`.

    Of the parameters of `cebra_method`, or of those of a session by its name, one embedding for
    each moment that has a whole window.
    """
    network = Network({name: encoder})

    def embeddings(params: Any, state: Any, signal: Array) -> Array:
        return similarity.prepared(network.evaluate(params, state, signal))

    return embeddings


def _embedded(
    network: Network, params: Any, state: Any, batch: Batch
) -> tuple[dict[str, Array], Any]:
    """The embeddings `[batch, dim]` of each kind of moment, from one forward pass."""
    names = [*MOMENTS, _LATER] if _LATER in batch else list(MOMENTS)
    windows = jnp.stack([batch[name] for name in names], axis=1)
    z, moved = network.train(params, state, flat_views(windows))
    if z.shape[1] != 1:
        problem = f"are longer than the encoder's receptive field by {z.shape[1] - 1} moments"
        raise ArgumentError("windows", windows.shape[2], problem)
    z = z.reshape(len(windows), len(names), -1)
    return {name: z[:, i] for i, name in enumerate(names)}, moved


def _comparison(
    similarity: Similarity, mesh: Mesh, block_size: int | str | None
) -> Callable[[dict[str, Array], Array], tuple[Array, Metrics]]:
    """The loss and the metrics of embeddings of each kind of moment, `[batch, dim]`."""

    def local(z: dict[str, Array], temperature: Array) -> dict[str, Array]:
        def loss_with(positive: str) -> Array:
            return temporal_loss(
                z["reference"],
                z[positive],
                z["negative"],
                temperature,
                similarity=similarity.kind,
                block_size=block_size,
                axis_name="data",
            )

        return {name: loss_with(name) for name in ("positive", _LATER) if name in z}

    # The one place that names devices: the gradient is taken outside this map, by the trainer.
    everywhere = jax.shard_map(local, mesh=mesh, in_specs=(P("data"), P()), out_specs=P())

    def compare(z: dict[str, Array], temperature: Array) -> tuple[Array, Metrics]:
        losses = everywhere(z, temperature)
        negatives = len(z["negative"])
        metrics = {
            "goodness": goodness_of_fit(losses["positive"], negatives),
            "temperature": temperature,
        }
        if _LATER in losses:
            metrics["goodness_later"] = goodness_of_fit(losses[_LATER], negatives)
        return sum(losses.values(), start=jnp.zeros(())), metrics

    return compare
