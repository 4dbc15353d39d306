"""Networks over time: trained on windows of recordings, and what they make of whole recordings."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from alphacl_jax.data.batches import Batch
from alphacl_jax.data.sequences import Recordings
from alphacl_jax.data.window_batches import one_window_each, window_batches
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.method import Method
from alphacl_jax.training.optim import make_optimizer, warmup_cosine
from alphacl_jax.training.step import make_init, make_train_step

_WARMUP = 10  # the part of the steps in which the learning rate rises
_LOOK_EVERY = 50  # steps between looks at the loss, each of which waits for the device

# `(params, state, signals [batch, time, channels]) -> [batch, steps, dim]`.
Encode = Callable[[Any, Any, Array], Array]


class Recipe(NamedTuple):
    """How a network is trained: by AdamW, on random windows.

    Attributes:
      window: moments of a window.
      batch_size: windows a step.
      steps: of the optimiser; in the first tenth the learning rate rises from 0, and then it falls
        along a cosine to 0.
      learning_rate: the peak.
      weight_decay: on weights alone.
    """

    window: int
    batch_size: int
    steps: int
    learning_rate: float
    weight_decay: float = 1e-4


class Trained(NamedTuple):
    """What came of a training.

    Attributes:
      params, state: of the method.
      recorded: the metrics of the last step, or of the one whose loss was not finite; without a
        step there are none.
    """

    params: Any
    state: Any
    recorded: Mapping[str, float]

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.recorded.get("loss", 0.0))


def train(method: Method, recordings: Recordings, recipe: Recipe, mesh: Mesh, seed: int) -> Trained:
    """Trains a method on windows of recordings.

    Args:
      method: of batches as `window_batches` makes them.
      recordings: those to train on.
      recipe: with 0 steps the network stays as it begins.
      mesh: the devices.
      seed: of the initial weights and the windows.

    Raises:
      ArgumentError: as `window_batches`, and the method's own.
    """
    batches = window_batches(recordings, recipe.window, recipe.batch_size, mesh, seed)
    init, step = _programs(method, recipe, mesh, tuple(batches.shapes.items()))
    state = init(seed)
    recorded: dict[str, float] = {}
    for number in range(1, recipe.steps + 1):
        last = number == recipe.steps
        state, metrics = step(state, next(batches), last)
        if last or number % _LOOK_EVERY == 0:
            recorded = {name: float(value) for name, value in metrics.items()}
            if not math.isfinite(recorded["loss"]):
                break
    return Trained(state.params, state.method_state, recorded)


@functools.lru_cache(maxsize=8)
def _programs(
    method: Method, recipe: Recipe, mesh: Mesh, shapes: tuple[tuple[str, Any], ...]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What makes and trains states, which the seeds of a row share, so that it is compiled once."""
    schedule = warmup_cosine(recipe.learning_rate, recipe.steps, recipe.steps // _WARMUP)
    optimizer = make_optimizer("adamw", schedule, weight_decay=recipe.weight_decay)
    return (
        make_init(method, optimizer, _as_drawn, dict(shapes), mesh),
        make_train_step(method, optimizer, _as_drawn, schedule, mesh),
    )


def _as_drawn(key: Array, raw: Batch) -> Batch:
    del key
    return raw


def each_step(
    encode: Encode, trained: Trained, recordings: Recordings, hop: int, *, batch_size: int = 16
) -> list[np.ndarray]:
    """What a network makes of whole recordings: `[its steps, dim]` of each.

    A recording is given with zeros after its end, to the length of the longest, and what the
    network makes of these is left out: steps know nothing of later ones but for what a convolution
    reaches over.

    Args:
      encode: makes one step of `hop` moments.
      trained: its parameters.
      recordings: of any lengths, of which each has a step at least.
      hop: moments.
      batch_size: recordings at a time.
    """
    encode = jax.jit(encode)
    longest = -(-int(recordings.lengths.max()) // hop) * hop
    found: list[np.ndarray] = []
    for first in range(0, len(recordings), batch_size):
        numbers = range(first, min(first + batch_size, len(recordings)))
        signals = np.zeros((batch_size, longest, recordings.signal.shape[1]), np.float32)
        for row, number in enumerate(numbers):
            signals[row, : recordings.lengths[number]] = recordings.of(number)
        made = np.asarray(encode(trained.params, trained.state, jnp.asarray(signals)))
        found += [
            made[row, : max(1, recordings.lengths[number] // hop)]
            for row, number in enumerate(numbers)
        ]
    return found


def held_out_metrics(
    method: Method,
    trained: Trained,
    recordings: Recordings,
    recipe: Recipe,
    mesh: Mesh,
    *,
    draws: int = 20,
) -> dict[str, float]:
    """The method's metrics of recordings that it was not trained on, means over batches.

    Each batch has windows of as many different recordings as a training batch has windows, so that
    it has as many candidates; where there are fewer, of as many as the devices divide.

    Args:
      method, trained: as from `train`.
      recordings: held out.
      recipe: of the training.
      mesh: the devices of the method.
      draws: batches.

    Raises:
      ArgumentError: for fewer recordings that are as long as a window than devices.
    """
    there = int((recordings.lengths >= recipe.window).sum())
    rows = min(recipe.batch_size, there) // mesh.size * mesh.size
    if not rows:
        problem = f"of a window's length or more are too few for {mesh.size} devices"
        raise ArgumentError("recordings", there, problem)
    loss = jax.jit(method.loss)
    found: list[dict[str, float]] = []
    for seed in range(draws):
        batch = one_window_each(recordings, recipe.window, seed, most=rows)
        batch["recorded"] = jnp.array(True)
        value, (_, metrics) = loss(trained.params, trained.state, batch, jax.random.key(seed))
        found.append({"loss": float(value), **{k: float(v) for k, v in metrics.items()}})
    return {name: float(np.mean([of[name] for of in found])) for name in found[0]}
