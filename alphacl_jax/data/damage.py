"""Which images of a stream were found to be damaged, and since when."""

import threading
import time

from absl import logging

_NAMED = 5


class Damage:
    """The damaged images of a source, found by several threads."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._found: dict[int, str] = {}
        self._told = 0
        self._first = ""
        self._lock = threading.Lock()

    def __contains__(self, index: int) -> bool:
        return index in self._found

    def add(self, index: int, problem: str) -> int:
        """Names an image in the log, once; returns how many images are left."""
        with self._lock:
            if index not in self._found:
                self._first = self._first or time.strftime("%Y-%m-%d %H:%M:%S")
                self._found[index] = problem
                logging.warning(
                    "an image cannot be read, its neighbour stands in (%d of %d so far): %s",
                    len(self._found),
                    self._total,
                    problem,
                )
            return self._total - len(self._found)

    def news(self, step: int) -> str:
        """All of them in a sentence, the newest by name; "" where none was found since the last.

        Args:
          step: of the record that they are told with.
        """
        with self._lock:
            new = list(self._found.values())[self._told :]
            self._told = len(self._found)
        if not new:
            return ""
        more = f"; and {len(new) - _NAMED} more" if len(new) > _NAMED else ""
        return (
            f"step {step}: {self._told} of {self._total} images are damaged, the first found at "
            f"{self._first}; since the last record {len(new)}: {'; '.join(new[:_NAMED])}{more}. "
            "Their neighbours stand in for them"
        )
