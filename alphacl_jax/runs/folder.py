"""A run folder: whose it is, with which settings, and what its encoder needs beside the weights.

flags.txt          the settings, as a flag file
preprocessing.json what was measured on the data: image shape, mean, std, policy, class names
checkpoints/       the states
metrics.jsonl, tensorboard/, evaluation.json, *.png
"""

import dataclasses
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alphacl_jax.errors import RunError, differences
from alphacl_jax.files import in_words, write_text_atomically
from alphacl_jax.runs.common_settings import AnyRunSettings
from alphacl_jax.runs.description import (
    AnyDescription,
    is_described,
    read_any_description,
    write_description,
)
from alphacl_jax.runs.flag_file import as_mapping, from_text, to_text
from alphacl_jax.runs.settings import EvaluationSettings

_SETTINGS, _LOCK = "flags.txt", "lock"
# These change nothing that is computed, and may differ when a run goes on. Of the data it is not
# where they lie that counts, but what they are.
_FREE = ("data_dir", *(field.name for field in dataclasses.fields(EvaluationSettings)))


class OtherDataError(RunError):
    """The run in the folder was trained on other data than it is asked to go on with.

    Attributes:
      impossible: whether it could not go on with these even where that were allowed.
    """

    def __init__(self, folder: Path, of: str, changes: str, impossible: bool):
        self.impossible = impossible
        ways = f"Give it the {of} that it began with, or train in another run folder"
        if not impossible:
            ways = (
                f"Give it the {of} that it began with, train in another run folder, or allow "
                "changed data to go on with these"
            )
        super().__init__(
            f"the run in {folder} was trained on other {of}: {changes}. {ways}; to load and use "
            f"what was trained, its {of} are not needed"
        )


class OtherRunError(RunError):
    """The folder holds a run with other settings.

    Attributes:
      workdir: the folder.
      differing: setting → (its value there, its value here).
    """

    def __init__(self, workdir: Path, differing: dict[str, tuple[Any, Any]]):
        self.workdir, self.differing = workdir, differing
        super().__init__(f"{workdir} holds a run with other settings: {differences(differing)}")


def checkpoints_of(workdir: Path) -> Path:
    """Where a run's states are."""
    return workdir / "checkpoints"


def records_of(workdir: Path) -> Path:
    """Where a run's records are."""
    return workdir / "metrics.jsonl"


def saved_steps(workdir: Path) -> list[int]:
    """The steps of which the run in a folder has a checkpoint, whole or damaged, in rising order.

    Quick, and changes nothing: for what people are told.
    """
    folder = checkpoints_of(workdir)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())


def how_far(workdir: Path, total_steps: int) -> str:
    """What is saved of the run in a folder, or of those of several seeds, as a sentence."""
    saved = {folder: saved_steps(folder) for folder in of_seeds(workdir)}
    found = [
        f"step {steps[-1]:,} of {total_steps:,} of the run in {folder}"
        for folder, steps in saved.items()
        if steps
    ]
    if not found:
        return f"The run in {workdir} has saved no step yet"
    return f"Saved {'is' if len(found) == 1 else 'are'} {', '.join(found)}"


def of_seeds(workdir: Path) -> list[Path]:
    """The folder of a run, and below it those of the runs of several seeds."""
    return [workdir, *sorted(workdir.glob("seed-*"))]


def read_settings(workdir: Path) -> AnyRunSettings:
    """The settings that the run in `workdir` was made with.

    Raises:
      RunError: where there is no run, or its settings cannot be read.
    """
    path = workdir / _SETTINGS
    if lost := _lost_settings(workdir):
        raise RunError(lost)
    if absent := _absent_settings(workdir):
        raise RunError(f"{workdir} holds no run: {path} is {absent}. Check the run folder")
    try:
        return from_text(path.read_text())
    except (ValueError, OSError) as error:
        raise RunError(f"{path} cannot be read as flags: {error}") from error


def _absent_settings(workdir: Path) -> str:
    """How a folder has no settings: "missing", or "empty" after a power cut; "" where it has."""
    path = workdir / _SETTINGS
    if not path.is_file():
        return "missing"
    return "" if path.stat().st_size else "empty"


