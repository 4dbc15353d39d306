"""A trained encoder of recordings over time, from a run folder."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from alphacl_jax.data.batches import Shapes
from alphacl_jax.data.sequences import recordings_from_arrays, with_borders
from alphacl_jax.errors import ArgumentError, RunError, shown
from alphacl_jax.methods.method import Method
from alphacl_jax.runs.description import read_description
from alphacl_jax.runs.flag_file import of_recordings
from alphacl_jax.runs.folder import read_settings
from alphacl_jax.runs.method_settings import MethodSettings
from alphacl_jax.runs.optimizer import optimizer_of
from alphacl_jax.runs.recording_description import RecordingDescription
from alphacl_jax.runs.recording_methods import (
    RecordingMethod,
    make_batch_of,
    make_recording_method,
)
from alphacl_jax.runs.recording_settings import RecordingRunSettings
from alphacl_jax.runs.restoring import newest_of, require_one_seed
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import MakeBatch, init_of, make_init

# Recordings are brought to few lengths, and several are seen at once, so that one compiled function
# serves many of them.
_SHORTEST, _TOGETHER, _MOMENTS = 64, 64, 2**17


@dataclasses.dataclass(frozen=True)
class RecordingEncoder:
    """A trained network, applied to recordings as its run applied it.

    `encoder(signal)` gives features over time: the contexts of CPC, or an embedding of each moment
    of CEBRA. A recording is taken by itself: beyond its end CPC sees the mean of each channel, and
    CEBRA beyond both ends the first and the last moment.

    Attributes:
      settings: of the run.
      description: what signals must look like, and what was measured on the training recordings.
      params: the method's parameters.
      state: the method's state.
      step: how many steps it was trained.
    """

    settings: RecordingRunSettings
    description: RecordingDescription
    params: Any
    state: Any
    step: int

    def __repr__(self) -> str:
        channels = self.description.channels
        return (
            f"RecordingEncoder({self.settings.method.label} on {self.description.data}, "
            f"{channels} channel{'s' * (channels > 1)}, step {self.step})"
        )

    @property
    def variables(self) -> dict[str, Any]:
        """The "params" of all parts of the network, and their "batch_stats"."""
        return {"params": self.params, "batch_stats": self.state}

    @property
    def stride(self) -> int:
        """Moments from one step to the next."""
        return compiled_of(self)[0].stride

    def __call__(self, signal: ArrayLike) -> np.ndarray:
        """Features over time of one recording.

        Args:
          signal: numbers `[time, channels]`, or `[time]` of one channel.

        Returns:
          float32 `[steps, width]`; of an encoder that makes a step of each moment as many steps as
          the recording has moments.

        Raises:
          ArgumentError: for a signal of another rank, type or number of channels, of values that
            are not finite, and for one that is too short.
        """
        return self.over_time([signal])[0]

    def of_recording(self, signal: ArrayLike) -> np.ndarray:
        """The mean `[width]` of a recording's features over time; arguments as of a call."""
        return self(signal).mean(axis=0)

    def over_time(self, signals: Sequence[ArrayLike]) -> list[np.ndarray]:
        """Features over time of several recordings; arguments as of a call."""
        made, function = compiled_of(self)
        prepared = [self._prepared(number, signal) for number, signal in enumerate(signals)]
        steps = [made.steps(len(signal)) for signal in prepared]
        if 0 in steps:
            number = steps.index(0)
            problem = f"of {len(prepared[number])} moments is too short: the encoder makes no step"
            raise ArgumentError("signal", shown(prepared[number]), problem)
        padded = [with_borders(signal, made.before, made.after) for signal in prepared]
        by_length: dict[int, list[int]] = {}
        for number, signal in enumerate(padded):
            by_length.setdefault(_common_length(len(signal)), []).append(number)
        found: list[np.ndarray] = [np.empty(0, np.float32)] * len(signals)
        for length, numbers in by_length.items():
            together = max(1, min(_TOGETHER, _MOMENTS // length)) if len(numbers) > 1 else 1
            for start in range(0, len(numbers), together):
                some = numbers[start : start + together]
                batch = np.zeros((together, length, self.description.channels), np.float32)
                for row, number in enumerate(some):
                    batch[row, : len(padded[number])] = padded[number]
                values = np.asarray(function(self.params, self.state, batch), np.float32)
                for row, number in enumerate(some):
                    found[number] = values[row, : steps[number]]
        return found

    def _prepared(self, number: int, signal: ArrayLike) -> np.ndarray:
        """A recording's signal, checked and normalised."""
        array = np.asarray(signal)
        if array.ndim not in (1, 2):
            problem = "must be [time, channels], or [time] of one channel"
            raise ArgumentError("signal", shown(array), problem)
        try:
            checked = recordings_from_arrays([array]).signal
        except ArgumentError as error:
            problem = error.problem.replace("of recording 0", f"of recording {number}")
            raise ArgumentError("signal", error.value, problem) from error
        own = self.description
        if checked.shape[1] != own.channels:
            problem = f"has {checked.shape[1]} channels, and the encoder takes {own.channels}"
            raise ArgumentError("signal", shown(array), problem)
        return own.normalised(checked)


def _common_length(time: int) -> int:
    """At least `time`: one of the few lengths, two for each power of two, that are compiled for."""
    unit = max(_SHORTEST, 2 ** (time.bit_length() - 2))
    return -(-time // unit) * unit


def compiled_of(
    encoder: RecordingEncoder,
) -> tuple[RecordingMethod, Callable[[Any, Any, Any], Array]]:
    """The method of an encoder's run, on one device, and what it computes of signals over time."""
    own = encoder.description
    return _compiled(encoder.settings.method, own.channels, own.rate)


@functools.lru_cache(maxsize=8)
def _compiled(
    own: MethodSettings, channels: int, rate: float | None
) -> tuple[RecordingMethod, Callable[[Any, Any, Any], Array]]:
    """What is computed of recordings, compiled once for all encoders of these settings."""
    made = make_recording_method(own, channels, rate, on_one_device())
    return made, jax.jit(made.over_time)


def on_one_device() -> Mesh:
    """The first device of this process, where encoders are applied."""
    return data_mesh(jax.local_devices()[:1])


def recording_encoder_of(
    settings: RecordingRunSettings, description: RecordingDescription, state: TrainState
) -> RecordingEncoder:
    """The encoder in a train state."""
    step = int(state.step)
    return RecordingEncoder(settings, description, state.params, state.method_state, step)


def load_recording_encoder(path: str | Path) -> RecordingEncoder:
    """The encoder of a run folder; neither data nor optimiser is needed.

        encoder = load_recording_encoder("runs/japanese_vowels-cpc-1234abcd")
        contexts = encoder(signal)  # [time, channels] -> float32 [steps, width]

    Args:
      path: a run folder, whose newest good checkpoint is read.

    Raises:
      RunError: where there is none, it is of a run on images, or it cannot be read.
      UnusableCheckpointsError: where there are checkpoints and all are damaged.
    """
    folder = Path(path).expanduser()
    settings = of_recordings(read_settings(folder))
    require_one_seed(folder, settings)
    description = read_description(folder)
    if not isinstance(description, RecordingDescription):
        raise RunError(f"the run in {folder} has the description of one on images. Train it again")
    state = newest_of(folder, lambda: init_of(*_parts(settings, description)))
    return recording_encoder_of(settings, description, state)


def untrained_recording_encoder(encoder: RecordingEncoder) -> RecordingEncoder:
    """The encoder that a run started from, made again."""
    init = make_init(*_parts(encoder.settings, encoder.description), on_one_device())
    return recording_encoder_of(encoder.settings, encoder.description, init(encoder.settings.seed))


def _parts(
    settings: RecordingRunSettings, description: RecordingDescription
) -> tuple[Method, optax.GradientTransformation, MakeBatch, Shapes]:
    """What a run's states follow from, without its data."""
    own, channels = settings.method, description.channels
    made = make_recording_method(own, channels, description.rate, on_one_device())
    make_batch = make_batch_of(description.mean, description.std)
    return made.method, optimizer_of(settings.optimizer, 1)[0], make_batch, made.shapes
