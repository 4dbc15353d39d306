"""The training of an encoder of moments as compiled loops over data on the device.

A step draws its moments, cuts their windows and updates the parameters; the device takes many of
them before the host is told. How many at a time makes no difference to the numbers: step t draws
from `fold_in(key, t)`, in the same program.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from alphacl_jax.data.positive_batches import cut_windows
from alphacl_jax.data.positives import draw_across, drawn_from_sessions
from alphacl_jax.data.sequences import Recordings
from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.methods.cebra import cebra_method, cebra_sessions_method
from alphacl_jax.methods.method import Batch, Method
from alphacl_jax.sequences.model import HISTORIES, Histories, Problem
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import init_of, make_init, step_of

# Iterations between two looks of the host: at first, and at most.
_FIRST, _MOST = 8, 1024
# For so long a bar may stand still, and Ctrl-C be unheard.
_SECONDS = 0.5
# Over so many batches the goodness of fit is averaged.
_BATCHES_OF_SCORE = 64
# What the errors of data call otherwise than the estimator.
_NAMES = {"offset": "time_offset", "recordings": "X", "rule": "positives", "labels": "context"}


class Programs(NamedTuple):
    """What trains and measures, compiled once for each shape of data.

    Attributes:
      init: `seed -> state before the first iteration`.
      run: `(state, arrays, count, learning rate) -> (state, histories [1024])`, of which the first
        `count` are of its iterations; beside `HISTORIES` there is "parameter_norm".
      goodness: `(state, arrays, key) -> bits`.
      shapes: of the state.
    """

    init: Callable[[int], TrainState]
    run: Callable[[TrainState, Any, int, float], tuple[TrainState, dict[str, Array]]]
    goodness: Callable[[TrainState, Any, Array], Array]
    shapes: TrainState


def arrays_of(problem: Problem, sessions: Sequence[Recordings]) -> list[dict[str, np.ndarray]]:
    """What the moments and windows of a problem are drawn from, for its programs.

    Raises:
      ArgumentError: where that is nothing, see `drawn_from_sessions`.
    """
    encoder = problem.encoder
    for number, each in enumerate(sessions):
        longest = each.lengths.max()
        if longest < max(encoder.receptive_field, 2):
            which = f"of session {number} " if problem.are_listed else ""
            some = "1 sample" if longest == 1 else f"{longest} samples"
            text = (
                f"{which}has at most {some} (moments) in a row: a window of them has "
                f"receptive_field={encoder.receptive_field}, and a positive is another moment"
            )
            raise ArgumentError("X", shown(each.signal), text)
    try:
        found = drawn_from_sessions(sessions, problem.positives, encoder.before, encoder.after)
    except ArgumentError as error:
        name, value = _NAMES.get(error.argument, error.argument), error.value
        if error.argument == "recordings" and problem.positives.reads_labels:
            name, value = "context", shown(sessions[0].moment_labels)
        raise ArgumentError(name, value, error.problem) from error
    return [{**arrays, "signal": each.signal} for arrays, each in zip(found, sessions, strict=True)]


@functools.lru_cache(maxsize=64)
def programs_of(problem: Problem) -> Programs:
    """Programs, which fits of equal settings share."""
    mesh = data_mesh(jax.local_devices()[:1])
    if problem.are_listed:
        encoders = [problem.encoder] * len(problem.channels)
        method = cebra_sessions_method(encoders, mesh, problem.similarity)
    else:
        method = cebra_method(problem.encoder, mesh, problem.similarity)
    draw = functools.partial(_draw, problem)
    blank = functools.partial(_blank, problem)
    optimizer = optax.adam(1.0)  # of the same state at any rate
    return Programs(
        init=make_init(method, optimizer, blank, {}, mesh),
        run=jax.jit(functools.partial(_run, method, draw)),
        goodness=jax.jit(functools.partial(_goodness, method, draw)),
        shapes=jax.eval_shape(init_of(method, optimizer, blank, {}), jax.random.key(0)),
    )


def train(
    programs: Programs, state: TrainState, arrays: Any, iterations: int, learning_rate: float
) -> Iterator[tuple[TrainState, Histories]]:
    """Takes so many iterations, and tells after each few of them the state, and their histories.

    Args:
      programs: of the problem.
      state: to start from; it stays as it is.
      arrays: of `arrays_of`.
      iterations: at least 1.
      learning_rate: of Adam.

    Raises:
      FloatingPointError: where the loss or the parameters are no longer finite.
    """
    arrays = jax.device_put(arrays, jax.local_devices()[0])
    done, count = 0, _FIRST
    while done < iterations:
        count, start = min(count, iterations - done), time.monotonic()
        state, found = jax.device_get(programs.run(state, arrays, count, learning_rate))
        histories = {name: values[:count] for name, values in found.items()}
        _require_finite(histories, int(state.step) - count)
        yield state, {name: histories[name] for name in HISTORIES}
        done += count
        # The first time is that of compiling, too, so that it is repeated at the least.
        seconds = time.monotonic() - start
        count = min(2 * count, _MOST) if seconds < _SECONDS / 2 else count
        count = max(count // 2, 1) if seconds > _SECONDS and done > _FIRST else count


def _require_finite(histories: Mapping[str, np.ndarray], before: int) -> None:
    for name in ("loss", "parameter_norm"):
        bad = np.flatnonzero(~np.isfinite(histories[name]))
        if len(bad):
            words = name.replace("_", " ")
            value = histories[name][bad[0]]
            raise FloatingPointError(f"the {words} is {value} at iteration {before + bad[0] + 1}")


def _draw(problem: Problem, key: Array, arrays: Sequence[Batch]) -> Batch:
    """The windows of a batch, as the method reads them."""
    encoder = problem.encoder
    moments, partner = draw_across(key, arrays, problem.positives, problem.batch_size)
    windows: list[Batch] = [
        cut_windows(own["signal"], at, encoder.before, encoder.after)
        for own, at in zip(arrays, moments, strict=True)
    ]
    return _as_batch(problem, windows, partner)


def _blank(problem: Problem, key: Array, raw: Batch) -> Batch:
    """What a method is initialised by: a window for each session."""
    del key, raw
    lengths = problem.encoder.receptive_field
    windows = [{"reference": jnp.zeros((1, lengths, channels))} for channels in problem.channels]
    return _as_batch(problem, windows, jnp.arange(len(windows)))


def _as_batch(problem: Problem, windows: list[Batch], partner: Array) -> Any:
    return {"sessions": windows, "partner": partner} if problem.are_listed else windows[0]


def _run(
    method: Method,
    draw: Callable[[Array, Any], Batch],
    state: TrainState,
    arrays: Any,
    count: Array,
    learning_rate: Array,
) -> tuple[TrainState, dict[str, Array]]:
    step = step_of(method, optax.adam(learning_rate), draw, lambda _: learning_rate)
    names = (*HISTORIES, "parameter_norm")

    def body(i: Array, carry: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
        state, histories = carry
        state, metrics = step(state, arrays, jnp.array(True))
        now = {name: jnp.float32(metrics[name]) for name in names}
        return state, {name: histories[name].at[i].set(now[name]) for name in names}

    histories = {name: jnp.zeros(_MOST, jnp.float32) for name in names}
    return jax.lax.fori_loop(0, count, body, (state, histories))


def _goodness(
    method: Method,
    draw: Callable[[Array, Any], Batch],
    state: TrainState,
    arrays: Any,
    key: Array,
) -> Array:
    def of_batch(key: Array) -> Array:
        draw_key, loss_key = jax.random.split(key)
        batch = {**draw(draw_key, arrays), "recorded": jnp.array(True)}
        _, (_, metrics) = method.loss(state.params, state.method_state, batch, loss_key)
        return metrics["goodness"]

    return jnp.mean(jax.lax.map(of_batch, jax.random.split(key, _BATCHES_OF_SCORE)))


def goodness_of(programs: Programs, state: TrainState, arrays: Any, seed: int) -> float:
    """The goodness of fit in bits, of batches that are drawn by the seed."""
    return float(programs.goodness(state, arrays, jax.random.key(seed)))
