"""What a run writes while it trains: JSON lines, TensorBoard events, and progress on the screen."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

from alphacl_jax.training.checkpoint import write_text_atomically

Record = dict[str, float]


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


class Recorder:
    """Appends records to `metrics.jsonl` and to TensorBoard event files in a run folder.

    Records of steps after `step` (from a run that got further than its last checkpoint) are
    dropped first, so that a resumed run's records are those of one run.
    """

    def __init__(self, workdir: Path, step: int):
        path = workdir / "metrics.jsonl"
        kept = [json.dumps(r) + "\n" for r in read_records(path) if r["step"] <= step]
        write_text_atomically(path, "".join(kept))
        self._file = path.open("a")
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def write(self, record: Record) -> None:
        """Appends one record; it needs a "step"."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in record.items():
            if name != "step":
                self._events.add_scalar(name, value, int(record["step"]))
        self._events.flush()

    def close(self) -> None:
        """Flushes and closes both files."""
        self._file.close()
        self._events.close()


class Progress:
    """A progress bar in a terminal; elsewhere a line every few seconds and no more."""

    _SECONDS_BETWEEN_LINES = 15.0

    def __init__(self, total_steps: int, first_step: int, batch_size: int, stream: Any = None):
        self._stream = sys.stderr if stream is None else stream
        self._total, self._batch_size, self._step = total_steps, batch_size, first_step
        self._last_update, self._last_line = time.monotonic(), -math.inf
        self.images_per_second = 0.0
        self._bar = None
        if first_step:
            print(f"resuming at step {first_step} of {total_steps}", file=self._stream, flush=True)
        if self._stream.isatty():
            self._bar = tqdm(
                total=total_steps,
                initial=first_step,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar}| {n}/{total} steps, {remaining} left{postfix}",
            )

    def begin(self, step: int) -> None:
        """Starts the clock after the run's first step, which had to be compiled."""
        self._step, self._last_update = step, time.monotonic()
        if self._bar is not None:
            self._bar.unpause()

    def update(self, step: int, loss: float, energy: float | None) -> None:
        """Shows where the run is; `images_per_second` is that since the last update."""
        now = time.monotonic()
        advance, self._step = step - self._step, step
        self.images_per_second = advance * self._batch_size / max(now - self._last_update, 1e-9)
        self._last_update = now
        parts = [f"loss {loss:.4f}"] + ([] if energy is None else [f"energy {energy:.1f}"])
        if advance:
            parts.append(f"{self.images_per_second:,.0f} images/s")
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(parts), refresh=False)
            self._bar.update(step - self._bar.n)
        elif now - self._last_line >= self._SECONDS_BETWEEN_LINES or step == self._total:
            self._last_line = now
            if advance:
                left = (self._total - step) * self._batch_size / self.images_per_second
                parts.append(f"{left:.0f} s left")
            print(", ".join([f"step {step}/{self._total}", *parts]), file=self._stream, flush=True)

    def close(self) -> None:
        """Ends the bar, so that what is printed next starts on a line of its own."""
        if self._bar is not None:
            self._bar.close()
