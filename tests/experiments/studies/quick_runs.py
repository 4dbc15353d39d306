"""What the tests of studies share: made-up cells, and a study run as a person would, --quick."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies.report import as_bits
from tests.tiny_runs import assert_picture, start

_IMAGES = 400  # enough that a difference of ten points is more than two errors


def cell(linear: float, knn: float | None = None, **figures: Any) -> dict[str, Any]:
    """A cell of a run whose first images are right, so many of them as the accuracies say."""
    accuracies = {"linear_all": linear, "knn": linear if knn is None else knn}
    right = {name: np.arange(_IMAGES) < share * _IMAGES for name, share in accuracies.items()}
    return {
        **accuracies,
        "correct": {name: as_bits(values) for name, values in right.items()},
        **figures,
    }


def verdicts(claims) -> dict[str, str]:
    assert len({claim.text for claim in claims}) == len(claims)
    return {claim.text: claim.verdict for claim in claims}


def run_quick(name: str, folder: Path, *arguments: str) -> tuple[str, list[dict[str, Any]]]:
    """Runs a study of digits; returns what it printed and its cells."""
    with start(f"studies.{name}", "--quick", f"--output={folder}", *arguments) as process:
        printed, told = process.communicate()
    assert process.returncode == 0, told
    pictures = list(folder.glob("*.png"))
    assert [f"picture: {path}" in printed for path in pictures] == [True, True]
    for path in pictures:
        assert_picture(path)
    return printed, json.loads((folder / "cells.json").read_text())["cells"]
