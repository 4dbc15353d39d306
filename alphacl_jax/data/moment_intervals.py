"""Labels of stretches of time, as of phones, in a .csv file beside a recording."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alphacl_jax.errors import ArgumentError

_COLUMNS = ("start", "end", "label")


class Interval(NamedTuple):
    """A stretch of a recording.

    Attributes:
      start, end: in seconds from the recording's start.
      label: of all moments from `start` on and before `end`; "" where it is unknown.
    """

    start: float
    end: float
    label: str


def read_intervals(path: str | os.PathLike[str]) -> list[Interval]:
    """The stretches in a .csv file with the columns start, end and label; others are passed over.

    Raises:
      ArgumentError: for a missing column, and for times that are none: with the line.
    """
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, restval="")
        try:
            header = [name.strip() for name in rows.fieldnames or ()]
            rows.fieldnames = header
            if missing := [name for name in _COLUMNS if name not in header]:
                found = ", ".join(header) or "nothing"
                problem = f"has no column {' and '.join(missing)} in its first line, only {found}"
                raise ArgumentError("data_dir", path, problem)
            return [_interval(path, rows.line_num, row) for row in rows]
        except (UnicodeDecodeError, csv.Error) as error:
            problem = f"cannot be read as a .csv file in UTF-8: {error}"
            raise ArgumentError("data_dir", path, problem) from error


def _interval(path: str | os.PathLike[str], line: int, row: dict[str, str]) -> Interval:
    try:
        start, end = float(row["start"]), float(row["end"])
    except ValueError:
        start = end = float("nan")
    if not 0 <= start <= end < float("inf"):  # NaN too
        problem = (
            f"has start={row['start']!r} and end={row['end']!r} in line {line}: they must be "
            "seconds from the recording's start, the end not before the start"
        )
        raise ArgumentError("data_dir", path, problem)
    return Interval(start, end, row["label"].strip())


def labels_of_moments(
    intervals: Sequence[Interval],
    names: Sequence[str],
    length: int,
    rate: float,
    path: str | os.PathLike[str],
) -> np.ndarray:
    """int32 `[length]`, the class of each moment of a recording; −1 outside all intervals.

    An interval that goes on beyond the recording's end is cut off there.

    Args:
      intervals: in any order.
      names: of the classes by number, all labels of the intervals among them but for "".
      length: the moments of the recording.
      rate: moments per second.
      path: what an error calls the intervals.

    Raises:
      ArgumentError: for intervals that overlap or begin beyond the recording's end.
    """
    number = {"": -1, **{name: number for number, name in enumerate(names)}}
    labels = np.full(length, -1, np.int32)
    taken = np.zeros(length, bool)
    for interval in intervals:
        first, last = round(interval.start * rate), round(interval.end * rate)
        if first == last:  # shorter than a moment
            continue
        if first >= length:
            problem = (
                f"has {interval.label!r} at {interval.start:g} s, and its recording ends at "
                f"{length / rate:g} s"
            )
            raise ArgumentError("data_dir", path, problem)
        if taken[first:last].any():
            problem = f"has {interval.label!r} at {interval.start:g} s, where another label is too"
            raise ArgumentError("data_dir", path, problem)
        labels[first:last], taken[first:last] = number[interval.label], True
    return labels
