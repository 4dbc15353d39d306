"""What experiments on recordings share: their flags, cells that survive a kill, rates, the end.

An experiment computes rows over several seeds. The figures of each (row, seed) are a cell, kept in
OUTPUT/cells.json as soon as they are known, so that the same command goes on where it was stopped.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from alphacl_jax.cli.compilation import define_cache_flag, keep_programs
from alphacl_jax.cli.start import plain_errors, run_main
from alphacl_jax.errors import RunError
from alphacl_jax.runs.cells import Cell, Cells
from alphacl_jax.runs.common_settings import LARGEST_SEED, check_last_seed
from experiments.studies.choosing import best_of, said_of
from experiments.studies.claims import Claim
from experiments.studies.ending import FIGURES, Pictures, end
from experiments.studies.own_flags import Own, define_own, read_own, value_of
from experiments.studies.study import to_stderr
from experiments.theory.lab import no_empty_folder

_SEEDS = 3
# Rates are chosen with a seed that no row has.
CHOOSING_SEED = LARGEST_SEED


class Experiment:
    """The settings, the seeds and the cells of one experiment.

    Attributes:
      output: its folder.
      seeds: of the rows.
      quick: whether it is to be as small as possible.
      own: its settings, of the class that it was given.
    """

    def __init__(self, values: flags.FlagValues, own: Own):
        """Reads the settings.

        Args:
          values: with the flags of `define_experiment_flags`.
          own: as there.

        Raises:
          ArgumentError: for settings that are impossible.
          RunError: for a folder that cannot be made.
        """
        self.quick = bool(values["quick"].value)
        self.own: Any = read_own(values, own, self.quick)
        first: int = values["seed"].value  # type: ignore[assignment]
        count: int = value_of(values, "num_seeds", {"num_seeds": 1} if self.quick else {})
        check_last_seed(first, count)
        self.seeds = range(first, first + count)
        if not values["output"].value:
            raise RunError("--output= is empty: name a folder, or leave it out")
        self.output = Path(str(values["output"].value)).expanduser().absolute()
        self._cells: Cells | None = None
        self._started = time.monotonic()

    def depends_on(self, data: Mapping[str, str], changing_nothing: Sequence[str] = ()) -> None:
        """Opens the cells, which is before the first of them.

        Args:
          data: digests of what is trained and tested on, by name.
          changing_nothing: settings that no figure depends on.

        Raises:
          RunError: for a folder of another experiment.
        """
        settings = dataclasses.asdict(self.own)
        kept = {name: value for name, value in settings.items() if name not in changing_nothing}
        self.output.mkdir(parents=True, exist_ok=True)
        self._cells = Cells(self.output / FIGURES, {**data, **kept})

    def cell(self, row: str, seed: int, compute: Callable[[], Cell]) -> Cell:
        """A row's figures of one seed, computed where the file has none."""
        assert self._cells is not None, "depends_on comes first"
        cell, new = self._cells.get({"row": row, "seed": seed}, compute)
        if new:
            to_stderr(f"{row}, seed {seed}")
        return cell

    def rows(
        self, names: Sequence[str], compute: Callable[[str, int], Cell]
    ) -> dict[str, list[Cell]]:
        """Row → a cell for each seed; all rows of a seed before those of the next."""
        found: dict[str, list[Cell]] = {name: [] for name in names}
        for seed in self.seeds:
            for name in names:
                found[name].append(self.cell(name, seed, functools.partial(compute, name, seed)))
        return found

    def rate_of(
        self, row: str, rates: Sequence[float], score: Callable[[float], float]
    ) -> tuple[float, dict[str, str]]:
        """The learning rate of a row that is best on recordings that are held out of training.

        Args:
          row: its name.
          rates: to be tried; of one, nothing is.
          score: the accuracy on held-out recordings at a rate; NaN where training diverged.

        Returns:
          The rate, and what a table says of it: "rate", with a star where it is an end of the
          list, and "tried", the accuracies.
        """
        rates = sorted(rates)
        if len(rates) == 1:
            return rates[0], {}

        def held_out(rate: float) -> Cell:
            found = score(rate)
            return {"diverged": True} if math.isnan(found) else {"score": found}

        cells = [
            self.cell(
                f"{row}, learning rate {rate:g}, held out",
                CHOOSING_SEED,
                functools.partial(held_out, rate),
            )
            for rate in rates
        ]
        scores = [float(cell.get("score", math.nan)) for cell in cells]
        return rates[best_of(scores)], said_of(rates, scores)

    def finish(self, table: str, claims: Sequence[Claim], pictures: Pictures) -> None:
        """Shows what was found, keeps it beside the cells, and draws; see `end`."""
        assert self._cells is not None, "depends_on comes first"
        end(
            self._cells,
            self.output,
            table,
            claims,
            pictures,
            quick=self.quick,
            started=self._started,
        )


def define_experiment_flags(values: flags.FlagValues, name: str, own: Own) -> None:
    """Defines the flags of an experiment.

    Args:
      values: where.
      name: of the module, for its folder.
      own: its settings, and those that --quick makes smaller.
    """
    define_own(values, own)
    flags.DEFINE_string("output", f"runs/sequences/{name}", "Folder for figures.", values)
    define_cache_flag(values)
    flags.DEFINE_bool("quick", False, "As small as can be: to see that it runs.", values)
    flags.DEFINE_integer("seed", 0, "The first seed.", 0, LARGEST_SEED - 1, flag_values=values)
    flags.DEFINE_integer("num_seeds", _SEEDS, "How many.", 1, flag_values=values)


def experiment_main(
    name: str, documentation: str | None, run: Callable[[Experiment], None], own: Own
) -> None:
    """Runs an experiment as a program.

    Args:
      name, own: see `define_experiment_flags`.
      documentation: of the module, for --help.
      run: the experiment.
    """
    define_experiment_flags(flags.FLAGS, name, own)

    def main(argv: Sequence[str]) -> None:
        del argv
        values = flags.FLAGS
        with plain_errors(values), no_empty_folder(Path(str(values["output"].value))):
            keep_programs(values)
            try:
                run(Experiment(values, own))
            except ModuleNotFoundError as error:
                raise RunError(str(error)) from error

    run_main(main, documentation)
