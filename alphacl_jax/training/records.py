"""What a run writes while it trains: JSON lines, TensorBoard events, and progress on the screen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from tensorboardX import summary

from alphacl_jax.files import write_text_atomically
from alphacl_jax.training.progress import Progress
from alphacl_jax.training.tensorboard import EventFiles

Record = dict[str, Any]

_GROUPS = {
    "loss": "train",
    "epoch": "train",
    "learning_rate": "optimizer",
    "gradient_norm": "optimizer",
    "parameter_norm": "optimizer",
}


def read_records(path: Path) -> list[Record]:
    """The records of a metrics.jsonl file; a last line that was cut off is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def tensorboard_name(name: str) -> str:
    """The name in TensorBoard, "group/name", of a value of a record.

    What has a group of its own ("probe/knn") keeps it; what no table knows is a measure.
    """
    if "/" in name:
        return name
    group = "speed" if name.endswith("_per_second") else _GROUPS.get(name, "measures")
    return f"{group}/{name}"


class Recorder:
    """Appends records to `metrics.jsonl` and to TensorBoard event files in a run folder."""

    members = 1  # runs that are recorded

    def __init__(self, workdir: Path):
        self._workdir = workdir
        self._file: TextIO | None = None
        self._events = EventFiles(workdir / "tensorboard")

    def begin(self, step: int) -> None:
        """Opens the files for the records after `step`.

        Those of later steps, from a run that got further than its last checkpoint, are dropped, so
        that a resumed run's records are those of one run.
        """
        path = self._workdir / "metrics.jsonl"
        kept = [json.dumps(r) + "\n" for r in read_records(path) if r["step"] <= step]
        write_text_atomically(path, "".join(kept))
        self._file = path.open("a")
        self._events.begin(step + 1)

    def write(self, record: Record) -> None:
        """Appends one record, of numbers; it needs a "step"."""
        assert self._file is not None, "begin comes first"
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in record.items():
            if name != "step":
                self._events.add(summary.scalar(tensorboard_name(name), value), record["step"])
        self._events.flush()

    def image(self, name: str, array: np.ndarray, step: int) -> None:
        """Shows an image in TensorBoard, while the run trains or later.

        Args:
          name: such as "pictures/pairs".
          array: `[height, width]` or `[height, width, channels]`, uint8, or floating in [0, 1].
          step: of the run.
        """
        self._events.add(summary.image(name, array, dataformats="HWC"[: np.ndim(array)]), step)
        self._shown()

    def hyperparameters(self, settings: Mapping[str, Any], final: Mapping[str, float]) -> None:
        """Has TensorBoard list the run, by its settings, with the figures that it ended with.

        Args:
          settings: by name; what is no number, text or truth value is shown as text.
          final: figures, such as accuracies, by name.
        """
        plain = (bool, int, float, str)
        shown = {k: v if isinstance(v, plain) else str(v) for k, v in settings.items()}
        figures = {f"final/{name}": float(value) for name, value in final.items()}
        for part in summary.hparams(shown, figures):
            self._events.add(part, 0)
        for name, value in figures.items():
            self._events.add(summary.scalar(name, value), 0)
        self._shown()

    def close(self) -> None:
        """Flushes and closes the files; images and hyperparameters may still come."""
        if self._file is not None:
            self._file.close()
        self._events.close()
        self._file = None

    def _shown(self) -> None:
        """Leaves the event file open while the run trains, and no longer."""
        if self._file is None:
            self._events.close()
        else:
            self._events.flush()


class RecordWriter(Protocol):
    """What records are written to: the files of one run, or of several that train as one."""

    @property
    def members(self) -> int: ...

    def begin(self, step: int) -> None: ...

    def write(self, record: Record) -> None: ...

    def close(self) -> None: ...


class RunRecords:
    """What the loop hands its records to: the files, and the progress on the screen."""

    def __init__(self, recorder: RecordWriter, progress: Progress):
        self._recorder, self._progress = recorder, progress

    def begin(self, step: int) -> None:
        """Opens both for a run that has taken `step` steps."""
        self._recorder.begin(step)
        self._progress.begin(step)

    def started(self, step: int) -> None:
        """Starts the clock after the run's first step here, which had to be compiled."""
        self._progress.started(step)

    def write(self, record: Record, aside: float = 0.0) -> None:
        """Writes and shows a record, with the speed since the one before.

        Args:
          record: numbers, or of several runs lists with one for each.
          aside: seconds since the last record that were not spent on training.
        """
        self._progress.update(record["step"], record, aside)
        speed = self._progress.per_second / self._recorder.members
        self._recorder.write({**record, f"{self._progress.unit}_per_second": speed})

    def close(self) -> None:
        """Closes both."""
        self._progress.close()
        self._recorder.close()
