"""Tables of cells over seeds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from alphacl_jax.runs.cells import Cell
from alphacl_jax.tables import align

Rows = Mapping[str, Sequence[Cell]]
WIDTH = 96
_LARGE = 1e6  # from here on a figure is shown by its order


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      key: of the figure in a cell, or of a text that is the same in all cells of a row.
      title: of the column.
      factor: what is shown is this times the figure.
      digits: after the point.
      chosen: whether it was set and no seed changes it, so that there is no spread to show.
    """

    key: str
    title: str
    factor: float = 1.0
    digits: int = 2
    chosen: bool = False


LINEAR = Column("linear_all", "linear, %", 100, 1)
KNN = Column("knn", "kNN, %", 100, 1)
# What claims of accuracy call the probes → the key of each.
PROBES = {"linear probe": LINEAR.key, "kNN": KNN.key}
# Standard deviation of embeddings, as a multiple of the healthy one.
SPREAD = Column("spread", "std·√dim")
# Of the embeddings of the last batch.
ALIGNMENT = Column("alignment", "alignment")
UNIFORMITY = Column("uniformity", "uniformity")


def epochs_in_words(count: int) -> str:
    """ "1 epoch", "20 epochs"."""
    return f"{count} epoch{'s' * (count != 1)}"


def values_of(cells: Sequence[Cell], key: str) -> np.ndarray:
    """A figure of the cells that have it, `[seeds]`."""
    return np.array([cell[key] for cell in cells if key in cell], np.float64)


def mean_and_spread(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation (n − 1); 0 of one value."""
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def table_of(rows: Rows, columns: Sequence[Column], first: str = "") -> str:
    """Mean ± standard deviation over seeds; of one seed, accuracies ± their standard error.

    Args:
      rows: name → cells, one a seed.
      columns: that at least one row has are shown.
      first: title of the first column.
    """
    return table_beside({"": rows}, columns, first)


def table_beside(groups: Mapping[str, Rows], columns: Sequence[Column], first: str = "") -> str:
    """As `table_of`, each column once for every group, side by side.

    Args:
      groups: name → rows of the same names.
      columns: that at least one row has are shown.
      first: title of the first column.
    """
    every = [cell for rows in groups.values() for cells in rows.values() for cell in cells]
    known = [column for column in columns if any(column.key in cell for cell in every)]
    shown = [(group, column) for column in known for group in groups]
    titles = [f"{c.title}, {group}" if group else c.title for group, c in shown]
    names = next(iter(groups.values()))
    entries = [[_entry(groups[group][name], c) for group, c in shown] for name in names]
    lines = [[name, *entry] for name, entry in zip(names, entries, strict=True)]
    return f"{_meaning(names)}\n{align([[first, *titles], *lines])}"


def _meaning(rows: Rows) -> str:
    seeds = max(len(cells) for cells in rows.values())
    if seeds > 1:
        return f"mean ± standard deviation over {seeds} seeds"
    return "one seed; accuracies ± their standard error by the test images"


def _entry(cells: Sequence[Cell], column: Column) -> str:
    texts = [cell[column.key] for cell in cells if isinstance(cell.get(column.key), str)]
    if texts:
        return str(texts[0])
    values = column.factor * values_of(cells, column.key)
    lost = sum("diverged" in cell and column.key not in cell for cell in cells)
    if not len(values):
        return "diverged" if lost == len(cells) else "-"
    mean, spread = mean_and_spread(values)
    text = _number(mean, column.digits)
    if column.chosen:
        return text
    if len(values) > 1:
        text += f" ± {_number(spread, column.digits)}"
    elif len(cells) == 1 and f"{column.key}_se" in cells[0]:
        text += f" ± {column.factor * cells[0][f'{column.key}_se']:.{column.digits}f}"
    return f"{text} ({lost} diverged)" if lost else text


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if abs(value) < _LARGE else f"{value:.1e}"


def as_bits(right: np.ndarray) -> str:
    """Booleans `[m]` as hexadecimal digits, the number of them first: what a cell can keep."""
    return f"{len(right)}:{np.packbits(right).tobytes().hex()}"


def from_bits(text: str) -> np.ndarray:
    """The booleans of `as_bits`."""
    number, _, digits = text.partition(":")
    packed = np.frombuffer(bytes.fromhex(digits), np.uint8)
    return np.unpackbits(packed, count=int(number)).astype(bool)
