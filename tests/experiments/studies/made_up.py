"""Made-up cells, and studies run as a person would, as small as can be."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from alphacl_jax.runs.cells import Cell
from experiments.studies.report import as_bits
from tests.tiny_runs import start

_IMAGES = 400


def cells_with(accuracy: float, seeds: int = 2, **figures: Any) -> list[Cell]:
    """Cells of an accuracy, of which the same images are right for every seed."""
    right = np.arange(_IMAGES) < accuracy * _IMAGES
    cell = {"linear_all": accuracy, "correct": {"linear_all": as_bits(right)}, **figures}
    return [dict(cell) for _ in range(seeds)]


def run_quick(name: str, output: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """What a study printed with --quick on the digits, and its cells.json."""
    process = start(f"studies.{name}", "--quick", f"--output={output}", *arguments)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out, json.loads((output / "cells.json").read_text())
