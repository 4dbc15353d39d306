"""Tables of cells over seeds, and what they say to a claim."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from alphacl_jax.evaluation.probes import standard_error
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
    """

    key: str
    title: str
    factor: float = 1.0
    digits: int = 2


LINEAR = Column("linear_all", "linear, %", 100, 1)
KNN = Column("knn", "kNN, %", 100, 1)


@dataclass(frozen=True)
class Claim:
    """What was claimed, and what the figures say to it.

    Attributes:
      text: the claim.
      found: the figures, in words.
      verdict: "holds", "does not hold" or "not settled".
    """

    text: str
    found: str
    verdict: str


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
    shown = [c for c in columns if any(c.key in cell for cells in rows.values() for cell in cells)]
    lines = [[first, *(column.title for column in shown)]]
    lines += [[name, *(_entry(cells, c) for c in shown)] for name, cells in rows.items()]
    return f"{_meaning(rows)}\n{align(lines)}"


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
        return "diverged" if lost else "-"
    mean, spread = mean_and_spread(values)
    text = _number(mean, column.digits)
    if len(values) > 1:
        text += f" ± {_number(spread, column.digits)}"
    elif f"{column.key}_se" in cells[0]:
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


def paired_difference(
    higher: Sequence[Cell], lower: Sequence[Cell], key: str
) -> tuple[float, float]:
    """Mean difference of an accuracy, and its standard error over seeds and test images.

    Both rows are compared seed by seed on the same test images.
    """
    pairs = [
        (from_bits(a["correct"][key]), from_bits(b["correct"][key]))
        for a, b in zip(higher, lower, strict=True)
        if "correct" in a and "correct" in b
    ]
    if not pairs:
        return math.nan, math.nan
    differences = np.array([a.astype(np.float64) - b for a, b in pairs])
    return float(differences.mean()), standard_error(differences)


def is_higher(text: str, rows: Rows, better: str, worse: str, key: str = "linear_all") -> Claim:
    """The claim that one row has a higher accuracy than another: by more than two errors."""
    mean, error = paired_difference(rows[better], rows[worse], key)
    found = f"{100 * mean:+.1f} ± {100 * error:.1f} points"
    if math.isnan(mean):
        return Claim(text, "no cells to compare", "not settled")
    verdict = "holds" if mean > 2 * error else "not settled"
    return Claim(text, found, "does not hold" if mean < -2 * error else verdict)


def is_within(
    text: str, cells: Sequence[Cell], key: str, low: float = -math.inf, high: float = math.inf
) -> Claim:
    """The claim that a figure lies in a range, for every seed."""
    values = values_of(cells, key)
    if not len(values):
        return Claim(text, f"no cell has {key}", "not settled")
    found = f"{key} {values.min():.3g} to {values.max():.3g}"
    inside = (values >= low) & (values <= high)
    if inside.all():
        return Claim(text, found, "holds")
    return Claim(text, found, "not settled" if inside.any() else "does not hold")


def shown_claims(claims: Sequence[Claim]) -> str:
    """The claims as people read them, one after the other."""
    lines = []
    for claim in claims:
        line = f"{claim.verdict}: {claim.text} ({claim.found})"
        lines.append(textwrap.fill(line, WIDTH, subsequent_indent="    "))
    return "\n".join(lines)
