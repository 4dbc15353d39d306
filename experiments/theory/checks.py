"""Numbers beside what they should be: checks, their tables, and what a run may claim of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from alphacl_jax.tables import align


@dataclass(frozen=True)
class Check:
    """One number beside what it should be: a published figure, a closed form, or a bound.

    Attributes:
      name: what is compared, as the table's first column.
      expected: the published or predicted number, or the bound.
      ours: what was found; NaN never agrees.
      tolerance: for "=", the largest difference that agrees.
      relation: "=" (near), ">" (ours is above expected) or "<" (below).
      expected_std: the published standard deviation, where there is one.
      ours_std: that of ours, over seeds.
    """

    name: str
    expected: float
    ours: float
    tolerance: float = 0.0
    relation: Literal["=", ">", "<"] = "="
    expected_std: float | None = None
    ours_std: float | None = None

    @property
    def difference(self) -> float:
        return self.ours - self.expected

    @property
    def agrees(self) -> bool:
        if self.relation == "=":
            return abs(self.difference) <= self.tolerance
        return self.difference > 0 if self.relation == ">" else self.difference < 0

    def as_json(self) -> dict[str, Any]:
        fields = {k: v for k, v in vars(self).items() if v is not None}
        return {**fields, "difference": self.difference, "agrees": self.agrees}


def published_cell(
    name: str, published: tuple[float, float], values: Sequence[float] | np.ndarray
) -> Check:
    """A cell of a published table, mean ± std, beside our values over seeds.

    It agrees within max(2 standard deviations of the published cell, 0.03).
    """
    mean, std = published
    found = np.asarray(values, np.float64)
    # Published figures have two decimals; 1e-9 keeps a bound met exactly from failing by rounding.
    tolerance = max(2 * std, 0.03) + 1e-9
    return Check(
        name,
        mean,
        float(found.mean()),
        tolerance,
        expected_std=std,
        ours_std=float(found.std()),
    )


def format_checks(title: str, checks: Sequence[Check], *, expected: str = "published") -> str:
    """A table of checks, with a last line that counts.

    Args:
      title: of the first column.
      checks: the rows.
      expected: the title of the second column: "published", "closed form", ...
    """
    rows = [
        [
            check.name,
            ("" if check.relation == "=" else f"{check.relation} ")
            + _number(check.expected, check.expected_std),
            _number(check.ours, check.ours_std),
            f"{check.difference:+.3g}",
            "agrees" if check.agrees else "DIFFERS",
        ]
        for check in checks
    ]
    table = align([[title, expected, "ours", "difference", "verdict"], *rows])
    agreeing = sum(check.agrees for check in checks)
    return f"{table}\n{agreeing} of {len(checks)} agree"


def agreement(checks: Sequence[Check], rows: str, agree: str) -> str:
    """What a run may claim of its checks, in one sentence; rows that differ are named.

    Args:
      checks: all of them.
      rows: what they are called, in the plural: "rows", "cells".
      agree: what they do, in the plural: "agree with the theory".
    """
    if not checks:
        return f"None of the {rows} could be compared in this run."
    differing = [check.name for check in checks if not check.agrees]
    if not differing:
        return f"All {rows} ({len(checks)}) {agree}."
    count = len(checks) - len(differing)
    return f"{count} of {len(checks)} {rows} {agree}; not these: {'; '.join(differing)}."


def _number(value: float, std: float | None) -> str:
    if std is not None:
        return f"{value:.3f}±{std:.3f}"
    return f"{value:.4g}"
