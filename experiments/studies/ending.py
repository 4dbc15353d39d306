"""How a study ends: what it shows, the file that keeps its figures, its pictures."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from alphacl_jax.evaluation.pictures import warned_of
from alphacl_jax.files import write_png_atomically
from alphacl_jax.runs.cells import Cells
from experiments.benchmarks import benchmarking
from experiments.studies.claims import Claim, shown_claims

FIGURES = "cells.json"
Pictures = Mapping[str, Callable[[], Figure]]


def end(
    cells: Cells,
    folder: Path,
    table: str,
    claims: Sequence[Claim],
    pictures: Pictures,
    *,
    quick: bool,
    started: float,
) -> None:
    """Shows what was found, keeps it beside the cells, and draws.

    Args:
      cells: of the file `FIGURES` in the folder.
      folder: that the pictures are put into.
      table: as people read it, with its title.
      claims: what was asked, with what the figures say to it.
      pictures: file name → what draws it; one that fails is a warning.
      quick: whether the study was too short to claim anything.
      started: by `time.monotonic`.
    """
    shown = table
    if quick:
        shown += "\n\n--quick is too short to say anything of what is claimed"
    elif claims:
        shown += f"\n\n{shown_claims(claims)}"
    summary = {
        **benchmarking.describe(("jax", "jaxlib", "numpy")),
        "table": shown.splitlines(),
        "claims": [dataclasses.asdict(claim) for claim in claims],
    }
    cells.write(summary)
    print(shown, flush=True)
    for name, draw in pictures.items():
        with warned_of(str(folder / name)):
            write_png_atomically(folder / name, draw())
            print(f"picture: {folder / name}", flush=True)
    print(f"all figures: {folder / FIGURES} ({time.monotonic() - started:.0f} s)", flush=True)
