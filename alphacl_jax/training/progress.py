"""Progress on the screen: a bar in a terminal, lines elsewhere."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm


class Progress:
    """A progress bar in a terminal; elsewhere a line every few seconds and no more."""

    _SECONDS_BETWEEN_LINES = 15.0

    def __init__(
        self,
        total_steps: int,
        unit: str,
        per_step: int,
        shown: Sequence[str] = (),
        stream: Any = None,
    ):
        """Prepares it; nothing is shown before `begin`.

        Args:
          total_steps: of the whole run.
          unit: what a step counts, in the plural: "images".
          per_step: how many of those a step takes.
          shown: names of a record's values that are shown beside the loss.
          stream: where to, standard error by default.
        """
        self.unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._total, self._per_step, self._shown = total_steps, per_step, shown
        self._step, self._last_update, self._last_line = 0, 0.0, -math.inf
        self.per_second = 0.0
        self._bar: Any = None

    def begin(self, first_step: int) -> None:
        """Shows where the run stands, after so many steps."""
        self._step, self._last_update = first_step, time.monotonic()
        if first_step:
            print(f"resuming at step {first_step} of {self._total}", file=self._stream, flush=True)
        if self._stream.isatty():
            self._bar = tqdm(
                total=self._total,
                initial=first_step,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar}| {n}/{total} steps, {remaining} left{postfix}",
            )

    def started(self, step: int) -> None:
        """Starts the clock after the run's first step, which had to be compiled."""
        self._step, self._last_update = step, time.monotonic()
        if self._bar is not None:
            self._bar.unpause()

    def update(self, step: int, record: Mapping[str, Any], aside: float = 0.0) -> None:
        """Shows where the run is; `per_second` is the speed since the last update.

        Args:
          step: that the run is at.
          record: with "loss" and what is shown beside it, as numbers or, of several runs, lists of
            which the mean is shown.
          aside: seconds since the last update that do not count.
        """
        now = time.monotonic()
        advance, self._step = step - self._step, step
        seconds = max(now - self._last_update - aside, 1e-9)
        self.per_second = advance * self._per_step / seconds
        self._last_update = now
        parts = [f"loss {np.mean(record['loss']):.4f}"]
        parts += [f"{name} {_short(np.mean(record[name]))}" for name in self._shown]
        if advance:
            parts.append(f"{self.per_second:,.0f} {self.unit}/s")
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(parts), refresh=False)
            self._bar.update(step - self._bar.n)
        elif now - self._last_line >= self._SECONDS_BETWEEN_LINES or step == self._total:
            self._last_line = now
            if advance:
                left = (self._total - step) * self._per_step / self.per_second
                parts.append(f"{left:.0f} s left")
            print(", ".join([f"step {step}/{self._total}", *parts]), file=self._stream, flush=True)

    def say(self, line: str) -> None:
        """Shows a line without spoiling the bar."""
        tqdm.write(line, file=self._stream)

    def close(self) -> None:
        """Ends the bar, so that what is printed next starts on a line of its own."""
        if self._bar is not None:
            self._bar.close()


def _short(value: Any) -> str:
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.3f}"
