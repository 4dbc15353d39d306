"""Recordings over time: their checks, how they lie in memory, and the windows that are cut of them.

A recording is what one signal is of without a gap: an utterance, a trial, a session. All lie one
behind the other in one array, so that a batch of windows is one gather on the device, and no window
crosses from one into the next.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from alphacl_jax.errors import ArgumentError, shown

# Of a column's deviation.
_MOST_ROUNDED = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class Recordings:
    """Signals of one kind, made by `recordings_from_arrays`, which checks them.

    Attributes:
      signal: float32 `[time, channels]`, all recordings one behind the other.
      lengths: int64 `[recordings]`, the moments of each; they sum to `time`.
      names: one for each recording.
      labels: int32 `[recordings]`, the class of each, such as its speaker; -1 where unknown.
      class_names: of the labels, () where there are none.
      moment_labels: int32 `[time]`, the class of each moment, such as its phone; -1 where unknown.
      moment_names: of the moments' labels, () where there are none.
      context: float32 `[time, dims]`, what was measured beside the signal, such as a position; dims
        is 0 where nothing was.
      rate: moments per second; None where it is unknown.
    """

    signal: np.ndarray
    lengths: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    moment_labels: np.ndarray
    moment_names: tuple[str, ...]
    context: np.ndarray
    rate: float | None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def starts(self) -> np.ndarray:
        """int64 `[recordings]`, the first moment of each in `signal`."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def recording(self) -> np.ndarray:
        """int32 `[time]`, which recording each moment is of."""
        return np.repeat(np.arange(len(self), dtype=np.int32), self.lengths)

    def of(self, number: int) -> np.ndarray:
        """The signal `[its time, channels]` of one recording."""
        start = self.starts[number]
        return self.signal[start : start + self.lengths[number]]

    def select(self, numbers: Iterable[int]) -> "Recordings":
        """Some of the recordings, in the order given.

        Raises:
          ArgumentError: where there are none of them.
        """
        chosen = np.asarray(list(numbers), np.int64)
        if not len(chosen):
            raise ArgumentError("numbers", [], "name no recording: at least one is needed")
        starts = self.starts
        moments = np.concatenate(
            [np.arange(starts[i], starts[i] + self.lengths[i]) for i in chosen]
        )
        return dataclasses.replace(
            self,
            signal=self.signal[moments],
            lengths=self.lengths[chosen],
            names=tuple(self.names[i] for i in chosen),
            labels=self.labels[chosen],
            moment_labels=self.moment_labels[moments],
            context=self.context[moments],
        )


def recordings_from_arrays(
    signals: Sequence[ArrayLike] | ArrayLike,
    *,
    names: Sequence[str] | None = None,
    labels: Sequence[Any] | None = None,
    moment_labels: Sequence[ArrayLike] | None = None,
    context: Sequence[ArrayLike] | None = None,
    rate: float | None = None,
) -> Recordings:
    """Recordings of arrays in memory, after checking that they fit each other.

    Args:
      signals: a list of `[time, channels]` numbers, or `[time]` of one channel, of any lengths and
        the same number of channels. One array is one recording.
      names: one for each recording; None numbers them.
      labels: one for each recording, numbers or words; None where it is unknown, or all are.
      moment_labels: for each recording whole numbers or words `[time]`; a number below 0, or "",
        where a moment's is unknown.
      context: for each recording numbers `[time, dims]` or `[time]`.
      rate: moments per second.

    Raises:
      ArgumentError: for no recording, an empty one, another rank, type, length or number of
        channels, and for values that are not finite: with which recording and moment.
    """
    several: Any = signals
    if _is_one_array(signals):
        several = [signals]
        moment_labels, context = _of_one(moment_labels), _of_one(context)
    columns = _columns("signals", list(several), None)
    lengths = np.array([len(column) for column in columns], np.int64)
    total = int(lengths.sum())
    is_number = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
    if rate is not None and not (is_number and np.isfinite(rate) and rate > 0):
        raise ArgumentError("rate", shown(rate), "must be a number of moments per second above 0")
    numbers, class_names = _of_recordings(labels, len(columns))
    of_moments, moment_names = _of_moments(moment_labels, lengths)
    beside = np.zeros((total, 0), np.float32)
    if context is not None:
        beside = np.concatenate(_columns("context", list(context), lengths))
    given = [str(i) for i in range(len(columns))] if names is None else list(map(str, names))
    _require_one_each("names", given, len(columns))
    return Recordings(
        signal=np.concatenate(columns),
        lengths=lengths,
        names=tuple(given),
        labels=numbers,
        class_names=class_names,
        moment_labels=of_moments,
        moment_names=moment_names,
        context=beside,
        rate=rate,
    )


