"""Data that is away for a while, told from data that is damaged.

A disk that answers with an error, a network drive that is not there for a second, a process that
has no file handles or no memory left: none of it says anything of the images. Reading is tried
again, with growing waits, and then ends with an error that says so.
"""

import errno
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable
from typing import IO, TypeVar

from absl import logging

from alphacl_jax.data.errors import DataAwayError

Found = TypeVar("Found")

# Seconds before each further try: two minutes in all.
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
# What reading by the numbers in a damaged file may raise.
_OF_CONTENTS = (None, errno.EINVAL)
_LOOKED_AT = 100
_CHUNK = 2**20


class Patience:
    """Repeats reads that fail because the data is away. The threads of one reader share it.

    Where one of them has waited long enough, the others end too.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._away_since: float | None = None

    def read(self, read: Callable[[], Found]) -> Found:
        """What `read()` returns, once it raises neither an OSError nor a MemoryError.

        Raises:
          DataAwayError: where it still does after the last of the waits.
        """
        for wait in (*_WAITS, None):
            try:
                found = read()
            except (OSError, MemoryError) as error:
                if wait is None or self._over.is_set():
                    raise self._give_up(error) from error
                self._tell_of(error)
                self._over.wait(wait)
            else:
                self._tell_of(None)
                return found
        raise AssertionError  # not reached

    def _give_up(self, error: OSError | MemoryError) -> DataAwayError:
        self._over.set()
        return DataAwayError(
            f"{_in_words(error)}: the data could not be read for {sum(_WAITS):.0f} s, and no image "
            "was taken for damaged. Once it can be read again, the same command goes on from the "
            "last checkpoint, where there is one"
        )

    def _tell_of(self, error: OSError | MemoryError | None) -> None:
        """Logs once that the data went away, and once that it is back."""
        if error is None and self._away_since is None:
            return
        with self._lock:
            since = self._away_since
            if error is not None and since is None:
                self._away_since = time.monotonic()
                logging.warning(
                    "%s: the data cannot be read; trying again for %.0f s",
                    _in_words(error),
                    sum(_WAITS),
                )
            elif error is None and since is not None:
                self._away_since = None
                logging.warning(
                    "the data can be read again, after %.1f s", time.monotonic() - since
                )


def _in_words(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    if error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def raise_if_away(error: Exception, file: str | IO[bytes]) -> None:
    """Raises what says that an image is away, where that may be why it could not be decoded.

    A file is damaged where it reads to its end and does not decode, or is gone while other files
    are still in its folder. An empty folder may be one where a drive is missing.

    Args:
      error: what decoding raised.
      file: a path; of anything else nothing but a MemoryError is found.

    Raises:
      MemoryError, OSError: of `error`, or of reading the file.
    """
    if isinstance(error, MemoryError):
        raise error
    if not isinstance(file, str):
        return
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            return
        with open(file, "rb") as encoded:
            while encoded.read(_CHUNK):
                pass
    except OSError as problem:
        if problem.errno == errno.ELOOP or (
            problem.errno == errno.ENOENT and _holds_something(os.path.dirname(file) or ".")
        ):
            return
        raise
    if isinstance(error, OSError) and error.errno not in _OF_CONTENTS:
        raise error  # it was away, and has come back


def _holds_something(folder: str) -> bool:
    """Whether there is anything in a folder; links that lead nowhere are nothing."""
    try:
        with os.scandir(folder) as entries:
            return any(os.path.exists(each) for each in itertools.islice(entries, _LOOKED_AT))
    except FileNotFoundError:
        return False
