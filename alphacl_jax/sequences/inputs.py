"""What an estimator over time is handed: signals, what was observed beside them, and trials."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from alphacl_jax.data.sequences import (
    Recordings,
    as_plain,
    cut_at,
    recordings_from_arrays,
    require_precision,
)
from alphacl_jax.errors import ArgumentError, shown

# Of sums of their squares float32 holds many.
_LARGEST = 1e15


class Given(NamedTuple):
    """A session, or several, after all checks that need no fitted model.

    Attributes:
      sessions: the recordings of each: its trials where there are groups, or one.
      are_listed: whether a list of sessions was given, and not one array.
      feature_names: of the columns of one array, where they have names.
      has_labels: whether moments have labels.
      has_context: whether they have a continuous context.
    """

    sessions: tuple[Recordings, ...]
    are_listed: bool
    feature_names: np.ndarray | None
    has_labels: bool
    has_context: bool

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(each.signal.shape[1] for each in self.sessions)


def read_inputs(X: Any, contexts: Sequence[Any], groups: Any) -> Given:
    """Checks what `CEBRA.fit` is handed.

    Args:
      X: `[time, channels]`, or a list of these.
      contexts: each `[time]` or `[time, dims]`, or a list of these; a None counts for nothing.
      groups: `[time]`, or a list of these, or None.

    Raises:
      ValueError: for what is no array of numbers, from scikit-learn.
      ArgumentError: for lengths, types and values that do not fit.
    """
    are_listed = is_list_of_sessions(X)
    signals = list(X) if are_listed else [X]
    columns = [
        of_each_session("context", context, len(signals), are_listed)
        for context in contexts
        if context is not None
    ]
    marks = of_each_session("groups", groups, len(signals), are_listed)
    kinds, found = None, []
    for number, signal in enumerate(signals):
        which = f"of session {number} " if are_listed else ""
        array = read_signal(signal, which)
        labels, context = _observed([column[number] for column in columns], len(array), which)
        own = (labels is not None, context is not None)
        if kinds is not None and own != kinds:
            problem = f"{which}is of other kinds, whole numbers or floats, than that of session 0"
            raise ArgumentError("context", shown(tuple(columns)), problem)
        kinds = own
        found.append(_recordings(array, labels, context, marks[number]))
    has_labels, has_context = kinds or (False, False)
    names = None if are_listed else feature_names(X)
    return Given(tuple(found), are_listed, names, has_labels, has_context)


def is_list_of_sessions(X: Any) -> bool:
    """Whether it is a list of arrays of sessions, and not of the rows of one.

    Arrays of one axis are rows where all are of one length.
    """
    if not isinstance(X, list | tuple) or not len(X):
        return False
    ranks = {array.ndim for array in X if hasattr(array, "ndim")}
    if not ranks:
        return np.ndim(X[0]) == 2
    return max(ranks) > 1 or (ranks == {1} and len({len(array) for array in X}) > 1)


def feature_names(X: Any) -> np.ndarray | None:
    """The names of the columns, where X has such: as scikit-learn reads them of a table."""
    reader = BaseEstimator()
    validate_data(reader, X, skip_check_array=True)
    return getattr(reader, "feature_names_in_", None)


def read_signal(X: Any, which: str = "") -> np.ndarray:
    """A signal as float32 `[time, channels]`.

    Args:
      X: numbers.
      which: session it is, as the message says it.

    Raises:
      ValueError: from scikit-learn, for another rank, sparse arrays, complex numbers, words.
      ArgumentError: for values that are not finite, or beyond 1e15: with the moment; for those that
        float32 does not tell apart; and for a session of another rank.
    """
    if which and np.ndim(X) != 2:
        problem = f"{which}must be [time, channels]; of one channel, X.reshape(-1, 1)"
        raise ArgumentError("X", shown(X), problem)
    array = check_array(X, ensure_all_finite=False, estimator="CEBRA", input_name="X")
    return _finite("X", array, which)


def _observed(
    columns: Sequence[Any], length: int, which: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The labels `[time]` and the continuous context `[time, dims]` of a session, where given."""
    labels, continuous = [], []
    for column in columns:
        array = as_plain(column)
        if array.ndim not in (1, 2) or len(array) != length or array.size == 0:
            problem = (
                f"{which}has shape {array.shape}: it must be [time] or [time, dims], with as many "
                f"moments as X, {length}"
            )
            raise ArgumentError("context", shown(array), problem)
        if array.dtype.kind == "f":
            array = array[:, None] if array.ndim == 1 else array
            continuous.append(_finite("context", array, which))
        elif array.dtype.kind in "biuU":
            labels.append(_one_label(array, which))
        else:
            problem = (
                f"{which}has type {array.dtype}. Unknown label type: give whole numbers or words "
                "for labels, floats for what is measured"
            )
            raise ArgumentError("context", shown(array), problem)
    if len(labels) > 1:
        problem = (
            f"{which}are whole numbers or words: a moment has one label. Number their "
            "combinations, as np.unique(columns, axis=0, return_inverse=True)[1] does"
        )
        raise ArgumentError("context", f"{len(labels)} arrays", problem)
    return labels[0] if labels else None, np.hstack(continuous) if continuous else None


