"""What a run writes while it trains: JSON lines, TensorBoard events, and progress on the screen."""

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from absl import logging
from tensorboardX import summary

from alphacl_jax.files import name_file, replaced, write_text_atomically
from alphacl_jax.training.place import Place
from alphacl_jax.training.progress import Progress
from alphacl_jax.training.tensorboard import EventFiles

Record = dict[str, Any]

_STARTED_RECORD = re.compile(rb"\{[ -~]*")  # what `json.dumps` makes is printable ASCII
_GROUPS = {
    "loss": "train",
    "epoch": "train",
    "learning_rate": "optimizer",
    "gradient_norm": "optimizer",
    "parameter_norm": "optimizer",
}


def read_records(path: Path) -> list[Record]:
    """The records of a metrics.jsonl file; lines that are none, whyever, are left out."""
    return _good_and_damaged(path)[0]


def _good_and_damaged(path: Path) -> tuple[list[Record], list[int]]:
    """The records of a file, and the numbers of its lines that are none, from 1.

    A last line that has no end and is the start of a record is no damage: a process that is killed
    may leave one.
    """
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    found = [_record(line) for line in lines]
    damaged = [
        number
        for number, (line, record) in enumerate(zip(lines, found, strict=True), 1)
        if record is None
        and line.strip()
        and not (number == len(lines) and _STARTED_RECORD.fullmatch(line))
    ]
    return [record for record in found if record is not None], damaged


def _record(line: bytes) -> Record | None:
    """The record that a line holds, if it holds one: what a run writes, and nothing else."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):  # no UTF-8 and no JSON are ValueErrors
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    return record if all(isinstance(value, int | float) for value in record.values()) else None


def _set_aside(path: Path) -> Path:
    """Keeps a copy of a file under a name that is free."""
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    free = next(name for name in names if not name.exists())
    with replaced(free) as copy:
        shutil.copyfile(path, copy)
    return free


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
        self._place: Place | None = None
        self._events = EventFiles(workdir / "tensorboard")

    def begin(self, step: int) -> None:
        """Opens the files for the records after `step`.

        Those of later steps, from a run that got further than its last checkpoint, are dropped, so
        that a resumed run's records are those of one run.
        """
        path = self._workdir / "metrics.jsonl"
        self._place = Place(self._workdir)
        records, damaged = _good_and_damaged(path)
        if damaged:
            logging.warning(
                "%s: %d lines are no records, the first is line %d. The others are kept, and the "
                "file as it was is %s",
                path,
                len(damaged),
                damaged[0],
                _set_aside(path),
            )
        kept = [json.dumps(r) + "\n" for r in records if r["step"] <= step]
        write_text_atomically(path, "".join(kept))
        self._file = path.open("a", encoding="utf-8")
        self._events.begin(step + 1)

    def write(self, record: Record) -> None:
        """Appends one record, of numbers; it needs a "step".

        Raises:
          LostFolderError: where the run folder was deleted or replaced since `begin`.
          OSError: where there is no room.
        """
        assert self._file is not None, "begin comes first"
        assert self._place is not None
        self._place.require()
        with _named(self._file.name):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        values = {tensorboard_name(name): value for name, value in record.items() if name != "step"}
        self._events.add(lambda: _scalars(values), record["step"])
        self._events.flush()

    def image(self, name: str, array: np.ndarray, step: int) -> None:
        """Shows an image in TensorBoard, while the run trains or later.

        Args:
          name: such as "pictures/pairs".
          array: `[height, width]` or `[height, width, channels]`, uint8, or floating in [0, 1].
          step: of the run.
        """
        layout = "HWC"[: np.ndim(array)]
        self._events.add(lambda: [summary.image(name, array, dataformats=layout)], step)
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
        self._events.add(lambda: [*summary.hparams(shown, figures), *_scalars(figures)], 0)
        self._shown()

    def sync(self) -> None:
        """Has what was written reach the disk: a state that is saved next comes after it."""
        if self._file is not None:
            with _named(self._file.name):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the files; images and hyperparameters may still come."""
        if self._file is not None:
            with suppress(OSError):  # of a record that could not be written, which `write` told
                self._file.close()
        if self._place is not None:
            self._place.close()
            self._place = None
        self._events.close()
        self._file = None

    def _shown(self) -> None:
        """Leaves the event file open while the run trains, and no longer."""
        if self._file is None:
            self._events.close()
        else:
            self._events.flush()


def _scalars(values: Mapping[str, float]) -> list[Any]:
    """What TensorBoard draws curves of, by its own names."""
    return [summary.scalar(name, value) for name, value in values.items()]


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Has errors of an open file say which it is."""
    try:
        yield
    except OSError as error:
        name_file(error, path)
        raise


class RecordWriter(Protocol):
    """What records are written to: the files of one run, or of several that train as one."""

    @property
    def members(self) -> int: ...

    def begin(self, step: int) -> None: ...

    def write(self, record: Record) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class RunRecords:
    """What the loop hands its records to: the files, and the progress on the screen."""

    def __init__(
        self,
        recorder: RecordWriter,
        progress: Progress,
        warning: Callable[[Record], str] = lambda record: "",
    ):
        """Prepares them.

        Args:
          recorder: the files.
          progress: on the screen.
          warning: what one run's record warns of, which is said once; "" for nothing.
        """
        self._recorder, self._progress = recorder, progress
        self._warning, self._warned = warning, False

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
        self._warn(record)

    def _warn(self, record: Record) -> None:
        for run in range(0 if self._warned else self._recorder.members):
            of_run = {k: v[run] if isinstance(v, list) else v for k, v in record.items()}
            if text := self._warning(of_run):
                self._warned = True  # what goes on is in the records
                self._progress.say(f"warning: step {record['step']:,}: {text}")
                return

    def sync(self) -> None:
        """Has the records reach the disk."""
        self._recorder.sync()

    def close(self) -> None:
        """Closes both."""
        self._progress.close()
        self._recorder.close()
