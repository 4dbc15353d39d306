"""The loop around the training step: resuming, records, hooks, checkpoints, and how a run ends."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh

from alphacl_jax.data.batches import Batches, OtherBatchesError
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.method import Metrics
from alphacl_jax.signals import hand_on
from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.records import RunRecords
from alphacl_jax.training.seeds import SeedsBatches, SeedsCheckpoints
from alphacl_jax.training.signals import stop_requests
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.vote import StopVote

# Its second argument is what its batches yield: a batch, or a list with one per seed; its third
# is whether the step is recorded.
TrainStep = Callable[[TrainState, Any, bool], tuple[TrainState, Metrics]]

# Looked at for NaN at every step, and recorded as means over the steps since the last record.
_WATCHED = ("loss", "gradient_norm", "parameter_norm")


class NonFiniteLossError(RuntimeError):
    """The loss, the gradient or the parameters became NaN or infinite.

    Attributes:
      name: of the value: "loss", "gradient_norm" or "parameter_norm".
      value: what it was.
      step: the first at which it was so.
      member: which of several runs that train as one program, or None where it is one.
    """

    def __init__(self, name: str, value: float, step: int, member: int | None, saved: int | None):
        self.name, self.value, self.step, self.member = name, value, step, member
        kept = "none was saved yet" if saved is None else f"the checkpoint of step {saved} is kept"
        super().__init__(
            f"{name} is {value} at step {step}; training stopped, {kept}. Lower the learning rate, "
            "clip the gradient, or raise the temperature of a loss that has one"
        )


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
      log_every: between records.
      save_every: between checkpoints.
      save_seconds: since the last checkpoint, or the start, after which one is written too.
    """

    total_steps: int
    log_every: int
    save_every: int
    save_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "must be at least 1 step")


class Hook(NamedTuple):
    """Something that is done while a run trains, such as an evaluation.

    Attributes:
      every: how many steps; also after the last one.
      run: `(step, state) -> values that join the record of that step`, numbers, or of several
        seeds lists with one for each. Where several processes train, all of them call it. The
        state is not to be changed, nor to be kept: its memory is given up to the next step.
    """

    every: int
    run: Callable[[int, TrainState], Mapping[str, Any]]


def train(
    state: TrainState,
    step: TrainStep,
    batches: Batches | SeedsBatches,
    schedule: Schedule,
    checkpoints: Checkpoints | SeedsCheckpoints,
    recorder: RunRecords | None = None,
    hooks: Sequence[Hook] = (),
    *,
    mesh: Mesh,
    data_changed: bool = False,
) -> TrainState:
    """Trains to the last step, from the newest good checkpoint where there is one.

    A step is recorded at every `schedule.log_every`, where a hook runs, and at the last. A record
    has the means of loss, gradient norm and parameter norm since the one before, the learning rate
    and the method's metrics of its own step, and what the hooks found.

    Where several processes train, each calls this; a signal that comes to one of them stops all
    after the same step.

    Args:
      state: the state before the first step, or for several seeds that of `stack_states`; its
        memory is given up.
      step: from `make_train_step`, or for several seeds from `make_seeds_step`.
      batches: from `open_batches`, or for several seeds their `SeedsBatches`; the position is
        restored with the state.
      schedule: when to stop, record and save.
      checkpoints: of the run or runs; whoever opened them closes them.
      recorder: opened and closed here; None in a process that writes no records.
      hooks: what else is done while it trains.
      mesh: the devices that the step was made for.
      data_changed: whether checkpoints may have a position in other data; these are then begun.

    Returns:
      The state after the last step, which is saved.

    Raises:
      NonFiniteLossError: at a NaN or infinite loss, gradient or parameter. The last checkpoint
        from before it is kept, and none after it is written.
      InterruptedBySignal: after SIGTERM or SIGINT, once the state is saved. A second signal ends
        the process. One that comes in the last step is handed on to whoever handled it before.
      UnusableCheckpointsError: where there are checkpoints and none can be read.
    """
    unrecorded: Mapping[str, list[Any]] = {}
    if (restored := checkpoints.restore(state)) is not None:
        state, position = restored
        try:
            batches.set_state(position["data"])
        except OtherBatchesError:
            if not data_changed:
                raise
        unrecorded = position["unrecorded"]
    first = int(jnp.ravel(state.step)[0])
    if first >= schedule.total_steps:
        return state
    run = _Run(step, batches, schedule, checkpoints, recorder, hooks, _SinceRecord(unrecorded))
    if recorder is None:
        return run.to_the_end(state, first, mesh)
    recorder.begin(first)
    try:
        return run.to_the_end(state, first, mesh)
    finally:
        recorder.close()


