"""TensorBoard's event files, which never stop the run that writes them."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from absl import logging
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

_warned: set[Path] = set()  # folders; a run opens one again, to show what came of it


class EventFiles:
    """Event files in a folder, which are written where this is called.

    tensorboardX's own `SummaryWriter` hands events to a thread over a queue: where the thread dies
    (of a full disk, or a clock that is set back), who writes next waits for ever. Here what cannot
    be made or written ends the writing, with one warning, and all goes on without it.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: EventsWriter | None = None
        self._given_up = False

    def begin(self, purge_step: int) -> None:
        """Opens a file that tells TensorBoard to forget what others hold of this step and later."""
        _warned.discard(self._folder)
        with self._going_on():
            start = SessionLog(status=SessionLog.START)
            self._open().write_event(_event(purge_step, session_log=start))

    def add(self, make: Callable[[], Iterable[Any]], step: int) -> None:
        """Writes the summaries of a step that `make` returns: those of `tensorboardX.summary`."""
        if self._given_up:
            return
        with self._going_on():
            for summary in make():
                self._open().write_event(_event(step, summary=summary))

    def flush(self) -> None:
        """Has what was written reach the disk."""
        with self._going_on():
            if self._writer is not None:
                self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the file; another one is opened for what still comes."""
        with self._going_on():
            if self._writer is not None:
                self._writer.close()
            self._writer = None

    def _open(self) -> EventsWriter:
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Named by the second alone, two files of one second would be one.
            self._writer = EventsWriter(str(self._folder / "events"), f".{time.time_ns()}")
        return self._writer

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, no curve and no picture is worth a run
            with suppress(Exception):
                if self._writer is not None:
                    self._writer.close()
            self._writer = None
            self._given_up = True
            if self._folder in _warned:
                return
            _warned.add(self._folder)
            logging.warning(
                "TensorBoard's events cannot be written in %s (%s); all goes on without them, and "
                "the records are in metrics.jsonl",
                self._folder,
                error,
            )


def _event(step: int, **what: Any) -> Event:
    return Event(wall_time=time.time(), step=step, **what)