def _lost_settings(workdir: Path) -> str | None:
    """What to say of a folder that has a run's states and no settings; None of any other folder."""
    path = workdir / _SETTINGS
    if not (state := _absent_settings(workdir)):
        return None
    steps = {folder: saved for folder in of_seeds(workdir) if (saved := saved_steps(folder))}
    if not steps:
        return None
    if not any(map(_absent_settings, steps)):  # runs of their own, or the seeds of one
        return (
            f"{workdir} holds no run of its own ({_SETTINGS} is {state}), but those in "
            f"{', '.join(map(str, steps))}. Use one of these run folders; or, where they are the "
            f"seeds of one run, restore {path} from a copy of the folder"
        )
    return (
        f"{workdir} holds checkpoints, the last of step {max(map(max, steps.values()))}, and its "
        f"{_SETTINGS} is {state}, without which nobody knows whose they are. Restore "
        f"{path} from a copy of the folder; or write the settings that the run was made with "
        "into it, as another run's has them"
    )


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps a run folder for this process; the system lets go of it when the process ends.

    Raises:
      RunError: where another process holds it.
    """
    with (workdir / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"another process is training in {workdir}. Wait for it, or use another run folder"
            ) from error
        yield


def is_in_use(workdir: Path) -> bool:
    """Whether a process is training in a run folder, as far as this machine can know."""
    try:
        with (workdir / _LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no lock, or no right to see it
        return False
    return False


def claim_workdir(
    workdir: Path,
    settings: AnyRunSettings,
    data: AnyDescription | None = None,
    *,
    allow_changed_data: bool = False,
) -> str:
    """Makes the run folder, or checks that the run in it has the same settings and data.

    What changes nothing that is computed may differ, and the epochs may be raised.

    Args:
      workdir: the folder.
      settings: of the run.
      data: what the run is to be trained on; None does not look at it.
      allow_changed_data: whether a run that was trained on other data goes on with these. It
        keeps the shape and the colours of those that it began with.

    Returns:
      What is new about the run in the folder, in sentences; "" where nothing is.

    Raises:
      OtherRunError: where it holds a run with other settings.
      OtherDataError: where it holds a run that was trained on other data.
      RunError: where it cannot be made, or holds something else.
    """
    if lost := _lost_settings(workdir):
        raise RunError(lost)
    if not _absent_settings(workdir):
        return _continue(workdir, settings, data, allow_changed_data)
    # A process that was killed, or the power cut, while it made the folder may have left the file
    # half written or empty.
    if workdir.is_dir() and any(
        not p.name.endswith(".partial") and p.name not in (_SETTINGS, _LOCK)
        for p in workdir.iterdir()
    ):
        raise RunError(
            f"{workdir} is not empty and holds no run (no {_SETTINGS}). Use another run folder"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_text_atomically(workdir / _SETTINGS, to_text(settings))
    except OSError as error:
        raise RunError(f"the run folder {workdir} cannot be made: {in_words(error)}") from error
    return ""


def _changed_data(
    workdir: Path, here: AnyDescription, allowed: bool
) -> dict[Path, tuple[AnyDescription, str]]:
    """The runs in a folder whose data were others → what they were, and the difference in words.

    Raises:
      OtherDataError: for the first of them, where that is not allowed or cannot be.
    """
    changed = {}
    for folder in of_seeds(workdir):
        there = read_any_description(folder) if is_described(folder) else here
        if not (changes := there.changes(here)):
            continue
        how = "; ".join(changes)
        if not allowed or not there.fits(here):
            raise OtherDataError(folder, here.of, how, impossible=allowed)
        changed[folder] = there, how
    return changed


def _continue(
    workdir: Path, settings: AnyRunSettings, data: AnyDescription | None, allow_changed_data: bool
) -> str:
    there, here = as_mapping(read_settings(workdir)), as_mapping(settings)
    differing = {
        name: (there.get(name), here.get(name))
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    }
    longer = "epochs" in differing and there["epochs"] < here["epochs"]
    refused = {
        name: values
        for name, values in differing.items()
        if name not in _FREE and not (name == "epochs" and longer)
    }
    if refused:
        raise OtherRunError(workdir, refused)
    changed = {} if data is None else _changed_data(workdir, data, allow_changed_data)
    news = []
    for folder, (before, how) in changed.items():
        assert data is not None
        write_description(folder, before.with_data_of(data))
        news.append(
            f"the run in {folder} goes on with other {data.of} ({how}), from the first of them "
            f"on, and with the {data.keeps} of those that it began with"
        )
    if differing:
        write_text_atomically(workdir / _SETTINGS, to_text(settings))
    if longer:
        news.append(
            f"the run in {workdir} is raised from {there['epochs']} to {here['epochs']} epochs: "
            "from its last checkpoint on it follows the learning rate of the new length"
        )
    return "\n".join(news)
