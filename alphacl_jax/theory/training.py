"""The loops of all trainings: optimiser steps on fresh batches, looks in between, trajectories."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

_State = TypeVar("_State")
_Seen = TypeVar("_Seen")
Step = Callable[[_State, Array], tuple[_State, Array]]


class Descent(NamedTuple):
    """What an optimiser carries from step to step: parameters (a tree) and its own state."""

    params: Any
    opt_state: optax.OptState


def begin(optimizer: optax.GradientTransformation, params: Any) -> Descent:
    """The state before the first step."""
    return Descent(params, optimizer.init(params))


def descend(
    optimizer: optax.GradientTransformation,
    value_and_gradient: Callable[..., tuple[Array, Any]],
    state: Descent,
    *data: Any,
) -> tuple[Descent, Array]:
    """One step of an optimiser: the state after it, and the loss before.

    Args:
      optimizer: the rule of the step.
      value_and_gradient: of parameters and data; as `jax.value_and_grad` gives it, or with a
        gradient that is put together otherwise.
      state: before the step.
      data: of this step.
    """
    loss, gradient = value_and_gradient(state.params, *data)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    return Descent(optax.apply_updates(state.params, updates), opt_state), loss


def train(step: Step[_State], start: _State, key: Array, steps: int) -> tuple[_State, Array]:
    """Steps that each draw what they need by a key of their own, as one program.

    Args:
      step: from a state and a key to the state after and a number, such as the loss.
      start: the state before the first step.
      key: of all steps.
      steps: how many.

    Returns:
      The last state, and the numbers, `[steps]`.
    """
    return jax.lax.scan(step, start, jax.random.split(key, steps))


def train_with_looks(
    look: Callable[[_State, Array, Array], _Seen],
    step: Step[_State],
    start: _State,
    key: Array,
    *,
    steps: int,
    every: int,
) -> _Seen:
    """Training that is looked at before the first step and after each `every` steps but the last.

    Args:
      look: what is seen, of a state, a key, and the numbers (losses) of the steps up to the next
        look, `[every]`.
      step: as in `train`.
      start: the state before the first step.
      key: of all looks and steps.
      steps: a multiple of `every`.
      every: steps from one look to the next.

    Returns:
      What was seen, each array with a leading axis `[looks]`.
    """

    def stretch(state: _State, key: Array) -> tuple[_State, _Seen]:
        key_look, key_steps = jax.random.split(key)
        after, numbers = train(step, state, key_steps, every)
        return after, look(state, key_look, numbers)

    return jax.lax.scan(stretch, start, jax.random.split(key, steps // every))[1]


def trajectory(
    move: Callable[[_State], tuple[_State, _Seen]], start: _State, steps: int, *, every: int = 1
) -> tuple[_State, _Seen]:
    """A deterministic course, with what is seen along it, its start and end included.

    Args:
      move: from a state to the state after it, and what is seen of the state before.
      start: the first state.
      steps: how many moves, a multiple of `every`.
      every: moves from one look to the next.

    Returns:
      The last state, and what was seen, each array with a leading axis `[steps/every + 1]`.
    """

    def stretch(state: _State, _: None) -> tuple[_State, _Seen]:
        after, seen = move(state)
        if every > 1:
            after = jax.lax.scan(lambda s, _: (move(s)[0], None), after, length=every - 1)[0]
        return after, seen

    last, seen = jax.lax.scan(stretch, start, length=steps // every)
    # The move from the end is not kept, and so is not computed.
    at_end = move(last)[1]
    return last, jax.tree.map(lambda v, end: jnp.concatenate([v, end[None]]), seen, at_end)
