"""Recordings in a table with a column of times: .csv or Parquet, read by pyarrow."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from alphacl_jax.data.places import existing_file
from alphacl_jax.data.sequences import Recordings
from alphacl_jax.data.source_checks import recordings_in
from alphacl_jax.errors import ArgumentError
from alphacl_jax.extras import require_of_sequences

# A step this many times the usual one is a gap: something between is missing.
_GAP = 1.5
_PARQUET = (".parquet", ".pq")


class _Piece(NamedTuple):
    """The rows of a recording, in order, and what it is called."""

    name: str
    rows: np.ndarray


def load_table(
    data_dir: str | os.PathLike[str],
    *,
    time_column: str,
    signal_columns: str | Sequence[str],
    context_columns: str | Sequence[str] = (),
    label_column: str | None = None,
    recording_column: str | None = None,
) -> Recordings:
    """Reads a table whose rows are moments.

    Within a recording the rows must come in the order of time, with no time twice. A step of more
    than 1.5 times the recording's median one cuts it in two, which the log says: a window across
    moments that are missing would take for neighbours what are none. The rate is 1 over the median
    step.

    Args:
      data_dir: the file, .csv (also .csv.gz) or .parquet.
      time_column: numbers, in seconds, or points in time (timestamps).
      signal_columns: one or several, of numbers.
      context_columns: of what was measured beside the signal.
      label_column: the class of each moment, words or whole numbers; unknown where it is empty or
        below 0.
      recording_column: which recording a row is of; the rows of several may be mixed. Without it
        the table is one recording, but for gaps.

    Raises:
      ModuleNotFoundError: where pyarrow is missing.
      MissingDataError: where there is no such file.
      ArgumentError: for a file that cannot be read, a missing column, values that are missing or
        not finite, times out of order or repeated, and recordings of different steps.
    """
    require_of_sequences("pyarrow", "reading tables of .csv and Parquet files")
    path = existing_file(data_dir, "the .csv or .parquet file")
    table = _table(path)
    if not table.num_rows:
        raise ArgumentError("data_dir", path, "has no rows")
    signals, context = (
        [columns] if isinstance(columns, str) else list(columns)
        for columns in (signal_columns, context_columns)
    )
    if not signals:
        raise ArgumentError("signal_columns", signal_columns, "name no column")
    times = _times(path, table, time_column)
    wholes = _recordings(path, table, recording_column)
    cut, steps = [], {}
    for whole in wholes:
        pieces, steps[whole.name] = _cut_at_gaps(whole, times, time_column)
        cut += pieces
    if len(cut) > len(wholes):
        logging.warning(
            "%s: recordings are cut at steps of more than %g times the median one: %d and not %d",
            *(path, _GAP, len(cut), len(wholes)),
        )

    def pieces_of(array: np.ndarray) -> list[np.ndarray]:
        return [array[piece.rows] for piece in cut]

    def matrix(argument: str, columns: list[str]) -> list[np.ndarray]:
        numbers = [_numbers(path, table, argument, column) for column in columns]
        return pieces_of(np.stack(numbers, axis=1))

    return recordings_in(
        path,
        matrix("signal_columns", signals),
        names=[piece.name for piece in cut],
        moment_labels=None
        if label_column is None
        else pieces_of(_labels(path, table, label_column)),
        context=matrix("context_columns", context) if context else None,
        rate=_rate(steps, time_column),
    )


def _table(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv, parquet

    is_parquet = path.suffix.lower() in _PARQUET
    # A .csv file may be compressed, as .csv.gz.
    if not is_parquet and ".csv" not in [ending.lower() for ending in path.suffixes[-2:]]:
        raise ArgumentError("data_dir", path, "must end in .csv or .parquet, to say what it is")
    try:
        return parquet.read_table(path) if is_parquet else csv.read_csv(path)
    except pa.ArrowInvalid as error:
        problem = f"cannot be read as a table: {' '.join(str(error).split())}"
        raise ArgumentError("data_dir", path, problem) from error


def _column(path: Path, table: Any, argument: str, name: str) -> Any:
    if (times := table.column_names.count(name)) != 1:
        problem = (
            f"is the name of {times} columns of {path}"
            if times
            else f"is no column of {path}, which has {', '.join(table.column_names)}"
        )
        raise ArgumentError(argument, name, problem)
    return table.column(name)


def _numbers(path: Path, table: Any, argument: str, name: str) -> np.ndarray:
    import pyarrow as pa

    column = _column(path, table, argument, name)
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    if not any(is_kind(column.type) for is_kind in kinds):
        problem = f"has type {column.type} in {path}: it must hold numbers"
        raise ArgumentError(argument, name, problem)
    numbers: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy()
    _require(argument, name, path, ~np.isfinite(numbers), "is missing or not finite")
    return numbers


def _require(argument: str, name: str, path: Path, bad: np.ndarray, what: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        problem = (
            f"{what} in row {rows[0] + 1} of {path} (without its header), as in {len(rows)} rows. "
            "Leave these rows out: the recording is cut there"
        )
        raise ArgumentError(argument, name, problem)


def _times(path: Path, table: Any, name: str) -> np.ndarray:
    """In seconds."""
    import pyarrow as pa

    column = _column(path, table, "time_column", name)
    if not pa.types.is_timestamp(column.type):
        return _numbers(path, table, "time_column", name)
    _require("time_column", name, path, column.is_null().to_numpy(), "is missing")
    ticks = column.cast(pa.int64()).to_numpy()
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
    return (ticks - ticks[0]) / per_second


def _labels(path: Path, table: Any, name: str) -> np.ndarray:
    import pyarrow as pa

    column = _column(path, table, "label_column", name)
    if pa.types.is_integer(column.type):
        found: np.ndarray = column.fill_null(-1).to_numpy()
        return found
    if pa.types.is_floating(column.type) or pa.types.is_temporal(column.type):
        problem = f"has type {column.type} in {path}: labels are words or whole numbers"
        raise ArgumentError("label_column", name, problem)
    return np.array(column.cast(pa.string()).fill_null("").to_pylist(), np.str_)


def _recordings(path: Path, table: Any, name: str | None) -> list[_Piece]:
    """In the order in which they come first."""
    if name is None:
        return [_Piece(path.name.split(".")[0], np.arange(table.num_rows))]
    column = _column(path, table, "recording_column", name)
    _require("recording_column", name, path, column.is_null().to_numpy(), "is missing")
    number: dict[Any, int] = {}
    numbers = np.array([number.setdefault(value, len(number)) for value in column.to_pylist()])
    rows = np.argsort(numbers, kind="stable")
    borders = np.flatnonzero(np.diff(numbers[rows])) + 1
    return [
        _Piece(str(value), some)
        for value, some in zip(number, np.split(rows, borders), strict=True)
    ]


def _cut_at_gaps(
    whole: _Piece, times: np.ndarray, time_column: str
) -> tuple[list[_Piece], float | None]:
    """The recording between its gaps, and its median step; None of a single moment."""
    own = times[whole.rows]
    steps = np.diff(own)
    wrong = np.flatnonzero(steps <= 0)
    if len(wrong):
        after = wrong[0] + 1
        how = "comes again" if steps[wrong[0]] == 0 else f"comes after {own[wrong[0]]:g}"
        problem = (
            f"is out of order in the recording {whole.name!r}: {own[after]:g} {how}, in row "
            f"{whole.rows[after] + 1}. Sort the rows by time, and keep one of each; where several "
            "recordings lie in one table give recording_column"
        )
        raise ArgumentError("time_column", time_column, problem)
    if not len(steps):
        return [whole], None
    usual = float(np.median(steps))
    parts = np.split(whole.rows, np.flatnonzero(steps > _GAP * usual) + 1)
    if len(parts) == 1:
        return [whole], usual
    return [_Piece(f"{whole.name}/{i}", rows) for i, rows in enumerate(parts)], usual


def _rate(steps: dict[str, float | None], time_column: str) -> float | None:
    known = {name: step for name, step in steps.items() if step is not None}
    if not known:
        return None
    low, high = (of(known, key=known.__getitem__) for of in (min, max))
    if known[high] > _GAP * known[low]:
        problem = (
            f"has steps of {known[low]:g} in the recording {low!r} and of {known[high]:g} in "
            f"{high!r}: bring all to one step first"
        )
        raise ArgumentError("time_column", time_column, problem)
    return 1 / float(np.median(list(known.values())))
