"""What is held out of recordings: time in one block, or whole ones, since neighbours look alike."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from alphacl_jax.errors import ArgumentError, shown


class TimeSplit(NamedTuple):
    """Moments to train on, and moments that are held out.

    Attributes:
      train: int64, of all moments one behind the other.
      test: int64, those after them: of all, or of their recording.
      train_lengths: of the recordings that `train` has, or has a part of.
      test_lengths: likewise.
    """

    train: np.ndarray
    test: np.ndarray
    train_lengths: np.ndarray
    test_lengths: np.ndarray


def time_split(lengths: ArrayLike, fraction: float, *, gap: int = 0) -> TimeSplit:
    """Holds out the last part of the time, of recordings one behind the other.

    Args:
      lengths: `[recordings]`, the moments of each.
      fraction: of all moments that is held out, in (0, 1); rounded to whole moments.
      gap: the last moments before the held-out ones that are left out as well, where these are of
        the same recording: as many as a window is long, so that no two windows share a moment.

    Raises:
      ArgumentError: for values out of range, or where nothing is left for one of the parts.

    >>> split = time_split([4, 6], 0.4, gap=1)
    >>> split.train, split.train_lengths
    (array([0, 1, 2, 3, 4]), array([4, 1]))
    >>> split.test, split.test_lengths
    (array([6, 7, 8, 9]), array([4]))
    """
    lengths = _checked(lengths, fraction)
    if gap < 0:
        raise ArgumentError("gap", gap, "must be at least 0")
    ends = np.cumsum(lengths)
    starts = ends - lengths
    first = int(ends[-1]) - round(fraction * int(ends[-1]))
    # The recording that the border cuts begins before it.
    begins = int(starts[np.searchsorted(ends, first, side="right")]) if first < ends[-1] else first
    last = max(first - gap, begins)
    if last < 1 or first == ends[-1]:
        which, problem = ("train on", "less") if last < 1 else ("hold out", "more")
        raise ArgumentError(
            "fraction", fraction, f"leaves no moment to {which}: hold out {problem}"
        )
    return TimeSplit(
        train=np.arange(last),
        test=np.arange(first, ends[-1]),
        train_lengths=_lengths_between(starts, ends, 0, last),
        test_lengths=_lengths_between(starts, ends, first, int(ends[-1])),
    )


def ends_split(lengths: ArrayLike, fraction: float) -> TimeSplit:
    """Holds out the last part of each recording, of recordings one behind the other.

    What the order of the recordings says of time does not matter then, and the held-out moments are
    of as many recordings as can be parted. One so short that rounding leaves either part without a
    moment is trained on as a whole.

    Args:
      lengths: `[recordings]`, the moments of each.
      fraction: of the moments of each that is held out, in (0, 1); rounded to whole moments.

    Raises:
      ArgumentError: for values out of range, or where no recording can be parted.

    >>> split = ends_split([4, 1, 5], 0.3)
    >>> split.train, split.train_lengths
    (array([0, 1, 2, 4, 5, 6, 7]), array([3, 1, 3]))
    >>> split.test, split.test_lengths
    (array([3, 8, 9]), array([1, 2]))
    """
    lengths = _checked(lengths, fraction)
    out = np.rint(fraction * lengths).astype(np.int64)
    out[out == lengths] = 0
    if not out.any():
        problem = f"parts none of {len(lengths)} recordings, of which the longest has "
        problem += f"{lengths.max()} moments: hold out {'more' if fraction < 0.5 else 'less'}"
        raise ArgumentError("fraction", fraction, problem)
    first = np.repeat(np.cumsum(lengths) - out, lengths)
    moments = np.arange(len(first))
    return TimeSplit(
        train=np.flatnonzero(moments < first),
        test=np.flatnonzero(moments >= first),
        train_lengths=lengths - out,
        test_lengths=out[out > 0],
    )


def folds(recording: np.ndarray, labels: np.ndarray, parts: int) -> np.ndarray:
    """The fold `[n]` of each sample: whole recordings, those of each class dealt in turn.

    Args:
      recording: `[n]`.
      labels: `[n]`; where a recording has several, that of its first sample counts.
      parts: how many folds.
    """
    _, first, back = np.unique(recording, return_index=True, return_inverse=True)
    of_recording = np.empty(len(first), int)
    for number, label in enumerate(np.unique(labels[first])):
        members = np.flatnonzero(labels[first] == label)
        of_recording[members] = (number + np.arange(len(members))) % parts
    found: np.ndarray = of_recording[back]
    return found


def _checked(lengths: ArrayLike, fraction: float) -> np.ndarray:
    """The lengths as int64."""
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths) or lengths.min() < 1:
        problem = "must be whole numbers [recordings], each at least 1"
        raise ArgumentError("lengths", shown(lengths), problem)
    if not 0 < fraction < 1:
        raise ArgumentError("fraction", fraction, "must lie in (0, 1)")
    return lengths.astype(np.int64)


def _lengths_between(starts: np.ndarray, ends: np.ndarray, first: int, last: int) -> np.ndarray:
    inside = np.minimum(ends, last) - np.maximum(starts, first)
    return inside[inside > 0]
