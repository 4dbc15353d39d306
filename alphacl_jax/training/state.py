"""What a trainer is handed (a method), and what it carries from step to step (a state)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
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


class TrainState(NamedTuple):
    """All that a step reads and writes; a checkpoint holds it whole.

    Attributes:
      step: the number of steps taken, a scalar integer.
      params: the method's parameters.
      method_state: what the method carries between steps.
      opt_state: the optimiser's state.
      key: the data of the run's random key; step t draws from `fold_in(key, t)`.
    """

    step: Array
    params: Any
    method_state: Any
    opt_state: Any
    key: Array


def step_key(state: TrainState) -> Array:
    """The random key of the step that comes next."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
