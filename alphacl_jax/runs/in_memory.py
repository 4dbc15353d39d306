"""Training on data that are in memory, whatever they are."""

import dataclasses
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from alphacl_jax.data.sources import ARRAYS
from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.any_run import AnyRun, prepare_training
from alphacl_jax.runs.common_settings import AnyRunSettings
from alphacl_jax.runs.train_run import check_hosts, check_start, run_folder, train_run

S = TypeVar("S")


def of_arrays(settings: S, read: str, what: str) -> S:
    """The settings of data of a run on what is in memory.

    Args:
      settings: a dataclass with `dataset`.
      read: the one field that is read of them nevertheless.
      what: is in memory, as a message calls it.

    Raises:
      ArgumentError: where another is set.
    """
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        free = field.name == read or (field.name, value) == ("dataset", ARRAYS)
        if value != field.default and not free:
            problem = f"is set, and {what} in memory are used as they are given"
            raise ArgumentError(field.name, value, problem)
    return dataclasses.replace(settings, dataset=ARRAYS)  # type: ignore[type-var]


def require_one(settings: AnyRunSettings) -> None:
    """Refuses settings of several seeds.

    Raises:
      ArgumentError: naming `num_seeds`.
    """
    if settings.num_seeds != 1:
        raise ArgumentError("num_seeds", settings.num_seeds, "must be 1 here: call once per seed")


def train_in_memory(
    open_run: Callable[[], AnyRun], workdir: str | Path | None, *, allow_changed_data: bool
) -> Any:
    """Trains one run to its end, and returns its encoder.

    Args:
      open_run: the run, which its data are part of.
      workdir: a run folder; None keeps nothing.
      allow_changed_data: as in `run_folder`.

    Raises:
      ArgumentError, RunError, NonFiniteLossError: as `check_start`, `run_folder` and `train_run`.
    """
    with ExitStack() as stack:
        if workdir is None:
            workdir = stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(workdir).expanduser()
        run = open_run()
        check_start(run)
        training = prepare_training(run)
        check_hosts(run, training)
        description = run.describe(training.batches)
        run, training = run.as_begun(training, folder)
        stack.enter_context(run_folder(folder, run.settings, description, allow_changed_data))
        return train_run(run, training, folder)[0]
