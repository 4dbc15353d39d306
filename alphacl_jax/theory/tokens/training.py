"""Training of the two-layer network on token data: many runs as one program."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory import training
from alphacl_jax.theory.tokens.network import (
    Params,
    Variant,
    embed_views,
    feature_quality,
    info_nce_loss,
    init_params,
    token_cosines,
)
from alphacl_jax.theory.tokens.sequences import (
    Patterns,
    TokenSetting,
    sample_views,
    tokens_of_locations,
)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are the published recipe.

    Attributes:
      batch_size: samples a step, ≥ 2.
      outputs: dimensions of the embedding z.
      loss: a function of z, z_pos and the temperature.
      temperature: τ > 0.
      momentum: of SGD.
      weight_decay: of SGD, added to the gradient.

    Raises:
      ValueError: for a batch without negatives, or a temperature that is not positive.
    """

    batch_size: int = 128
    outputs: int = 50
    loss: Callable[[Array, Array, float], Array] = info_nce_loss
    temperature: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-3

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ArgumentError(
                "batch_size", self.batch_size, "has no negatives; it must be at least 2"
            )
        if not self.temperature > 0:
            raise ArgumentError("temperature", f"{self.temperature:g}", "must be above 0")


class Run(NamedTuple):
    """What tells runs of one program apart; each entry gets a leading axis [runs] in `train_runs`.

    Attributes:
      key: of weights and batches.
      patterns: of the data.
      embeddings: `[tokens, dim]`.
      variant: the kind of network.
      learning_rate: of SGD.
    """

    key: Array
    patterns: Patterns
    embeddings: Array
    variant: Variant
    learning_rate: Array


class State(NamedTuple):
    """A run's weights with the optimiser's state, and its step count."""

    descent: training.Descent
    step: Array


class Record(NamedTuple):
    """What is recorded of runs at one step.

    Attributes:
      step: how many steps were taken.
      quality: χ̄₊, `[runs]`.
      cosines: between filters and embeddings, `[runs, locations, filters, tokens]`.
    """

    step: int
    quality: Array
    cosines: Array


def _optimizer(recipe: Recipe, learning_rate: Array) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(recipe.weight_decay),
        optax.sgd(learning_rate, recipe.momentum),
    )


def init_state(run: Run, setting: TokenSetting, recipe: Recipe, filters: int) -> State:
    """The start of one run, with `filters` filters at each location."""
    dim = run.embeddings.shape[1]
    key = jax.random.fold_in(run.key, 0)
    params = init_params(key, setting.locations, filters, dim, recipe.outputs)
    optimizer = _optimizer(recipe, run.learning_rate)
    return State(training.begin(optimizer, params), jnp.zeros((), jnp.int32))


def train_step(state: State, run: Run, setting: TokenSetting, recipe: Recipe) -> State:
    """One step of one run on a fresh batch."""
    key = jax.random.fold_in(run.key, state.step + 1)
    views = jnp.stack(sample_views(key, run.patterns, recipe.batch_size, setting))

    def loss(params: Params) -> Array:
        z, z_pos = embed_views(params, run.embeddings, views, run.variant)
        return recipe.loss(z, z_pos, recipe.temperature)

    optimizer = _optimizer(recipe, run.learning_rate)
    after, _ = training.descend(optimizer, jax.value_and_grad(loss), state.descent)
    return State(after, state.step + 1)


@functools.partial(jax.jit, static_argnames=("setting", "recipe", "filters"))
def _start(runs: Run, setting: TokenSetting, recipe: Recipe, filters: int) -> State:
    return jax.vmap(lambda run: init_state(run, setting, recipe, filters))(runs)


# The number of steps is no constant of the program: stretches of any length share it.
@functools.partial(jax.jit, static_argnames=("setting", "recipe"), donate_argnames=("states",))
def _advance(
    states: State, runs: Run, steps: Array, setting: TokenSetting, recipe: Recipe
) -> State:
    step = jax.vmap(lambda state, run: train_step(state, run, setting, recipe))
    return jax.lax.fori_loop(0, steps, lambda _, now: step(now, runs), states)


@jax.jit
def _measure(states: State, runs: Run) -> tuple[Array, Array]:
    def one(state: State, run: Run) -> tuple[Array, Array]:
        cosines = token_cosines(state.descent.params.filters, run.embeddings)
        relevant = tokens_of_locations(run.patterns, run.embeddings.shape[0])
        return feature_quality(cosines, relevant, run.variant.linear), cosines

    return jax.vmap(one)(states, runs)


def train_runs(
    runs: Run, setting: TokenSetting, recipe: Recipe, *, filters: int, record_at: Sequence[int]
) -> Iterator[Record]:
    """Trains runs side by side, and yields a record at each of the given steps.

    Args:
      runs: stacked, each entry with a leading axis [runs].
      setting: the sizes of the data.
      recipe: of the training.
      filters: M ≥ 1, filters at each location.
      record_at: steps in rising order; the last ends the training.

    Raises:
      ValueError: for filters < 1, or steps that do not rise.
    """
    if any(b <= a for a, b in zip([-1, *record_at], record_at, strict=False)):
        raise ArgumentError("record_at", list(record_at), "must be steps >= 0 in rising order")
    states, taken = _start(runs, setting, recipe, filters), 0
    for step in record_at:
        states = _advance(states, runs, jnp.asarray(step - taken), setting, recipe)
        taken = step
        yield Record(step, *_measure(states, runs))
