"""Time that is held out in one block, since neighbours in time look alike."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from alphacl_jax.errors import ArgumentError, shown


class TimeSplit(NamedTuple):
    """Moments to train on, and moments that are held out.

    Attributes:
      train: int64, of all moments one behind the other.
      test: int64, those that come after them.
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
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths) or lengths.min() < 1:
        problem = "must be whole numbers [recordings], each at least 1"
        raise ArgumentError("lengths", shown(lengths), problem)
    if not 0 < fraction < 1:
        raise ArgumentError("fraction", fraction, "must lie in (0, 1)")
    if gap < 0:
        raise ArgumentError("gap", gap, "must be at least 0")
    ends = np.cumsum(lengths, dtype=np.int64)
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


def _lengths_between(starts: np.ndarray, ends: np.ndarray, first: int, last: int) -> np.ndarray:
    inside = np.minimum(ends, last) - np.maximum(starts, first)
    return inside[inside > 0]
