"""The recordings of a run: those it is trained on, and those that are kept for tests."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.data.recordings import load_recordings
from alphacl_jax.data.sequences import Recordings
from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.held_out import time_split
from alphacl_jax.runs.recording_settings import ARRAYS, RecordingDataSettings

# What may be cut for tests: whole recordings, drawn at random, or the last part of the time.
_DRAW = 0  # the seed, the same whatever the run's, so that runs can be compared
_SAMPLED = 64  # recordings


@dataclass(frozen=True, eq=False)
class RecordingData:
    """Recordings to train on, and others to test on.

    Attributes:
      train: what is trained on.
      test: None where there is nothing to test on.
      title: of the source.
      held_out: how the test recordings came about, for people to read; "" of a source that has a
        part for tests.
    """

    train: Recordings
    test: Recordings | None
    title: str
    held_out: str = ""

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with the recordings that are trained on."""
        train, digest = self.train, hashlib.sha256()
        for array in (
            *(train.signal, train.lengths, train.labels, train.moment_labels),
            train.context,
        ):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def sample(self) -> dict[str, str]:
        """What some recordings hold, the first and the last among them, by their numbers."""
        count = len(self.train)
        found = {}
        for number in np.linspace(0, count - 1, min(count, _SAMPLED), dtype=int).tolist():
            digest = hashlib.sha256(np.ascontiguousarray(self.train.of(number)).data).hexdigest()
            found[f"recording {number}"] = f"{self.train.names[number]}, contents {digest[:12]}"
        return found


def load_data(settings: RecordingDataSettings, *, in_time: bool) -> RecordingData:
    """Reads the recordings that the settings name.

    Args:
      settings: of the data.
      in_time: whether the last part of the time is held out of a source without a test part, and
        not whole recordings.

    Raises:
      ArgumentError: for data that cannot be used; the message says why.
      ModuleNotFoundError: where a library of the extra [sequences] is missing.
    """
    if settings.dataset == ARRAYS:
        problem = "are recordings that were in memory, which are not kept: train on them again"
        raise ArgumentError("dataset", ARRAYS, problem)
    train = _load(settings, settings.train_part)
    title = _title(settings)
    try:
        test = _load(settings, settings.test_part or "test")
    except ArgumentError as error:
        missing = isinstance(error, MissingDataError) or error.argument == "part"
        if settings.test_part is not None or not missing:
            raise
        return hold_out(train, settings.held_out, title, in_time=in_time)
    if test.signal.shape[1] != train.signal.shape[1]:
        problem = f"has {test.signal.shape[1]} channels, and the part to train on has "
        problem += f"{train.signal.shape[1]}"
        raise ArgumentError("test_part", settings.test_part or "test", problem)
    return RecordingData(train, test, title)


def _load(settings: RecordingDataSettings, part: str) -> Recordings:
    try:
        return load_recordings(settings.dataset, settings.data_dir, part=part, **settings.options)
    except ArgumentError as error:
        if error.argument == "source":
            raise ArgumentError("dataset", settings.dataset, error.problem) from error
        if error.argument == "part" and part == settings.train_part != "train":
            raise ArgumentError("train_part", part, error.problem) from error
        if error.argument == "part" and part == settings.test_part:
            raise ArgumentError("test_part", part, error.problem) from error
        raise


def _title(settings: RecordingDataSettings) -> str:
    if settings.data_dir is None or settings.dataset.startswith("tfds:"):
        return settings.dataset.removeprefix("tfds:")
    path = Path(settings.data_dir).expanduser().resolve()
    return path.name if path.is_dir() else path.stem


def hold_out(recordings: Recordings, share: float, title: str, *, in_time: bool) -> RecordingData:
    """Parts recordings into those to train on and those to test on.

    Args:
      recordings: all that there are.
      share: of the recordings, or of the time, that is held out, in (0, 1).
      title: of the source.
      in_time: whether the last part of the time is held out. Otherwise recordings are drawn, of
        each class alike, always the same ones; of a single one it is its time.

    Raises:
      ArgumentError: naming `held_out`, where nothing would be left of one part.
    """
    if in_time or len(recordings) == 1:
        try:
            split = time_split(recordings.lengths, share)
        except ArgumentError as error:
            raise ArgumentError("held_out", share, error.problem) from error
        border = len(split.train)
        parts = (
            _of_time(recordings, 0, border, split.train_lengths),
            _of_time(recordings, border, len(recordings.signal), split.test_lengths),
        )
        return RecordingData(*parts, title, f"the last {100 * share:g} % of the time")
    chosen = _drawn(recordings.labels, share)
    if not 0 < chosen.sum() < len(recordings):
        problem = f"leaves {'none' if chosen.any() else 'all'} of {len(recordings)} recordings to "
        problem += f"train on: hold out {'less' if chosen.any() else 'more'}"
        raise ArgumentError("held_out", share, problem)
    train, test = (recordings.select(np.flatnonzero(of)) for of in (~chosen, chosen))
    return RecordingData(train, test, title, f"{chosen.sum():,} recordings")


def _drawn(labels: np.ndarray, share: float) -> np.ndarray:
    """Which recordings are held out, bool `[recordings]`: a share of each class, rounded."""
    draw = np.random.default_rng(_DRAW)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = draw.permutation(np.flatnonzero(labels == label))
        chosen[own[: round(share * len(own))]] = True
    return chosen


def _of_time(recordings: Recordings, start: int, end: int, lengths: np.ndarray) -> Recordings:
    """The moments from `start` on to `end`, of whose recordings the first or the last are whole."""
    first = np.searchsorted(np.cumsum(recordings.lengths), start, side="right")
    own = slice(int(first), int(first) + len(lengths))
    return replace(
        recordings,
        signal=recordings.signal[start:end],
        lengths=lengths,
        names=recordings.names[own],
        labels=recordings.labels[own],
        moment_labels=recordings.moment_labels[start:end],
        context=recordings.context[start:end],
    )


def channel_statistics(recordings: Recordings) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel over all moments; 1 where a channel does not vary."""
    mean = recordings.signal.mean(axis=0, dtype=np.float64)
    deviation = recordings.signal.std(axis=0, dtype=np.float64)
    # What is rounding, and not signal, is not blown up.
    varies = deviation > 1e-6 * np.abs(mean)
    return _floats(mean), _floats(np.where(varies & (deviation > 0), deviation, 1.0))


def _floats(numbers: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    return tuple(float(np.float32(number)) for number in numbers)
