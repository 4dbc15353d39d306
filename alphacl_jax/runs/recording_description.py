"""What a run on recordings needs to know of them, as it was when the run began to train."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from alphacl_jax.runs.changes import changed_classes
from alphacl_jax.runs.common_settings import AnyRunSettings


@dataclasses.dataclass(frozen=True)
class RecordingDescription:
    """What an encoder of recordings needs beside its weights, measured when the run began.

    Attributes:
      channels: of the signal.
      rate: moments per second; None where it is unknown.
      mean, std: of each channel, by which signals are brought to mean 0 and deviation 1; 0 and 1
        where they are used as they are.
      class_names: of the recordings' labels; empty where there were none.
      moment_names: of the moments' labels.
      data: the title of the source.
      num_recordings, num_moments: how much it was trained on.
      steps_per_epoch: of the run.
      fingerprint: of the recordings.
      data_changes: how the recordings differed from those before them where the run went on with
        other ones, in words.
    """

    of: ClassVar[str] = "recordings"
    keeps: ClassVar[str] = "mean and deviation of the channels"

    channels: int
    rate: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    moment_names: tuple[str, ...]
    data: str
    num_recordings: int
    num_moments: int
    steps_per_epoch: int
    fingerprint: str
    data_changes: tuple[str, ...] = ()

    def normalised(self, signal: np.ndarray) -> np.ndarray:
        """A signal float32 `[time, channels]` as the networks are given it: `(x − mean)/std`."""
        mean, std = (np.array(of, np.float32) for of in (self.mean, self.std))
        return (signal - mean) / std

    def total_steps(self, settings: AnyRunSettings) -> int:
        """The number of steps of the whole run."""
        return settings.optimizer.epochs * self.steps_per_epoch

    def to_json(self) -> dict[str, Any]:
        return {"of": self.of, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "RecordingDescription":
        given: dict[str, Any] = {
            field.name: tuple(value) if isinstance(value := found[field.name], list) else value
            for field in dataclasses.fields(cls)
        }
        return cls(**given)

    def changes(self, other: "RecordingDescription") -> list[str]:
        """What differs between the data of this description and of another one, in words."""
        pairs = {
            "recordings": (self.num_recordings, other.num_recordings),
            "moments": (self.num_moments, other.num_moments),
            "channels": (self.channels, other.channels),
            "moments per second": (self.rate, other.rate),
        }
        found = [f"{name} {a} then, {b} now" for name, (a, b) in pairs.items() if a != b]
        for what, then, now in (
            ("classes", self.class_names, other.class_names),
            ("classes of moments", self.moment_names, other.moment_names),
        ):
            found += changed_classes(then, now, f"{what} that are gone", f"{what} that are new")
        if found:
            return found
        if self.fingerprint != other.fingerprint:
            return ["as many recordings and moments, but not the same ones by what they hold"]
        return []

    def fits(self, other: "RecordingDescription") -> bool:
        return (self.channels, self.rate) == (other.channels, other.rate)

    def with_data_of(self, other: "RecordingDescription") -> "RecordingDescription":
        """This description, of a run that goes on with the data of another one."""
        return dataclasses.replace(
            other,
            mean=self.mean,
            std=self.std,
            data_changes=(*self.data_changes, "; ".join(self.changes(other))),
        )
