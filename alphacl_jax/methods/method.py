"""What a trainer is handed: a method."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jax import Array

Batch = dict[str, Array]
Metrics = dict[str, Array]


class Method(NamedTuple):
    """A way of learning a representation, as four pure functions.

    A batch holds what the run's `make_batch` made of what the data yields (of images "views"
    `[batch, views, height, width, channels]`, "small_views" of another size where there are some,
    and "labels" `[batch]`, -1 where there is none), and "recorded", a boolean scalar: whether this
    step's metrics are recorded. What costs time and is there to be looked at alone is computed only
    where it is true.

    Attributes:
      init: `(key, batch) -> (params, state)`. It reads the batch's shapes and types, no values.
      loss: `(params, state, batch, key) -> (loss, (state, metrics))`; the metrics are scalars.
      features: `(params, state, inputs) -> [batch, dim]`, what probes and exports use.
      embed: `(params, state, inputs) -> [batch, dim]`, what the loss compares, in evaluation mode.
      shown: names of metrics that the progress shows beside the loss.
      unit: what a batch counts, in the plural: "images".
      warning: what the metrics of a recorded step warn of, in a sentence; "" for nothing.

    `params` is a dict by part, such as "encoder" and "projector"; `state` holds BatchNorm
    statistics and whatever else a method carries between steps.
    """

    init: Callable[[Array, Batch], tuple[Any, Any]]
    loss: Callable[[Any, Any, Batch, Array], tuple[Array, tuple[Any, Metrics]]]
    features: Callable[[Any, Any, Array], Array]
    embed: Callable[[Any, Any, Array], Array]
    shown: tuple[str, ...] = ()
    unit: str = "samples"
    warning: Callable[[Mapping[str, float]], str] = lambda recorded: ""
