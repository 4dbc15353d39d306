"""A run folder: whose it is, with which settings, and what its encoder needs beside the weights.

flags.txt          the settings, as a flag file
preprocessing.json what was measured on the data: image shape, mean, std, policy, class names
checkpoints/       the states
metrics.jsonl, tensorboard/, evaluation.json, *.png
"""

import dataclasses
import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alphacl_jax.data import policies
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.errors import RunError, differences
from alphacl_jax.files import write_json_atomically, write_text_atomically
from alphacl_jax.runs.flag_file import as_mapping, from_text, to_text
from alphacl_jax.runs.methods import label_of
from alphacl_jax.runs.settings import EvaluationSettings, RunSettings

_SETTINGS, _DESCRIPTION = "flags.txt", "preprocessing.json"
# These change nothing that is computed, and may differ when a run goes on. Of the data it is not
# where they lie that counts, but what they are.
_FREE = ("data_dir", *(field.name for field in dataclasses.fields(EvaluationSettings)))


class OtherDataError(RunError):
    """The run in the folder was trained on other images than it is asked to go on with."""


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


def default_workdir(settings: RunSettings, title: str) -> Path:
    """`runs/` plus data set, loss and a hash of all settings but those of the evaluation.

    Args:
      settings: of the run.
      title: of the data set.
    """
    kept = dataclasses.replace(settings, evaluation=EvaluationSettings())
    digest = hashlib.sha256(to_text(kept).encode()).hexdigest()[:8]
    return Path("runs") / f"{title.replace('/', '_')}-{label_of(settings)}-{digest}"


def read_settings(workdir: Path) -> RunSettings:
    """The settings that the run in `workdir` was made with.

    Raises:
      RunError: where there is no run, or its settings cannot be read.
    """
    path = workdir / _SETTINGS
    if not path.is_file():
        raise RunError(f"{workdir} holds no run: {path} is missing. Check the run folder")
    try:
        return from_text(path.read_text())
    except (ValueError, OSError) as error:
        raise RunError(f"{path} cannot be read as flags: {error}") from error


@dataclasses.dataclass(frozen=True)
class Description:
    """What an encoder needs beside its weights, measured when the run began.

    Attributes:
      preprocessing: of images.
      policy: the augmentation that it was trained with.
      class_names: one per label; empty where there were no labels.
      data: the title of the data set.
      num_images: how many it was trained on.
      fingerprint: of those images, see `reading.Source`; None of a run that kept none.
    """

    preprocessing: Preprocessing
    policy: policies.Policy
    class_names: tuple[str, ...]
    data: str
    num_images: int
    fingerprint: str | None

    def total_steps(self, settings: RunSettings) -> int:
        """The number of steps of the whole run."""
        own = settings.optimizer
        return own.epochs * (self.num_images // own.batch_size)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.preprocessing.to_json(),
            "policy": policies.as_dict(self.policy),
            "class_names": list(self.class_names),
            "data": self.data,
            "num_images": self.num_images,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Description":
        return cls(
            Preprocessing.from_json(found),
            policies.from_dict(found["policy"]),
            tuple(found["class_names"]),
            found["data"],
            found["num_images"],
            found.get("fingerprint"),
        )

    def changes(self, other: "Description") -> list[str]:
        """What differs between the data of this description and of another one, in words."""
        pairs = {
            "images": (self.num_images, other.num_images),
            "image shape": (self.preprocessing.image_shape, other.preprocessing.image_shape),
        }
        found = [
            f"{name} {there} then, {here} now"
            for name, (there, here) in pairs.items()
            if there != here
        ]
        known = None not in (self.fingerprint, other.fingerprint)
        if not found and known and self.fingerprint != other.fingerprint:
            found = ["as many images, but not the same ones"]
        return found


def write_description(workdir: Path, description: Description) -> None:
    """Stores what the run's encoder needs, once: a run that goes on keeps what it began with."""
    if not (workdir / _DESCRIPTION).exists():
        write_json_atomically(workdir / _DESCRIPTION, description.to_json())


def read_description(workdir: Path) -> Description:
    """What `write_description` stored.

    Raises:
      RunError: where it is not there, or cannot be read.
    """
    path = workdir / _DESCRIPTION
    if not path.is_file():
        raise RunError(
            f"{path} is missing: the run in {workdir} did not begin to train, or was made by an "
            "earlier version, whose encoders cannot be loaded. Train it again"
        )
    try:
        return Description.from_json(json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise RunError(f"{path} cannot be read: {error!r}. Train the run again") from error


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps a run folder for this process; the system lets go of it when the process ends.

    Raises:
      RunError: where another process holds it.
    """
    with (workdir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"another process is training in {workdir}. Wait for it, or use another run folder"
            ) from error
        yield


def claim_workdir(workdir: Path, settings: RunSettings, data: Description | None = None) -> str:
    """Makes the run folder, or checks that the run in it has the same settings and data.

    What changes nothing that is computed may differ, and the epochs may be raised.

    Args:
      workdir: the folder.
      settings: of the run.
      data: what the run is to be trained on; None does not look at it.

    Returns:
      What is new about the run in the folder, as a sentence; "" where nothing is.

    Raises:
      OtherRunError: where it holds a run with other settings.
      OtherDataError: where it holds a run that was trained on other images.
      RunError: where it cannot be made, or holds something else.
    """
    if (workdir / _SETTINGS).exists():
        return _continue(workdir, settings, data)
    # A process that was killed while it made the folder may have left the file half written.
    if workdir.is_dir() and any(not p.name.endswith(".partial") for p in workdir.iterdir()):
        raise RunError(
            f"{workdir} is not empty and holds no run (no {_SETTINGS}). Use another run folder"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_text_atomically(workdir / _SETTINGS, to_text(settings))
    except OSError as error:
        raise RunError(f"the run folder {workdir} cannot be made: {error}") from error
    return ""


def _require_same_data(workdir: Path, here: Description) -> None:
    """Of the run in a folder, or the runs of several seeds in it."""
    for folder in (workdir, *sorted(workdir.glob("seed-*"))):
        if not (folder / _DESCRIPTION).exists():
            continue  # it has not begun to train
        if changes := read_description(folder).changes(here):
            raise OtherDataError(
                f"the run in {folder} was trained on other images: {'; '.join(changes)}. Give it "
                "the images that it began with, or train in another run folder; to evaluate what "
                "was trained, or to use it, its images are not needed"
            )


def _continue(workdir: Path, settings: RunSettings, data: Description | None) -> str:
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
    if data is not None:
        _require_same_data(workdir, data)
    if differing:
        write_text_atomically(workdir / _SETTINGS, to_text(settings))
    if not longer:
        return ""
    return (
        f"the run in {workdir} is raised from {there['epochs']} to {here['epochs']} epochs: from "
        "its last checkpoint on it follows the learning rate of the new length"
    )
