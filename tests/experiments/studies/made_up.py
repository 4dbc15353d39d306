"""Made-up cells, and studies run as a person would, as small as can be."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from alphacl_jax.runs.cells import Cell
from experiments.studies.report import as_bits
from tests.tiny_runs import assert_picture, start

_IMAGES = 400  # enough that a difference of ten points is more than two errors


def cell(linear: float, knn: float | None = None, **figures: Any) -> Cell:
    """A cell of a run whose first images are right, so many of them as the accuracies say."""
    accuracies = {"linear_all": linear, "knn": linear if knn is None else knn}
    right = {name: np.arange(_IMAGES) < share * _IMAGES for name, share in accuracies.items()}
    return {
        **accuracies,
        "correct": {name: as_bits(values) for name, values in right.items()},
        **figures,
    }


def cells_with(accuracy: float, seeds: int = 2, **figures: Any) -> list[Cell]:
    """Cells of an accuracy, of which the same images are right for every seed."""
    return [cell(accuracy, **figures) for _ in range(seeds)]


def verdicts(claims) -> dict[str, str]:
    assert len({claim.text for claim in claims}) == len(claims)
    return {claim.text: claim.verdict for claim in claims}


def run_quick(name: str, output: Path, *arguments: str) -> tuple[str, str, dict[str, Any]]:
    """What a study printed and told with --quick on the digits, and its cells.json."""
    process = start(f"studies.{name}", "--quick", f"--output={output}", *arguments)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    pictures = list(output.glob("*.png"))
    assert pictures
    for path in pictures:
        assert f"picture: {path}" in out
        assert_picture(path)
    return out, err, json.loads((output / "cells.json").read_text())