def _one_label(array: np.ndarray, which: str) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] > 1:
        problem = (
            f"{which}has {array.shape[1]} columns of whole numbers or words: a moment has one "
            "label, [time]. Use astype(float) where they are no labels but measured, or number "
            "their combinations, as np.unique(context, axis=0, return_inverse=True)[1] does"
        )
        raise ArgumentError("context", shown(array), problem)
    array = array.reshape(-1)
    if array.dtype.kind == "U":
        return array
    numbers = array.astype(np.int64)
    known = np.unique(numbers[numbers >= 0])
    if len(known) < 2 and (numbers < 0).any():
        problem = (
            f"{which}has numbers below 0, which stand for an unknown label, and "
            f"{len(known)} label besides: number labels from 0 on"
        )
        raise ArgumentError("context", shown(array), problem)
    return numbers


def _finite(argument: str, array: np.ndarray, which: str) -> np.ndarray:
    """As float32, if all are finite, and in the range of what is trained on."""
    # NaN, too, is not below.
    bad = np.argwhere(~(np.abs(array) <= _LARGEST))
    if len(bad):
        moment, column = bad[0]
        problem = (
            f"{which}has {len(bad)} values that are NaN, infinite or beyond {_LARGEST:g}, the "
            f"first {array[moment, column]} at moment {moment}, column {column}: scale what is "
            "that large, or leave such moments out, and give `groups` that change there"
        )
        raise ArgumentError(argument, shown(array), problem)
    narrow: np.ndarray = array.astype(np.float32)
    require_precision(argument, array.reshape(len(array), -1), narrow, which.rstrip())
    return narrow


def _recordings(
    signal: np.ndarray, labels: np.ndarray | None, context: np.ndarray | None, groups: Any
) -> Recordings:
    """A session's trials, or the whole of it as one recording."""
    if groups is None:
        groups = np.zeros(len(signal), np.int8)
    signals, moment_labels, contexts = cut_at(groups, signal, labels, context)
    assert signals is not None
    return recordings_from_arrays(signals, moment_labels=moment_labels, context=contexts)


def of_each_session(argument: str, given: Any, sessions: int, are_listed: bool) -> list[Any]:
    """What was given beside X for each of its sessions; a None is one for all.

    Args:
      argument: what an error calls it.
      given: a list, or what stands beside one array.
      sessions: how many there are.
      are_listed: whether X is a list of them.

    Raises:
      ArgumentError: for a list of other length than X.
    """
    if given is None or not are_listed:
        return [given] * sessions
    if not isinstance(given, list | tuple) or len(given) != sessions:
        problem = f"must be a list of {sessions} arrays, one for each session of X"
        raise ArgumentError(argument, shown(given), problem)
    return list(given)
