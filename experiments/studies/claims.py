"""What cells say to a claim: it holds, it does not, or that is not settled.

A row of which a seed diverged settles nothing: the mean of the others would flatter it.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from alphacl_jax.evaluation.probes import standard_error
from alphacl_jax.runs.cells import Cell
from experiments.studies.report import WIDTH, Rows, from_bits, values_of

_ERRORS = 2.0  # of a difference that is not chance, where its error is known well
_HOLDS, _NOT, _OPEN = "holds", "does not hold", "not settled"


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


class Difference(NamedTuple):
    """A mean difference of two accuracies, paired by seed and by test image.

    Attributes:
      mean: of all seeds and images.
      error: its standard error, over other seeds and other images.
      freedom: the degrees of freedom of that error (Welch and Satterthwaite).
    """

    mean: float
    error: float
    freedom: float

    def verdict(self, among: int = 1) -> str:
        """Whether it is above 0, or below, by more than chance; see `errors_among`."""
        needed = errors_among(among, self.freedom) * self.error
        if self.mean > needed:
            return _HOLDS
        return _NOT if self.mean < -needed else _OPEN

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} ± {100 * self.error:.1f} points"


def errors_among(count: int, freedom: float = math.inf) -> float:
    """How many standard errors the largest of `count` differences must have.

    One alone, whose error is known well, must have 2. Of few seeds the error is not: its quantile
    is Student's. The best of several is higher by chance than one of them: Bonferroni's correction.
    """
    return float(student.isf(NormalDist().cdf(-_ERRORS) / count, freedom))


def difference_of(values: np.ndarray) -> Difference:
    """The difference whose values `[seeds, images]` are those of one image and one seed each."""
    seeds, images = values.shape
    parts = [(values.mean(axis=0).var() / images, images - 1)]
    if seeds > 1:
        parts.append((values.mean(axis=1).var(ddof=1) / seeds, seeds - 1))
    spread = sum(variance**2 / max(freedom, 1) for variance, freedom in parts)
    total = sum(variance for variance, _ in parts)
    freedom = total**2 / spread if spread > 0 else math.inf
    return Difference(float(values.mean()), standard_error(values), float(freedom))


def interval_of(gaps: np.ndarray) -> tuple[float, float]:
    """The mean of differences `[seeds]`, and half its 95 % interval, which is infinite of one."""
    count = len(gaps)
    if count < 2:
        return float(gaps.mean()), math.inf
    width = student.ppf(0.975, count - 1) * gaps.std(ddof=1) / count**0.5
    return float(gaps.mean()), float(width)


def paired(higher: Sequence[Cell], lower: Sequence[Cell], key: str) -> np.ndarray:
    """Which images one row has right more than the other, -1 to 1 `[seeds, images]`.

    Both rows are of the same seeds and test images, and no cell diverged. What is kept in "correct"
    is `as_bits` of what was right; or, where what is tested has many moments, a list of the share
    of each that was.
    """
    ours, theirs = (
        np.array([_right(cell["correct"][key]) for cell in cells]) for cells in (higher, lower)
    )
    return ours - theirs


def _right(kept: str | Sequence[float]) -> np.ndarray:
    return np.asarray(from_bits(kept) if isinstance(kept, str) else kept, np.float64)


def lost(*rows: Sequence[Cell]) -> str:
    """How many seeds of any of these rows diverged, in words; "" where none did."""
    which = [any("diverged" in cell for cell in cells) for cells in zip(*rows, strict=True)]
    return f"{sum(which)} of {len(which)} seeds diverged" if any(which) else ""


def is_higher(
    text: str, rows: Rows, better: str, worse: str, key: str = "linear_all", among: int = 1
) -> Claim:
    """The claim that one row has a higher accuracy than another, by more than chance.

    Args:
      text: the claim.
      rows: name → cells.
      better, worse: names.
      key: of the accuracy.
      among: of how many rows the better or the worse one is the best, by these figures.
    """
    if problem := lost(rows[better], rows[worse]):
        return Claim(text, problem, _OPEN)
    found = difference_of(paired(rows[better], rows[worse], key))
    return Claim(text, str(found), found.verdict(among))


def is_within(
    text: str, cells: Sequence[Cell], key: str, low: float = -math.inf, high: float = math.inf
) -> Claim:
    """The claim that a figure lies in a range, for every seed."""
    if problem := lost(cells):
        return Claim(text, problem, _OPEN)
    values = values_of(cells, key)
    found = f"{key} {values.min():.3g} to {values.max():.3g}"
    inside = (values >= low) & (values <= high)
    if inside.all():
        return Claim(text, found, _HOLDS)
    return Claim(text, found, _OPEN if inside.any() else _NOT)


def shown_claims(claims: Sequence[Claim]) -> str:
    """The claims as people read them, one after the other."""
    lines = []
    for claim in claims:
        line = f"{claim.verdict}: {claim.text} ({claim.found})"
        lines.append(textwrap.fill(line, WIDTH, subsequent_indent="    "))
    return "\n".join(lines)