def cut_at(groups: ArrayLike, *arrays: ArrayLike | None) -> list[list[np.ndarray] | None]:
    """Each array cut into recordings wherever `groups` changes, as trials of one session are.

    Args:
      groups: `[time]`, equal within a trial; one that comes again later is another recording.
      *arrays: `[time, ...]`; a None stays one.

    Raises:
      ArgumentError: where a length differs.
    """
    marks = np.asarray(groups)
    if marks.ndim != 1 or not len(marks):
        raise ArgumentError("groups", shown(marks), "must be [time], one for each moment")
    borders = np.flatnonzero(marks[1:] != marks[:-1]) + 1
    cut: list[list[np.ndarray] | None] = []
    for array in arrays:
        if array is not None and len(np.asarray(array)) != len(marks):
            problem = f"has {len(marks)} moments, and what it cuts has {len(np.asarray(array))}"
            raise ArgumentError("groups", shown(marks), problem)
        cut.append(None if array is None else np.split(np.asarray(array), borders))
    return cut


def whole_windows(lengths: np.ndarray, before: int, after: int) -> np.ndarray:
    """The moments whose window [moment − before, moment + after) lies in their recording, int32.

    Args:
      lengths: `[recordings]`.
      before: how many moments of the window come before its own.
      after: how many do not, its own among them: at least 1.

    Raises:
      ArgumentError: where no recording is as long as a window.
    """
    lengths, width = np.asarray(lengths), before + after
    require_window(lengths, width)
    ends = np.cumsum(lengths)
    spans = [
        np.arange(end - length + before, end - after + 1, dtype=np.int32)
        for end, length in zip(ends, lengths, strict=True)
        if length >= width
    ]
    return np.concatenate(spans)


def require_window(lengths: np.ndarray, width: int) -> None:
    """Refuses windows of a width that no recording has.

    Raises:
      ArgumentError: with the longest recording.
    """
    if not (lengths >= width).any():
        problem = f"is longer than all recordings, of which the longest has {lengths.max()} moments"
        raise ArgumentError("window", width, problem)


def windows_at(signal: Array, moments: Array, before: int, after: int) -> Array:
    """The windows `[..., before + after, channels]` of a signal `[time, channels]` at `[...]`."""
    return signal[jnp.add.outer(moments, jnp.arange(-before, after))]


def with_borders(signal: np.ndarray, before: int, after: int) -> np.ndarray:
    """A recording `[time, channels]` with its first and last moment repeated, so that each of its
    moments is in the middle of a window: `[time + before + after − 1, channels]`."""
    return np.pad(signal, ((before, after - 1), (0, 0)), mode="edge")


def _is_one_array(signals: Any) -> bool:
    if hasattr(signals, "shape"):
        return signals.ndim <= 2
    # Of lists, one of numbers, or of lists of numbers, is one array too.
    first = signals
    for _ in range(2):
        if not isinstance(first, list | tuple) or not len(first):
            break
        first = first[0]
    return np.ndim(first) == 0


def _of_one(given: Any) -> Any:
    return None if given is None else [given]


def _columns(argument: str, given: list[ArrayLike], lengths: np.ndarray | None) -> list[np.ndarray]:
    """Float32 arrays `[time, columns]`, all with as many columns, and as long as they must be."""
    if not given:
        raise ArgumentError(argument, given, "hold no recording: at least one is needed")
    if lengths is not None:
        _require_one_each(argument, given, len(lengths))
    found: list[np.ndarray] = []
    for number, raw in enumerate(given):
        which = f"of recording {number}"
        array = _as_array(argument, raw, which)
        if array.dtype.kind not in "biuf":
            problem = f"{which} has type {array.dtype}: it must hold numbers"
            raise ArgumentError(argument, shown(array), problem)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or 0 in array.shape:
            problem = f"{which} has shape {array.shape}: it must be [time, columns], none of them 0"
            raise ArgumentError(argument, shown(array), problem)
        if array.shape[1] != (columns := found[0].shape[1] if found else array.shape[1]):
            problem = f"{which} has {array.shape[1]} columns, and the first recording {columns}"
            raise ArgumentError(argument, shown(array), problem)
        if lengths is not None and len(array) != lengths[number]:
            problem = f"{which} has {len(array)} moments, and its signal {lengths[number]}"
            raise ArgumentError(argument, shown(array), problem)
        with np.errstate(over="ignore"):
            narrow = array.astype(np.float32)
        _require_finite(argument, narrow, which)
        require_precision(argument, array, narrow, which)
        found.append(narrow)
    return found


