"""CEBRA of this library beside the authors' package: accuracy and speed, same data and budget.

    python -m experiments.benchmarks.cebra --output=FOLDER

Both sides train networks of the same layers by the same rule, loss, batch, rate and number of
iterations, each training in a fresh process, one after the other, on the first four fifths of the
time; the rest is held out for decoders. Borders of runs are told to neither, since the package
knows of none; nor has it a seed for all that it draws, so that its trainings do not repeat to the
bit. Of each task:

- on the data of several seeds, how well the latents are known from the embeddings, with mean and
  standard deviation over seeds, and the mean difference of the two sides with its 95 % interval;
- on the data of the first seed, trained from several seeds, the consistency between runs (R²);
- seconds per 1,000 iterations, and how much longer the first call of a process takes.

Cells that the output folder holds are not computed again. Needs the packages of
`pip install -e '.[bench]'`.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.evaluation.consistency import consistency
from alphacl_jax.runs.cells import Cells
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking
from experiments.benchmarks.cebra_sides import FITS, OURS, PACKAGE, Fitted, time_fits
from experiments.benchmarks.cebra_tasks import LOWER, TASKS, Scores, Task, training_part
from experiments.studies.claims import interval_of

_PACKAGES = ("jax", "jaxlib", "numpy", "torch", "cebra")
_BETWEEN_RUNS = "R² between runs"


def scores_of(name: str, side: str, seed: int, iterations: int | None) -> Scores:
    """Trains a task on the data of a seed, from that seed, and scores it. For a fresh process."""
    task = task_of(name, iterations)
    found = task.make(seed)
    fitted, embeddings = _trained(task, side, found, seed)
    return {**task.score(found, embeddings), "goodness, bits": fitted.goodness}


def embeddings_of(name: str, side: str, seed: int, iterations: int | None) -> list[np.ndarray]:
    """Trains a task on the data of seed 0 from another seed. For a fresh process."""
    task = task_of(name, iterations)
    return _trained(task, side, task.make(0), seed)[1]


def speed_of(name: str, side: str, iterations: int) -> dict[str, Any]:
    """See `time_fits`. For a fresh process."""
    task = task_of(name, iterations)
    return time_fits(side, task.setup, training_part(task.sessions(task.make(0))))


def task_of(name: str, iterations: int | None) -> Task:
    """The task, with another number of iterations where one is given."""
    task = TASKS[name]
    if iterations is None:
        return task
    return task._replace(setup=task.setup._replace(iterations=iterations))


def _trained(task: Task, side: str, found: Any, seed: int) -> tuple[Fitted, list[np.ndarray]]:
    sessions = task.sessions(found)
    fitted = FITS[side](task.setup, training_part(sessions), seed)
    return fitted, fitted.embed(sessions)


def between_runs(name: str, side: str, seeds: Sequence[int], iterations: int | None) -> Scores:
    """The consistency of trainings from several seeds on the same data."""
    runs = [
        np.concatenate(benchmarking.alone(embeddings_of, name, side, seed, iterations))
        for seed in seeds
    ]
    return {_BETWEEN_RUNS: consistency(runs).mean}


@dataclasses.dataclass(frozen=True)
class Compared:
    """One figure of both sides.

    Attributes:
      task, figure: what it is of.
      ours, theirs: by seed; none of a side that was not trained.
    """

    task: str
    figure: str
    ours: Sequence[float]
    theirs: Sequence[float]

    def row(self) -> list[str]:
        return [
            self.task,
            self.figure + (" (lower is better)" if self.figure in LOWER else ""),
            _mean_and_std(self.ours),
            _mean_and_std(self.theirs),
            self.difference(),
        ]

    def difference(self) -> str:
        """The mean of ours less theirs, and the half-width of its 95 % interval over seeds."""
        if len(self.ours) < 2 or not self.theirs:
            return ""
        mean, width = interval_of(np.subtract(self.ours, self.theirs))
        return f"{mean:+.3f} ± {width:.3f}"


def _mean_and_std(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def accuracy_table(found: Sequence[Compared]) -> str:
    """Mean and standard deviation over seeds of both sides, and their difference."""
    heads = ["task", "figure", OURS, PACKAGE, "difference (95 %)"]
    return align([heads, *(each.row() for each in found)])


def speed_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Seconds of both sides, and how many times as long the package takes."""
    rows = [["task", "seconds", OURS, PACKAGE, "times"]]
    for name, sides in found.items():
        for figure in ("seconds per 1,000", "first call"):
            ours, theirs = (sides[side][figure] for side in (OURS, PACKAGE))
            rows.append([name, figure, f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.2f}"])
    return align(rows)


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    flags.DEFINE_string("output", None, "A folder, for the figures.", flag_values=values)
    flags.mark_flag_as_required("output", flag_values=values)
    flags.DEFINE_multi_enum("task", None, list(TASKS), "Of these alone.", flag_values=values)
    flags.DEFINE_bool("package", True, "Train the package too.", flag_values=values)
    flags.DEFINE_integer("seeds", 3, "Of data and trainings.", 2, flag_values=values)
    flags.DEFINE_integer(
        "iterations", None, "Of each training. Default: the task's.", 1, flag_values=values
    )
    flags.DEFINE_integer(
        "timed", 200, "Iterations of a training that is timed.", 1, flag_values=values
    )
    flags.DEFINE_bool("time", True, "Measure the speed too, of both.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Compares, and shows each task when it is done.

    Raises:
      RunError: for flags or packages that cannot be used.
    """
    if values.package:
        benchmarking.require_installed(["torch", "cebra"], otherwise=", or give --nopackage")
    folder = Path(values.output).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--output={values.output} cannot be made: {error}") from error
    described = benchmarking.describe(_PACKAGES)
    print(benchmarking.heading(described), flush=True)
    conditions = {
        **described,
        "setups": {name: task_of(name, values.iterations).setup._asdict() for name in TASKS},
        "timed": values.timed,
    }
    cells = Cells(folder / "cebra.json", conditions)
    for name in values.task or TASKS:
        print("\n" + accuracy_table(_compared(cells, name, values)), flush=True)
        if values.time and values.package:
            print("\n" + speed_table({name: _timed(cells, name, values.timed)}), flush=True)


def _compared(cells: Cells, name: str, values: flags.FlagValues) -> list[Compared]:
    seeds, own = range(values.seeds), values.iterations
    sides = list(FITS) if values.package else [OURS]
    found: dict[str, list[Scores]] = {
        side: [
            cells.get(
                {"task": name, "side": side, "seed": seed},
                partial(benchmarking.alone, scores_of, name, side, seed, own),
            )[0]
            for seed in seeds
        ]
        for side in sides
    }
    figures = [key for key in found[OURS][0] if key not in ("task", "side", "seed")]
    compared = [
        Compared(name, figure, *([c[figure] for c in found.get(side, ())] for side in FITS))
        for figure in figures
    ]
    runs = [
        cells.get(
            {"task": name, "side": side, "runs": values.seeds},
            partial(between_runs, name, side, seeds, own),
        )[0][_BETWEEN_RUNS]
        for side in sides
    ]
    return [*compared, Compared(name, _BETWEEN_RUNS, runs[:1], runs[1:])]


def _timed(cells: Cells, name: str, iterations: int) -> dict[str, Mapping[str, float]]:
    return {
        side: cells.get(
            {"task": name, "side": side, "timed": iterations},
            partial(benchmarking.alone, speed_of, name, side, iterations),
        )[0]
        for side in FITS
    }


if __name__ == "__main__":
    from alphacl_jax.cli.start import run_main  # here: its imports would slow each process measured

    # A cache of compiled programs would make ours look quicker to start than it is.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = ""
    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
