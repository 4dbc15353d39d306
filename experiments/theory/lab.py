"""What the experiments of the theory lab share: flags, progress, checks, tables, files."""

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from absl import flags
from jax import Array
from matplotlib.figure import Figure
from tqdm import tqdm

from alphacl_jax.cli.start import plain_errors, run_main
from alphacl_jax.errors import RunError
from alphacl_jax.evaluation.pictures import save_figure
from alphacl_jax.files import write_json_atomically
from alphacl_jax.runs.settings import LARGEST_SEED
from experiments.benchmarks import benchmarking

_SECONDS_BETWEEN_LINES = 15.0
_Result = TypeVar("_Result")


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
    table = benchmarking.format_rows([title, expected, "ours", "difference", "verdict"], rows)
    agreeing = sum(check.agrees for check in checks)
    return f"{table}\n{agreeing} of {len(checks)} agree"


def _number(value: float, std: float | None) -> str:
    if std is not None:
        return f"{value:.3f}±{std:.3f}"
    return f"{value:.4g}"


class Lab:
    """The folder, the clock and the results of one experiment.

    Raises:
      RunError: for a folder that cannot be written to, or a flag that is NaN or infinite.
    """

    def __init__(self, values: flags.FlagValues):
        self._settings = {
            flag.name: flag.value
            for module, of_module in values.flags_by_module_dict().items()
            if module == sys.argv[0] or module.startswith("experiments")
            for flag in of_module
        }
        for name, value in self._settings.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise RunError(f"--{name}={value} must be a finite number")
        if not values.workdir:
            raise RunError("--workdir= is empty: name a folder, or leave it out")
        self.workdir = Path(values.workdir)
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.workdir):
                pass  # it can be written to, which the end of a long run is too late to find out
        except OSError as error:
            raise RunError(
                f"--workdir={values.workdir} cannot be made or written to: {error}"
            ) from error
        self._started = time.monotonic()

    def show(self, text: str) -> None:
        print(text, flush=True)

    def picture(self, name: str, figure: Figure) -> None:
        """Writes a figure to the folder and says where."""
        save_figure(figure, self.workdir / name)
        self.show(f"picture: {self.workdir / name}")

    def finish(self, results: Mapping[str, Any], checks: Mapping[str, Sequence[Check]]) -> None:
        """Writes all numbers to results.json in the folder, and says where and how long it took.

        A number that is NaN or infinite becomes null, as JSON has no other word for it.

        Args:
          results: what was computed, as numbers, strings, lists and dicts.
          checks: the tables that were shown, by title.
        """
        seconds = time.monotonic() - self._started
        path = self.workdir / "results.json"
        report = {
            **benchmarking.describe(("jax", "jaxlib", "numpy")),
            "settings": self._settings,
            "seconds": seconds,
            "checks": {k: [check.as_json() for check in v] for k, v in checks.items()},
            "results": dict(results),
        }
        write_json_atomically(path, _finite_or_null(report))
        self.show(f"all numbers: {path} ({seconds:.0f} s)")


def _finite_or_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite_or_null(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_null(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def progress(items: Sequence[Any], name: Callable[[Any], str]) -> Iterator[Any]:
    """Passes items on: with a bar in a terminal, elsewhere with a line every few seconds.

    Args:
      items: what is worked through.
      name: what is shown of the item being worked on.
    """
    terminal = sys.stderr.isatty()
    shown = -_SECONDS_BETWEEN_LINES
    started = time.monotonic()
    with tqdm(total=len(items), disable=not terminal, leave=False, dynamic_ncols=True) as bar:
        for number, item in enumerate(items, 1):
            bar.set_description_str(name(item))
            now = time.monotonic() - started
            if not terminal and now - shown >= _SECONDS_BETWEEN_LINES:
                shown = now
                line = f"{number} of {len(items)}: {name(item)} ({now:.0f} s so far)"
                print(line, file=sys.stderr, flush=True)
            yield item
            bar.update()


def in_progress(name: str, compute: Callable[[], _Result]) -> _Result:
    """What one long computation returns; it is shown as an item of `progress` is."""
    (result,) = [compute() for _ in progress([name], str)]
    return result


def require_finite_loss(
    losses: np.ndarray | Array, values: flags.FlagValues, rate: str, where: str
) -> None:
    """Refuses a training that diverged.

    Args:
      losses: of any shape.
      values: the flags of the run.
      rate: the flag that has to be lower.
      where: the training, after "the loss is infinite ".

    Raises:
      RunError: for a loss that is NaN or infinite.
    """
    if not np.isfinite(losses).all():
        raise RunError(f"--{rate}={values[rate].value} is too large: the loss is infinite {where}")


def define_lab_flags(name: str, values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of every experiment, --workdir and --seed, on `values`."""
    flags.DEFINE_string(
        "workdir",
        f"runs/theory/{name}",
        "The folder for results.json and PNGs.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "seed", 0, "The first seed of data and weights.", 0, LARGEST_SEED, flag_values=values
    )


@contextmanager
def no_empty_folder(folder: Path) -> Iterator[None]:
    """Removes a folder, and parents, that came into being within if an error leaves them empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in made:
            if not path.is_dir() or any(path.iterdir()):
                break
            path.rmdir()
        raise


def main(run: Callable[[flags.FlagValues], None], documentation: str | None) -> None:
    """Starts a script: what the library says of impossible settings ends it in one line."""

    def guarded(argv: Sequence[str]) -> None:
        del argv
        with plain_errors(flags.FLAGS), no_empty_folder(Path(flags.FLAGS.workdir)):
            run(flags.FLAGS)

    run_main(guarded, documentation)
