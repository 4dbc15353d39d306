"""What a trainer carries from step to step."""

from typing import Any, NamedTuple

import jax
from jax import Array


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
