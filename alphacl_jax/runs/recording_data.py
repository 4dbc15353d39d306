"""The recordings of a run: those it is trained on, and those that are kept for tests."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.data.numbering import numbered_by
from alphacl_jax.data.recordings import load_recordings
from alphacl_jax.data.sequences import Recordings
from alphacl_jax.data.sources import ARRAYS
from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.held_out import ends_split, time_split
from alphacl_jax.runs.recording_settings import RecordingDataSettings

# What may be cut for tests: whole recordings, drawn at random, or the end of the time or of each.
_DRAW = 0  # the seed, the same whatever the run's, so that runs can be compared
_SAMPLED = 64  # recordings
_NAMED = 5  # classes that a message lists


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

    Classes have the same numbers in both parts, those of the training part; one that no training
    recording has is unknown in the test part.

    Args:
      settings: of the data.
      in_time: whether time is held out of a source without a test part, see `hold_out`.

    Raises:
      ArgumentError: for data that cannot be used, as parts without a class in common; the message
        says why.
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
    if problem := _differs(train, test):
        raise ArgumentError("test_part", settings.test_part or "test", problem)
    return RecordingData(train, _known_to(train, test), title)


def _differs(train: Recordings, test: Recordings) -> str:
    """Why nothing that is learned of one part can be tested on the other; "" where it can."""
    if test.signal.shape[1] != train.signal.shape[1]:
        channels = test.signal.shape[1], train.signal.shape[1]
        return f"has {channels[0]} channels, and the part to train on has {channels[1]}"
    classes = {
        "recordings": [_present(of.labels, of.class_names) for of in (test, train)],
        "moments": [_present(of.moment_labels, of.moment_names) for of in (test, train)],
    }
    for what, (own, others) in classes.items():
        if own and others and not own & others:
            a, b = (", ".join(sorted(names)[:_NAMED]) for names in (own, others))
            return (
                f"has the classes {a} of {what}, and the part to train on {b}: none in common. "
                "Give parts, or a label, that share some"
            )
    return ""


def _known_to(train: Recordings, test: Recordings) -> Recordings:
    """Test recordings by the numbers of training's classes, -1 for one that nothing has there."""
    known = replace(
        test,
        labels=_where_of(test.labels, test.class_names, _present(train.labels, train.class_names)),
        moment_labels=_where_of(
            test.moment_labels,
            test.moment_names,
            _present(train.moment_labels, train.moment_names),
        ),
    )
    return numbered_by(known, train.class_names, train.moment_names)


def _present(labels: np.ndarray, names: Sequence[str]) -> set[str]:
    """The classes that are not in the names alone."""
    return {names[number] for number in np.unique(labels[labels >= 0])}


def _where_of(labels: np.ndarray, names: Sequence[str], kept: set[str]) -> np.ndarray:
    """The labels that are of some classes, and -1 for the others."""
    # One more at the end, for which -1, the unknown, stands.
    is_kept = np.array([*(name in kept for name in names), False])
    return np.where(is_kept[labels], labels, np.int32(-1))


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
      in_time: whether time is held out: the last part of it, or of each recording where recordings
        have classes, since their order is then that of the classes and not of time. Otherwise
        recordings are drawn, of each class alike where that leaves some to both parts, always the
        same ones; of a single one it is its time.

    Raises:
      ArgumentError: naming `held_out`, where no moment would be left to one part.
    """
    if in_time or len(recordings) == 1:
        return _hold_out_time(recordings, share, title)
    chosen = _drawn(recordings.labels, share)
    train, test = (recordings.select(np.flatnonzero(of)) for of in (~chosen, chosen))
    held_out = f"{len(test):,} recording{'s' * (len(test) > 1)}"
    return RecordingData(train, _known_to(train, test), title, held_out)


def _drawn(labels: np.ndarray, share: float) -> np.ndarray:
    """Which recordings are held out, bool `[recordings]`: a share of each class, rounded.

    Where that is none or all of them, it is a share of all: at least one, and not the last one.
    """
    draw = np.random.default_rng(_DRAW)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = draw.permutation(np.flatnonzero(labels == label))
        chosen[own[: round(share * len(own))]] = True
    if not 0 < chosen.sum() < len(labels):
        count = min(max(round(share * len(labels)), 1), len(labels) - 1)
        chosen = np.isin(np.arange(len(labels)), draw.permutation(len(labels))[:count])
    return chosen


def _hold_out_time(recordings: Recordings, share: float, title: str) -> RecordingData:
    of_each = len(recordings) > 1 and bool(recordings.class_names)
    try:
        split = (ends_split if of_each else time_split)(recordings.lengths, share)
    except ArgumentError as error:
        raise ArgumentError("held_out", share, error.problem) from error
    held_out = f"the last {100 * share:g} % of {'each recording' if of_each else 'the time'}"
    if of_each and (whole := len(recordings) - len(split.test_lengths)):
        held_out += f" but for {whole:,} that {'is' if whole == 1 else 'are'} too short"
    return RecordingData(
        _of_moments(recordings, split.train, split.train_lengths),
        _of_moments(recordings, split.test, split.test_lengths),
        title,
        held_out,
    )


def _of_moments(recordings: Recordings, moments: np.ndarray, lengths: np.ndarray) -> Recordings:
    """Some of the moments, in ascending order, and how many of each recording that has any."""
    own = np.unique(recordings.recording[moments])
    return replace(
        recordings,
        signal=recordings.signal[moments],
        lengths=lengths,
        names=tuple(recordings.names[number] for number in own),
        labels=recordings.labels[own],
        moment_labels=recordings.moment_labels[moments],
        context=recordings.context[moments],
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
