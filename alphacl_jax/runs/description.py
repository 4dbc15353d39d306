"""What a run's encoder needs beside its weights, as it was when the run began to train."""

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from alphacl_jax.data import policies
from alphacl_jax.data.decoding import shown_range
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.errors import RunError
from alphacl_jax.files import write_json_atomically
from alphacl_jax.runs.changes import changed_classes
from alphacl_jax.runs.common_settings import AnyRunSettings
from alphacl_jax.runs.recording_description import RecordingDescription

_DESCRIPTION = "preprocessing.json"
# Of means and deviations in [0, 1]: readers of images may round in different ways.
_COLOUR_TOLERANCE = 1e-3


class AnyDescription(Protocol):
    """What an encoder needs beside its weights, of whatever it was trained on.

    Attributes:
      of: what the data consists of, in the plural: "images".
      keeps: what of the first data is kept where the run goes on with others.
      data: the title of the data.
      data_changes: how the data differed from those before where the run went on with others.
    """

    of: ClassVar[str]
    keeps: ClassVar[str]

    @property
    def data(self) -> str: ...

    @property
    def data_changes(self) -> tuple[str, ...]: ...

    def total_steps(self, settings: AnyRunSettings) -> int:
        """The number of steps of the whole run."""

    def to_json(self) -> dict[str, Any]: ...

    def changes(self, other: Any) -> list[str]:
        """What differs between the data of this description and of another one, in words."""

    def fits(self, other: Any) -> bool:
        """Whether an encoder of this description could go on with the data of the other."""

    def with_data_of(self, other: Any) -> Self:
        """This description, of a run that goes on with the data of another one."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What an encoder of images needs beside its weights, measured when the run began.

    Attributes:
      preprocessing: of images.
      policy: the augmentation that it was trained with; of the first view where the settings
        change that of the second.
      class_names: one per label; empty where there were no labels.
      data: the title of the data set.
      num_images: how many it was trained on.
      fingerprint: of those images, see `reading.Source`; None of a run that kept none.
      data_changes: how the images differed from those before them where the run went on with
        other ones, in words.
    """

    of: ClassVar[str] = "images"
    keeps: ClassVar[str] = "colours"

    preprocessing: Preprocessing
    policy: policies.Policy
    class_names: tuple[str, ...]
    data: str
    num_images: int
    fingerprint: str | None
    data_changes: tuple[str, ...] = ()

    def total_steps(self, settings: AnyRunSettings) -> int:
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
            "data_changes": list(self.data_changes),
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
            tuple(found.get("data_changes", ())),
        )

    def changes(self, other: "Description") -> list[str]:
        """What differs between the data of this description and of another one, in words."""
        then, now = self.preprocessing, other.preprocessing
        pairs = {
            "images": (self.num_images, other.num_images),
            "image shape": (then.image_shape, now.image_shape),
        }
        found = [f"{name} {a} then, {b} now" for name, (a, b) in pairs.items() if a != b]
        classes = self.class_names, other.class_names
        found += changed_classes(*classes, "classes that are gone", "new classes")
        if found:
            return found
        known = None not in (self.fingerprint, other.fingerprint)
        if known and self.fingerprint != other.fingerprint:
            return ["as many images, but not the same ones by their names and sizes"]
        if self.data_changes:
            return []  # what was measured and is kept is of the images before
        ranges = [
            "no range" if own.pixel_range is None else shown_range(own.pixel_range)
            for own in (then, now)
        ]
        if ranges[0] != ranges[1]:
            return [f"values of the pixels {ranges[0]} then, {ranges[1]} now"]
        return [
            f"{name} of the colours {_listed(a)} then, {_listed(b)} now"
            for name, a, b in (("mean", then.mean, now.mean), ("deviation", then.std, now.std))
            if max(abs(x - y) for x, y in zip(a, b, strict=True)) > _COLOUR_TOLERANCE
        ]

    def fits(self, other: "Description") -> bool:
        return self.preprocessing.image_shape == other.preprocessing.image_shape

    def with_data_of(self, other: "Description") -> "Description":
        """This description, of a run that goes on with the data of another one."""
        return dataclasses.replace(
            self,
            class_names=other.class_names,
            data=other.data,
            num_images=other.num_images,
            fingerprint=other.fingerprint,
            data_changes=(*self.data_changes, "; ".join(self.changes(other))),
        )


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.3f}" for number in numbers)


def is_described(workdir: Path) -> bool:
    """Whether the run in a folder has begun to train."""
    return (workdir / _DESCRIPTION).exists()


def write_description(workdir: Path, description: AnyDescription) -> None:
    """Stores what the run's encoder needs, in place of what was stored before."""
    write_json_atomically(workdir / _DESCRIPTION, description.to_json())


def read_any_description(workdir: Path) -> AnyDescription:
    """What `write_description` stored, of a run on whatever data.

    Raises:
      RunError: as `read_description`.
    """
    return read_description(workdir)


def read_description(workdir: Path) -> Description | RecordingDescription:
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
        found = json.loads(path.read_text())
        kind = RecordingDescription if found.get("of") == RecordingDescription.of else Description
        return kind.from_json(found)
    except (ValueError, TypeError, LookupError, AttributeError, OSError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error!r}. Train the run again") from error


def read_description_of_images(workdir: Path) -> Description:
    """The description of a run on images.

    Raises:
      RunError: as `read_description`, and for a run on other data.
    """
    found = read_description(workdir)
    if isinstance(found, Description):
        return found
    raise RunError(f"{workdir / _DESCRIPTION} is of a run on {found.of}, and not on images")