def require_precision(argument: str, array: np.ndarray, narrow: np.ndarray, which: str) -> None:
    """Refuses numbers whose differences are lost in float32, as those of points in time may be.

    Args:
      argument, which: how the message calls them, and what they are of.
      array: `[time, columns]`.
      narrow: the same in float32.

    Raises:
      ArgumentError: where neighbouring numbers of float32 are further from each other than a
        hundredth of the deviation of a column, with its number.
    """
    if np.can_cast(array.dtype, np.float32):
        return
    for column in range(array.shape[1]):
        wide = array[:, column]
        if (wide == narrow[:, column]).all() or np.ptp(wide) == 0:
            continue
        largest, deviation = np.abs(wide).max(), wide.std(dtype=np.float64)
        if np.spacing(np.float32(largest)) > _MOST_ROUNDED * deviation:
            problem = (
                f"{which} varies by {deviation:.3g} in column {column}, around {wide.mean():.6g}, "
                "where float32 does not tell such numbers apart: subtract the mean"
            )
            raise ArgumentError(argument, shown(array), problem.lstrip())


def _as_array(argument: str, raw: ArrayLike, which: str) -> np.ndarray:
    try:
        return np.asarray(raw)
    except ValueError as error:  # of lists, from which NumPy makes no array
        problem = f"{which} has rows of different lengths: each moment has the same columns"
        raise ArgumentError(argument, shown(raw), problem) from error


def _require_finite(argument: str, array: np.ndarray, which: str) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        (moment, column), values = bad[0], len(bad)
        problem = (
            f"{which} is {array[moment, column]} at moment {moment}, column {column}, as one of "
            f"{values} such values: leave these moments out, and cut the recording there"
        )
        raise ArgumentError(argument, shown(array), problem)


def _require_one_each(argument: str, given: Sequence[Any], recordings: int) -> None:
    if len(given) != recordings:
        problem = f"has {len(given)} entries, and there are {recordings} recordings"
        raise ArgumentError(argument, shown(list(given)), problem)


def _of_recordings(
    labels: Sequence[Any] | None, recordings: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    if labels is None:
        return np.full(recordings, -1, np.int32), ()
    _require_one_each("labels", labels, recordings)
    words = any(isinstance(label, str) for label in labels)
    unknown: str | int = "" if words else -1
    return _numbered("labels", np.asarray([unknown if x is None else x for x in labels]))


def as_plain(column: Any) -> np.ndarray:
    """An array of words, where they are objects, as tables hold them; else the array."""
    array = np.asarray(column)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        return array.astype(np.str_)
    return array


def _of_moments(
    labels: Sequence[ArrayLike] | None, lengths: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    if labels is None:
        return np.full(int(lengths.sum()), -1, np.int32), ()
    _require_one_each("moment_labels", list(labels), len(lengths))
    columns = [as_plain(column) for column in labels]
    for number, (column, length) in enumerate(zip(columns, lengths, strict=True)):
        if column.shape != (length,):
            problem = f"of recording {number} has shape {column.shape}, and its signal {length}"
            raise ArgumentError("moment_labels", shown(column), problem)
    if len({column.dtype.kind == "U" for column in columns}) > 1:
        problem = "are words in some recordings and numbers in others: give one kind"
        raise ArgumentError("moment_labels", shown(list(labels)), problem)
    return _numbered("moment_labels", np.concatenate(columns))


def _numbered(argument: str, given: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Classes by number, −1 where unknown, and their names in the order of the numbers."""
    if given.dtype.kind in "biu":
        given = given.astype(np.int64)
        known = given >= 0
    elif given.dtype.kind == "U":
        known = given != ""
    else:
        problem = f"has type {given.dtype}: labels are whole numbers or words"
        raise ArgumentError(argument, shown(given), problem)
    classes, numbers = np.unique(given[known], return_inverse=True)
    found = np.full(len(given), -1, np.int32)
    found[known] = numbers
    return found, tuple(map(str, classes))
