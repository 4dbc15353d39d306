"""What the experiments of the theory lab share: flags, progress, conclusions, files."""

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from absl import flags
from jax import Array
from matplotlib.figure import Figure
from tqdm import tqdm

from alphacl_jax.cli.start import plain_errors, run_main
from alphacl_jax.errors import RunError
from alphacl_jax.evaluation.pictures import warned_of
from alphacl_jax.files import write_json_atomically, write_png_atomically
from alphacl_jax.runs.common_settings import LARGEST_SEED
from experiments.benchmarks import benchmarking
from experiments.theory.checks import Check

_SECONDS_BETWEEN_LINES = 15.0
_Result = TypeVar("_Result")


class Lab:
    """The folder, the clock and the results of one experiment.

    Args:
      settings: of the run, `settings_of` its flags; "workdir" is the folder.

    Raises:
      RunError: for a folder that cannot be written to, or a setting that is NaN or infinite.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self._settings = dict(settings)
        self._pictures: list[Path] = []
        self._open = False  # whether an empty line is still to follow what was shown
        for name, value in self._settings.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise RunError(f"--{name}={value} must be a finite number")
        workdir = settings["workdir"]
        if not workdir:
            raise RunError("--workdir= is empty: name a folder, or leave it out")
        self.workdir = Path(workdir)
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.workdir):
                pass  # it can be written to, which the end of a long run is too late to find out
        except OSError as error:
            raise RunError(f"--workdir={workdir} cannot be made or written to: {error}") from error
        self._started = time.monotonic()

    def show(self, text: str) -> None:
        print(text, flush=True)
        self._open = bool(text) and not text.endswith("\n")

    def picture(self, name: str, figure: Figure) -> None:
        """Writes a figure to the folder; `finish` says where. One that fails costs no results."""
        with warned_of(str(self.workdir / name)):
            write_png_atomically(self.workdir / name, figure)
            self._pictures.append(self.workdir / name)

    def finish(
        self,
        results: Mapping[str, Any],
        checks: Mapping[str, Sequence[Check]],
        conclusion: tuple[str, str],
    ) -> None:
        """Says what was shown, writes all numbers to results.json, and says where the files are.

        A number that is NaN or infinite becomes null, as JSON has no other word for it.

        Args:
          results: what was computed, as numbers, strings, lists and dicts.
          checks: the tables that were shown, by title.
          conclusion: two sentences on what this run has shown, and no more than that.
        """
        seconds = time.monotonic() - self._started
        path = self.workdir / "results.json"
        report = {
            **benchmarking.describe(("jax", "jaxlib", "numpy")),
            "settings": self._settings,
            "seconds": seconds,
            "conclusion": list(conclusion),
            "checks": {k: [check.as_json() for check in v] for k, v in checks.items()},
            "results": dict(results),
        }
        write_json_atomically(path, _finite_or_null(report))
        self.show("\n" * self._open + "\n".join(conclusion) + "\n")
        for picture in self._pictures:
            self.show(f"picture: {picture}")
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


def require_finite_loss(losses: np.ndarray | Array, rate: str, value: float, where: str) -> None:
    """Refuses a training that diverged.

    Args:
      losses: of any shape.
      rate: the flag that has to be lower.
      value: what it was.
      where: the training, after "the loss is infinite ".

    Raises:
      RunError: for a loss that is NaN or infinite.
    """
    if not np.isfinite(losses).all():
        raise RunError(f"--{rate}={value} is too large: the loss is infinite {where}")


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


def settings_of(values: flags.FlagValues) -> dict[str, Any]:
    """The flags of a script by name, those of its libraries left out: what a `Lab` is given."""
    return {
        flag.name: flag.value
        for module, of_module in values.flags_by_module_dict().items()
        if module == sys.argv[0] or module.startswith("experiments")
        for flag in of_module
    }


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
    """Starts a script; impossible settings, or a library that is missing, end it in one line."""

    def guarded(argv: Sequence[str]) -> None:
        del argv
        with plain_errors(flags.FLAGS), no_empty_folder(Path(flags.FLAGS.workdir)):
            try:
                run(flags.FLAGS)
            except ModuleNotFoundError as error:
                raise RunError(str(error)) from error

    run_main(guarded, documentation)
