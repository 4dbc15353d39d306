"""The loop around the training step: resuming, records, checkpoints, and how a run ends."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alphacl_jax.data.batches import Batches
from alphacl_jax.methods.method import Metrics
from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.hosts import StopVote, is_writer
from alphacl_jax.training.records import Progress, Recorder
from alphacl_jax.training.seeds import SeedsBatches, SeedsCheckpoints, SeedsRecorder
from alphacl_jax.training.state import TrainState

# Its second argument is what its batches yield: a batch, or a list with one per seed.
TrainStep = Callable[[TrainState, Any], tuple[TrainState, Metrics]]


class NonFiniteLossError(RuntimeError):
    """The loss, the gradient or the parameters became NaN or infinite."""


class InterruptedBySignal(Exception):
    """SIGTERM or SIGINT came; the state was saved.

    Attributes:
      number: of the signal.
    """

    def __init__(self, number: signal.Signals, step: int, total_steps: int):
        self.number = number
        super().__init__(
            f"{number.name} came: step {step} of {total_steps} is saved; the same command resumes "
            "there"
        )


@dataclass(frozen=True)
class Schedule:
    """When the loop does what, in steps.

    Attributes:
      total_steps: the steps of the whole run.
      log_every: between records, which also look for NaN.
      save_every: between checkpoints.
    """

    total_steps: int
    log_every: int
    save_every: int


def train(
    state: TrainState,
    train_step: TrainStep,
    batches: Batches | SeedsBatches,
    schedule: Schedule,
    workdir: Path | Mapping[int, Path],
    *,
    batch_size: int,
    learning_rate: optax.Schedule,
) -> TrainState:
    """Trains to the last step, from the newest good checkpoint in `workdir` where there is one.

    Where several processes train, each calls this; the first of them alone writes records, and a
    signal that comes to one of them stops all after the same step.

    Args:
      state: the state before the first step; its memory is given up.
      train_step: from `make_train_step`, or for several seeds from `make_seeds_step`.
      batches: from `open_batches`; its position is restored with the state.
      schedule: when to stop, record and save.
      workdir: the run folder; checkpoints go to `checkpoints/`, records to `metrics.jsonl`. Or,
        for seeds that train as one program, the run folder of each seed, in the order of the
        state's members; the state is then that of `stack_states`.
      batch_size: of one seed, for images per second.
      learning_rate: by step, for the records.

    Returns:
      The state after the last step, which is saved.

    Raises:
      NonFiniteLossError: at a NaN or infinite loss, gradient or parameter, naming the step and,
        of several seeds, the seed. The last checkpoint from before it is kept, and none after it
        is written.
      InterruptedBySignal: after SIGTERM or SIGINT, once the state is saved.
      UnusableCheckpointsError: where there are checkpoints and none can be read.
    """
    seeds = list(workdir) if isinstance(workdir, Mapping) else []
    checkpoints = (
        SeedsCheckpoints(list(workdir.values()))
        if isinstance(workdir, Mapping)
        else Checkpoints(workdir / "checkpoints")
    )
    try:
        restored = checkpoints.restore(state)
        if restored is not None:
            state, position = restored
            batches.set_state(position)
        first = int(jnp.ravel(state.step)[0])
        if first >= schedule.total_steps:
            return state

        def run(recorder: Recorder | SeedsRecorder | None, progress: Progress | None) -> TrainState:
            return _run(
                state,
                train_step,
                batches,
                schedule,
                checkpoints,
                recorder,
                progress,
                learning_rate,
                seeds,
            )

        if not is_writer():
            return run(None, None)
        recorder = (
            SeedsRecorder(list(workdir.values()), first)
            if isinstance(workdir, Mapping)
            else Recorder(workdir, first)
        )
        progress = Progress(schedule.total_steps, first, batch_size * max(1, len(seeds)))
        try:
            return run(recorder, progress)
        finally:
            progress.close()
            recorder.close()
    finally:
        checkpoints.close()


def _run(
    state: TrainState,
    train_step: TrainStep,
    batches: Batches | SeedsBatches,
    schedule: Schedule,
    checkpoints: Checkpoints | SeedsCheckpoints,
    recorder: Recorder | SeedsRecorder | None,
    progress: Progress | None,
    learning_rate: optax.Schedule,
    seeds: Sequence[int],
) -> TrainState:
    first = int(jnp.ravel(state.step)[0])
    unread: list[tuple[int, Metrics]] = []

    def record() -> None:
        # Metrics are fetched here alone: fetching each step's would make devices wait for the host.
        values = [(step, jax.device_get(metrics)) for step, metrics in unread]
        unread.clear()
        for step, metrics in values:
            _check_finite(step, metrics, checkpoints, seeds)
        if recorder is None or progress is None:
            return  # another process writes
        step, last = values[-1]
        # Numbers, or of several seeds lists of them.
        means = {k: (sum(m[k] for _, m in values) / len(values)).tolist() for k in last}
        shown = {k: float(np.mean(means[k])) for k in ("loss", "energy") if k in means}
        progress.update(step, shown["loss"], shown.get("energy"))
        recorder.write(
            {
                "step": step,
                "epoch": step / batches.steps_per_epoch,
                **means,
                "learning_rate": float(learning_rate(step - 1)),
                "images_per_second": progress.images_per_second / max(1, len(seeds)),
            }
        )

    vote = StopVote()
    with _stop_requests() as stop_requested:
        for step in range(first + 1, schedule.total_steps + 1):
            state, metrics = train_step(state, next(batches))
            unread.append((step, metrics))
            if step == first + 1:
                jax.block_until_ready(metrics)
                if progress is not None:
                    progress.begin(step)
            received = vote(stop_requested(), metrics)
            last = step == schedule.total_steps or received is not None
            save = last or step % schedule.save_every == 0
            if save or step % schedule.log_every == 0:
                record()
            if save:
                checkpoints.save(state, batches.get_state())
            if received is not None and step < schedule.total_steps:
                raise InterruptedBySignal(received, step, schedule.total_steps)
    return state


def _check_finite(
    step: int,
    metrics: Metrics,
    checkpoints: Checkpoints | SeedsCheckpoints,
    seeds: Sequence[int],
) -> None:
    for name in ("loss", "gradient_norm", "parameter_norm"):
        for i, value in enumerate(np.ravel(metrics[name])):
            if np.isfinite(value):
                continue
            saved = checkpoints.steps()
            kept = f"the checkpoint of step {saved[-1]} is kept" if saved else "none was saved yet"
            of_seed = f" of seed {seeds[i]}" if seeds else ""
            raise NonFiniteLossError(
                f"{name}{of_seed} is {value} at step {step}; training stopped, {kept}. Lower "
                "--learning_rate, raise --temperature, or set --clip_norm"
            )


@contextmanager
def _stop_requests() -> Iterator[Callable[[], signal.Signals | None]]:
    """Turns SIGTERM and SIGINT into a question that the loop asks between steps."""
    received: list[signal.Signals] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(signal.Signals(number))

    names = (signal.SIGTERM, signal.SIGINT)
    before = {name: signal.signal(name, handle) for name in names}
    try:
        yield lambda: received[0] if received else None
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
