"""The networks of CPC trained end to end on labels: what contexts can tell at most, about."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.methods.network import Network

READ = ("recordings", "windows", "moments")


def supervised_method(
    encoder: nn.Module, context: nn.Module, num_classes: int, *, of: str, hop: int = 1
) -> Method:
    """Softmax regression on contexts, `−log softmax(W c + b)[y]`, trained with what makes them.

    Args:
      encoder, context: as of `cpc_method`.
      num_classes: of the labels, at least 2.
      of: "recordings": c is the mean of a window's contexts, and y the label of its recording;
        "windows": the same c, and y the label of the moment in its middle; "moments": c is each
        context, and y the label of the moment in the middle of its step.
      hop: moments of a step.

    Returns:
      The method, of batches of "windows" `[batch, time, channels]`, and "labels" `[batch]` of
      recordings or "moment_labels" `[batch, time]`, of which -1 counts for nothing. `features` is
      the mean of the contexts of a window, `embed` the logits of that, `[batch, classes]`.
      Parameters are under "encoder", "context" and "classifier".

    Raises:
      ArgumentError: for fewer than two classes or other labels.
    """
    if num_classes < 2:
        raise ArgumentError("num_classes", num_classes, "must be at least 2")
    if of not in READ:
        raise ArgumentError("of", repr(of), f"must be one of {', '.join(READ)}")
    network = Network({"encoder": encoder, "context": context})
    head = nn.Dense(num_classes)

    def init(key: Array, batch: Batch) -> tuple[Any, Any]:
        own_key, head_key = jax.random.split(key)
        params, stats = network.init(own_key, batch["windows"])
        c = network.evaluate(params, stats, batch["windows"])
        return {**params, "classifier": head.init(head_key, c)["params"]}, stats

    def loss(
        params: Any, state: Any, batch: Batch, key: Array
    ) -> tuple[Array, tuple[Any, Metrics]]:
        del key
        c, state = network.train(params, state, batch["windows"])
        labels = _labels(batch, c.shape[1])
        logits = _logits(params, c if of == "moments" else jnp.mean(c, axis=1))
        known = labels >= 0
        values = optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.where(known, labels, 0)
        )
        count = jnp.maximum(jnp.sum(known), 1)
        right = jnp.sum((jnp.argmax(logits, axis=-1) == labels) & known) / count
        return jnp.sum(values * known) / count, (state, {"accuracy": right})

    def _labels(batch: Batch, steps: int) -> Array:
        if of == "recordings":
            return batch["labels"]
        of_moments = batch["moment_labels"]
        if of == "windows":
            return of_moments[:, of_moments.shape[1] // 2]
        return at_steps(of_moments, hop)[:, :steps]

    def features(params: Any, state: Any, inputs: Array) -> Array:
        return jnp.mean(network.evaluate(params, state, inputs), axis=1)

    def embed(params: Any, state: Any, inputs: Array) -> Array:
        return _logits(params, features(params, state, inputs))

    def _logits(params: Any, c: Array) -> Array:
        logits: Array = head.apply({"params": params["classifier"]}, c)  # type: ignore[assignment]
        return logits

    return Method(init, loss, features, embed, shown=("accuracy",), unit="windows")


def at_steps(of_moments: Any, hop: int) -> Any:
    """Of what is known of moments, `[..., time]`, that of each step's middle, `[..., steps]`.

    Args:
      of_moments: NumPy's or JAX's.
      hop: moments of a step.
    """
    return of_moments[..., hop // 2 :: hop]
