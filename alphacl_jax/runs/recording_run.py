"""A run on recordings over time: from settings to data, batches and method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from alphacl_jax.data.batches import Shapes
from alphacl_jax.data.drawn_batches import DrawnBatches
from alphacl_jax.data.positives import Positives
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.method import Method
from alphacl_jax.runs.any_run import AnyRun, Training, prepare_training
from alphacl_jax.runs.description import is_described, read_description
from alphacl_jax.runs.folder import of_seeds
from alphacl_jax.runs.recording_data import RecordingData, channel_statistics, load_data
from alphacl_jax.runs.recording_description import RecordingDescription
from alphacl_jax.runs.recording_encoder import RecordingEncoder, recording_encoder_of
from alphacl_jax.runs.recording_methods import (
    make_batch_of,
    make_recording_method,
    named_by_settings,
    resolved,
)
from alphacl_jax.runs.recording_probes import recording_probe_hooks
from alphacl_jax.runs.recording_settings import CEBRASettings, CPCSettings, RecordingRunSettings
from alphacl_jax.training.loop import Hook
from alphacl_jax.training.optim import Part
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import MakeBatch


@dataclass(frozen=True)
class RecordingRun(AnyRun):
    """What the settings of a run on recordings stand for.

    Attributes:
      settings: of the run.
      data: what is trained on, and what is kept for tests.
      mean, std: of each channel, by which the signals are normalised; 0 and 1 where they are not.
      batches: opened, of the run's first seed.
      mesh: the devices.
      method: what is trained.
    """

    settings: RecordingRunSettings
    data: RecordingData
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batches: DrawnBatches
    mesh: Mesh
    method: Method

    def as_begun(self, training: Training, workdir: Path) -> tuple["RecordingRun", Training]:
        """The same with the mean and deviation that the run in the folder began with."""
        begun = next((folder for folder in of_seeds(workdir) if is_described(folder)), None)
        if begun is None:
            return self, training
        there = read_description(begun)
        if not isinstance(there, RecordingDescription) or there.channels != len(self.mean):
            return self, training  # which the folder refuses
        if (there.mean, there.std) == (self.mean, self.std):
            return self, training
        run = replace(self, mean=there.mean, std=there.std)
        return run, prepare_training(run, training.batches)

    def with_settings(self, settings: RecordingRunSettings) -> "RecordingRun":
        return replace(self, settings=settings)

    @property
    def title(self) -> str:
        return self.data.title

    @property
    def make_batch(self) -> MakeBatch:
        return make_batch_of(self.mean, self.std)

    def raw_shapes(self, batch_size: int) -> Shapes:
        return {
            name: jax.ShapeDtypeStruct((batch_size, *of.shape[1:]), of.dtype)
            for name, of in self.batches.shapes.items()
        }

    def open_batches(self) -> DrawnBatches:
        return self.batches.with_seed(self.settings.seed)

    @property
    def parts(self) -> Mapping[str, Part]:
        return {}

    def describe(self, batches: Any) -> RecordingDescription:
        train = self.data.train
        return RecordingDescription(
            channels=train.signal.shape[1],
            rate=train.rate,
            mean=self.mean,
            std=self.std,
            class_names=train.class_names,
            moment_names=train.moment_names,
            data=self.title,
            num_recordings=len(train),
            num_moments=len(train.signal),
            steps_per_epoch=batches.steps_per_epoch,
            fingerprint=self.data.fingerprint,
        )

    def sample(self) -> dict[str, str]:
        return self.data.sample()

    def starts_from(self) -> None:
        return None

    def start(self, init: Callable[[int], TrainState]) -> TrainState:
        return init(self.settings.seed)

    def encoder(self, description: RecordingDescription, state: TrainState) -> RecordingEncoder:
        return recording_encoder_of(self.settings, description, state)

    def hooks(self, training: Training, untrained: Mapping[str, RecordingEncoder]) -> list[Hook]:
        return recording_probe_hooks(self.settings, self.data.train, training, untrained)

    def in_words(self, batches: Any) -> tuple[str, str]:
        train, own = self.data.train, self.settings.method
        channels, rate = train.signal.shape[1], train.rate
        per_second = "" if rate is None else f" at {rate:g} per second"
        of = f"{channels} channel{'s' * (channels > 1)}{per_second}"
        title = f"{self.title}: {len(train):,} recordings of {len(train.signal):,} moments, {of}"
        kept = "nothing is kept for tests"
        if self.data.test is not None:
            kept = self.data.held_out or f"a part of {len(self.data.test):,} recordings"
            kept = f"for tests: {kept}"
        return title, f"{_in_words(own, train.lengths, channels, rate)}; {kept}\n"


def _in_words(own: Any, lengths: Any, channels: int, rate: float | None) -> str:
    if isinstance(own, CPCSettings):
        own = resolved(own, channels, rate)
        short = int((lengths < own.window).sum())
        left_out = f" ({short:,} shorter recordings are left out)" if short else ""
        return (
            f"encoder {own.encoder}, {own.prediction_steps} steps ahead in windows of "
            f"{own.window:,} moments{left_out}"
        )
    return f"embeddings of {own.output_dim} numbers, each of {own.receptive_field} moments"


def open_recording_run(
    settings: RecordingRunSettings, mesh: Mesh, data: RecordingData | None = None
) -> RecordingRun:
    """Opens the data and builds the method that the settings describe.

    Args:
      settings: of the run.
      mesh: the devices, with an axis "data".
      data: the recordings, where they are not those that the settings name.

    Raises:
      ValueError, FileNotFoundError: where settings or data cannot be used; the message says why.
      ModuleNotFoundError: where a library of the extra [sequences] is missing.
    """
    own, batch_size = settings.method, settings.optimizer.batch_size
    if data is None:
        make_recording_method(own, 1, None, mesh)  # impossible settings, before data is looked for
        data = load_data(settings.data, in_time=holds_out_time(settings))
    train = data.train
    channels = train.signal.shape[1]
    mean, std = (0.0,) * channels, (1.0,) * channels
    if settings.data.normalize:
        mean, std = channel_statistics(train)
    _require_what_is_read(own, data)
    made = make_recording_method(own, channels, train.rate, mesh)
    with named_by_settings():
        batches = made.open_batches(train, batch_size, mesh, settings.seed)
        run = RecordingRun(settings, data, mean, std, batches, mesh, made.method)
        _check_loss(run, batch_size)
    return run


def holds_out_time(settings: RecordingRunSettings) -> bool:
    """Whether what is kept for tests is the last part of the time: positives are near in time."""
    return isinstance(settings.method, CEBRASettings)


def _require_what_is_read(own: Any, data: RecordingData) -> None:
    """Refuses positives and negatives that are told by what the recordings do not have."""
    train = data.train
    if isinstance(own, CPCSettings):
        if own.negatives.startswith("same") and not train.class_names:
            problem = f"are told by the recordings' labels, and {data.title} has none"
            raise ArgumentError("negatives", own.negatives, problem)
        return
    positives = Positives(rule=own.positives, within_labels=own.within_labels)
    for read, there, what in (
        (positives.reads_labels, bool(train.moment_names), "class"),
        (positives.reads_context, train.context.shape[1] > 0, "context"),
    ):
        if read and not there:
            problem = f"are told by the {what} of each moment, and {data.title} has none"
            raise ArgumentError("positives", own.positives, problem)


def _check_loss(run: RecordingRun, batch_size: int) -> None:
    """Refuses what the loss cannot be computed of, by shapes alone."""
    key, raw = jax.random.key(0), run.raw_shapes(batch_size)
    batch = jax.eval_shape(run.make_batch, key, raw)
    batch["recorded"] = jax.ShapeDtypeStruct((), bool)
    params, state = jax.eval_shape(run.method.init, key, batch)
    jax.eval_shape(run.method.loss, params, state, batch, key)