@dataclass(frozen=True)
class _Run:
    """What `train` was given, to take the steps that are left."""

    step: TrainStep
    batches: Batches | SeedsBatches
    schedule: Schedule
    checkpoints: Checkpoints | SeedsCheckpoints
    recorder: RunRecords | None
    hooks: Sequence[Hook]
    since: "_SinceRecord"

    def to_the_end(self, state: TrainState, first: int, mesh: Mesh) -> TrainState:
        total, save_every = self.schedule.total_steps, self.schedule.save_every
        vote, saved_at = StopVote(mesh), time.monotonic()
        with stop_requests() as stop_requested:
            for number in range(first + 1, total + 1):
                recorded = self._is_recorded(number)
                state, metrics = self.step(state, next(self.batches), recorded)
                self.since.add(number, metrics)
                if number == first + 1:
                    jax.block_until_ready(metrics)
                    if self.recorder is not None:
                        self.recorder.started(number)
                signalled, due = vote(stop_requested(), self._is_due(saved_at), metrics)
                save = due or signalled or number == total or number % save_every == 0
                if recorded or save:
                    self.since.fetch(self.checkpoints)
                if recorded:
                    self._record(number, state, metrics)
                if save:
                    if self.recorder is not None:
                        self.recorder.sync()
                    position = {"data": self.batches.get_state(), "unrecorded": self.since.values()}
                    self.checkpoints.save(state, position)
                    saved_at = time.monotonic()
                    vote.saved()
                if signalled and number < total:
                    raise InterruptedBySignal(signalled, number, total)
        if late := stop_requested():
            hand_on(late)
        return state

    def _is_recorded(self, number: int) -> bool:
        every = [self.schedule.log_every, *(hook.every for hook in self.hooks)]
        return number == self.schedule.total_steps or any(number % n == 0 for n in every)

    def _is_due(self, saved_at: float) -> bool:
        seconds = self.schedule.save_seconds
        return seconds is not None and time.monotonic() - saved_at >= seconds

    def _record(self, number: int, state: TrainState, metrics: Metrics) -> None:
        if damage := self.batches.damage_since(number):
            logging.warning("%s", damage)
        means = self.since.take_means()
        own = {name: np.asarray(x).tolist() for name, x in jax.device_get(metrics).items()}
        start, found = time.monotonic(), dict[str, Any]()
        for hook in self.hooks:
            if number % hook.every == 0 or number == self.schedule.total_steps:
                found |= hook.run(number, state)
        if self.recorder is not None:
            epoch = number / self.batches.steps_per_epoch
            record = {"step": number, "epoch": epoch, **own, **means, **found}
            self.recorder.write(record, aside=time.monotonic() - start)


class _SinceRecord:
    """The watched values of the steps since the last record, numbers or lists over members.

    They are fetched where they are needed and not before: fetching each step's would make the
    devices wait for the host. Checkpoints keep them, so that a resumed run has the same records.
    """

    def __init__(self, values: Mapping[str, list[Any]]):
        self._values = {name: list(values.get(name, [])) for name in _WATCHED}
        self._unread: list[tuple[int, Metrics]] = []

    def add(self, step: int, metrics: Metrics) -> None:
        self._unread.append((step, {name: metrics[name] for name in _WATCHED}))

    def fetch(self, checkpoints: Checkpoints | SeedsCheckpoints) -> None:
        """Reads what is unread, and raises a NonFiniteLossError where it is not finite."""
        for step, metrics in self._unread:
            for name, values in jax.device_get(metrics).items():
                _check_finite(name, values, step, checkpoints)
                self._values[name].append(np.asarray(values).tolist())
        self._unread.clear()

    def take_means(self) -> dict[str, Any]:
        """The means, in float64, of what was fetched; a new record begins."""
        means = {name: np.mean(of, axis=0).tolist() for name, of in self._values.items()}
        self._values = {name: [] for name in _WATCHED}
        return means

    def values(self) -> dict[str, list[Any]]:
        """What was fetched since the last record, step by step, as JSON can hold it."""
        return self._values


def _check_finite(
    name: str, values: Any, step: int, checkpoints: Checkpoints | SeedsCheckpoints
) -> None:
    for member, value in enumerate(np.ravel(values)):
        if not np.isfinite(value):
            saved = checkpoints.steps()
            raise NonFiniteLossError(
                name,
                float(value),
                step,
                member if np.ndim(values) else None,
                saved[-1] if saved else None,
            )
