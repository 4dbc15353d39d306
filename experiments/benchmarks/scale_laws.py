"""The laws that time and memory of a loss follow as its rows grow, and published figures beside.

Time is `a n²` and memory `a + b n`, fitted by least squares to what was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from alphacl_jax.tables import align

# Where the laws are read off, and what Inf-CL reports there.
FAR_ROWS = 1024 * 1024
# "Breaking the Memory Barrier: Near Infinite Batch Size Scaling for Contrastive Loss" (2024): GB on
# each of eight GPUs, by the rows of the similarity matrix.
PUBLISHED_GB = {32: 0.18, 64: 0.36, 128: 0.72, 256: 1.45, 1024: 6.53}


@dataclass(frozen=True)
class Law:
    """What was fitted to one loss on so many devices.

    Attributes:
      loss, devices, form: as in `scale.Case`.
      sizes: how many sizes were measured.
      seconds_per_square: a of the time.
      seconds_off: by how much the law misses a time at most, as a share of that.
      bytes_at_none, bytes_per_row: a and b of the memory; None where fewer than two sizes were
        measured, or no memory.
      bytes_off: as `seconds_off`.
    """

    loss: str
    devices: int
    form: str
    sizes: int
    seconds_per_square: float
    seconds_off: float
    bytes_at_none: float | None
    bytes_per_row: float | None
    bytes_off: float | None

    TITLES: ClassVar[list[str]] = [
        *("loss", "devices", "form", "sizes", "s / (1024 rows)²", "off by"),
        *("MB at 0", "bytes a row", "off by", "1,024k rows: hours", "GB", "GB a device"),
    ]

    def seconds(self, rows: int) -> float:
        return self.seconds_per_square * rows**2

    def bytes(self, rows: int) -> float | None:
        if self.bytes_at_none is None or self.bytes_per_row is None:
            return None
        return self.bytes_at_none + self.bytes_per_row * rows

    def cells(self) -> list[str]:
        """A line of the table."""
        far = self.bytes(FAR_ROWS)
        memory = ["n/a"] * 3
        if self.bytes_off is not None:
            memory = [f"{self.bytes_at_none / 1e6:,.0f}", f"{self.bytes_per_row:,.0f}"]  # type: ignore[operator]
            memory += [f"{self.bytes_off:.1%}"]
        return [
            *(self.loss, str(self.devices), self.form, str(self.sizes)),
            *(f"{self.seconds(1024):.3g}", f"{self.seconds_off:.1%}", *memory),
            f"{self.seconds(FAR_ROWS) / 3600:.2f}",
            *("n/a" if far is None else f"{far / share / 1e9:.2f}" for share in (1, self.devices)),
        ]


def laws(rows: Sequence[dict[str, Any]]) -> list[Law]:
    """The law of each loss, number of devices and form among the results of the benchmark."""
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["loss"], row["devices"], row["form"]), []).append(row)
    return [_law(*group, found) for group, found in sorted(groups.items())]


def _law(loss: str, devices: int, form: str, rows: Sequence[dict[str, Any]]) -> Law:
    sizes = np.array([float(row["size"]) for row in rows])
    seconds = np.array([row["seconds"] for row in rows])
    (a,), off = _fitted(sizes[:, None] ** 2, seconds)
    at_none, per_row, bytes_off = None, None, None
    if len(set(sizes)) > 1 and all(row["peak_bytes"] is not None for row in rows):
        columns = np.stack([np.ones_like(sizes), sizes], axis=1)
        peaks = np.array([float(row["peak_bytes"]) for row in rows])
        (at_none, per_row), bytes_off = _fitted(columns, peaks)
    return Law(loss, devices, form, len(set(sizes)), a, off, at_none, per_row, bytes_off)


def _fitted(columns: np.ndarray, values: np.ndarray) -> tuple[list[float], float]:
    """The factors of the columns, and the largest residual as a share of its value."""
    factors = np.linalg.lstsq(columns, values, rcond=None)[0]
    residuals = np.abs(columns @ factors - values) / np.maximum(values, 1e-12)
    return [float(f) for f in factors], float(np.max(residuals))


def anchors() -> str:
    """The published figures, and what of ours can be set beside them."""
    titles = ["Inf-CL, published, rows", *(f"{rows}k" for rows in PUBLISHED_GB)]
    lines = [titles, ["GB a GPU of eight", *(f"{gb:.2f}" for gb in PUBLISHED_GB.values())]]
    return (
        f"{align(lines)}\n"
        "That is two-tower InfoNCE on GPUs: n rows of one tower against n of the other, 2n\n"
        "embeddings, of which each GPU has an eighth. Ours are n rows against themselves, n\n"
        "embeddings, all of them on one device, or a share on each of several. The n² distances\n"
        "are as many, of which tiles compute each one once. Comparable is that memory grows with\n"
        "n; its size only with these differences, and another dimension, in mind; times are not.\n"
        "Nothing was published of α-CL at these sizes."
    )
