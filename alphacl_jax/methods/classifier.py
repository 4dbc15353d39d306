"""The supervised baseline: encoder and a linear layer, trained by cross-entropy on labels."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.method import Batch, Method, Metrics


def classifier_method(encoder: nn.Module, num_classes: int) -> Method:
    """Softmax regression on the encoder's features, `−log softmax(W h + b)[y]`, one view a sample.

    Args:
      encoder: maps `[batch, height, width, channels]` to `[batch, features]`, called with `train=`.
      num_classes: of the labels, at least 2.

    Returns:
      The method. Its batches have one view; `embed` gives the logits. Parameters are under
      "encoder" and "classifier".
    """
    if num_classes < 2:
        raise ArgumentError("num_classes", num_classes, "must be at least 2")
    head = nn.Dense(num_classes)

    def init(key: Array, batch: Batch) -> tuple[Any, Any]:
        encoder_key, head_key = jax.random.split(key)
        h, variables = encoder.init_with_output(encoder_key, batch["views"][:, 0], train=True)
        params = {"encoder": variables["params"], "classifier": head.init(head_key, h)["params"]}
        return params, {"encoder": variables.get("batch_stats", {})}

    def loss(
        params: Any, state: Any, batch: Batch, key: Array
    ) -> tuple[Array, tuple[Any, Metrics]]:
        del key
        views = batch["views"]
        if views.shape[1] != 1:
            raise ArgumentError("views", views.shape[1], "came, and the classifier reads one")
        variables = {"params": params["encoder"], "batch_stats": state["encoder"]}
        h, updates = encoder.apply(variables, views[:, 0], train=True, mutable=["batch_stats"])
        logits: Array = head.apply({"params": params["classifier"]}, h)  # type: ignore[assignment]
        value = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]))
        right = jnp.mean(jnp.argmax(logits, axis=1) == batch["labels"])
        new_state = {"encoder": updates.get("batch_stats", state["encoder"])}
        return value, (new_state, {"accuracy": right})

    def features(params: Any, state: Any, inputs: Array) -> Array:
        variables = {"params": params["encoder"], "batch_stats": state["encoder"]}
        h: Array = encoder.apply(variables, inputs, train=False)  # type: ignore[assignment]
        return h

    def embed(params: Any, state: Any, inputs: Array) -> Array:
        h = features(params, state, inputs)
        z: Array = head.apply({"params": params["classifier"]}, h)  # type: ignore[assignment]
        return z

    return Method(init, loss, features, embed, shown=("accuracy",), unit="images")
