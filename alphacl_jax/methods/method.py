"""What a trainer is handed: a method."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

Batch = dict[str, Array]
Metrics = dict[str, Array]


class Method(NamedTuple):
    """A way of learning a representation, as three pure functions.

    Attributes:
      init: `(key, batch) -> (params, state)`.
      loss: `(params, state, batch, key) -> (loss, (state, metrics))`.
      features: `(params, state, inputs) -> [batch, dim]`, what probes and exports use.

    `batch` holds "views" `[batch, views, ...]` and, where the data has them, "labels" `[batch]`.
    `state` holds BatchNorm statistics and whatever else a method carries between steps.
    """

    init: Callable[[Array, Batch], tuple[Any, Any]]
    loss: Callable[[Any, Any, Batch, Array], tuple[Array, tuple[Any, Metrics]]]
    features: Callable[[Any, Any, Array], Array]
