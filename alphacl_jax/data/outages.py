"""Data that is away for a while, told from data that is damaged.

A disk that answers with an error, a network drive that is not there for a second, a process that
has no file handles or no memory left: none of it says anything of the images. Reading is tried
again, with growing waits, and then ends with an error that says so.
"""

import errno
import functools
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, ParamSpec, TypeVar

from absl import logging

from alphacl_jax.data.errors import DataAwayError
from alphacl_jax.files import in_words, name_file

Found = TypeVar("Found")
Arguments = ParamSpec("Arguments")

# Seconds before each further try: two minutes in all.
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
# What reading by the numbers in a damaged file may raise.
_OF_CONTENTS = (None, errno.EINVAL)
_LOOKED_AT, _TRIED = 100, 8  # of the files beside one
_CHUNK = 2**20
# A process that cannot have so many bytes may have decoders fail, whatever they say. A progressive
# JPEG needs six for each pixel.
_SPARE = 2**28
_AWAY = "move it away, and allow changed data where a run goes on"


class Patience:
    """Repeats reads that fail because the data is away. The threads of one reader share it.

    Where one of them has waited long enough, the others end too.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._failing = 0  # reads that are being repeated
        self._away_since = 0.0

    def read(
        self, read: Callable[Arguments, Found], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Found:
        """What `read(*args, **kwargs)` returns, once it raises no OSError and no MemoryError.

        Raises:
          DataAwayError: where it still does after the last of the waits; at once where there is no
            right to read, which comes by no waiting.
        """
        call = functools.partial(read, *args, **kwargs)
        try:
            return call()
        except (OSError, MemoryError) as error:
            if _is_denied(error):
                raise self._give_up(error) from error
            first = error
        with self._told(first):
            return self._again(call, first)

    def _again(self, read: Callable[[], Found], error: OSError | MemoryError) -> Found:
        for wait in _WAITS:
            if self._over.is_set() or _is_denied(error):
                break
            self._over.wait(wait)
            try:
                return read()
            except (OSError, MemoryError) as another:
                error = another
        raise self._give_up(error) from error

    def _give_up(self, error: OSError | MemoryError) -> DataAwayError:
        self._over.set()
        onward = "the same command goes on from the last checkpoint, where there is one"
        if _is_denied(error):
            return DataAwayError(
                f"{_in_words(error)}: give yourself the right to read it, or {_AWAY}; then {onward}"
            )
        others = ""
        if _others_are_read(error):
            others = (
                "Other files beside it are read, and it may be this one alone: restore it from a "
                f"copy, or {_AWAY}. "
            )
        return DataAwayError(
            f"{_in_words(error)}: the data could not be read for {sum(_WAITS):.0f} s, and no image "
            f"was taken for damaged. {others}Once it can be read again, {onward}"
        )

    @contextmanager
    def _told(self, error: OSError | MemoryError) -> Iterator[None]:
        """Logs once that data went away, and once that all of it is back."""
        with self._lock:
            self._failing += 1
            if self._failing == 1:
                self._away_since = time.monotonic()
                logging.warning(
                    "%s: the data cannot be read; trying again for %.0f s",
                    _in_words(error),
                    sum(_WAITS),
                )
        try:
            yield
        finally:
            with self._lock:
                self._failing -= 1
                back = not self._failing and not self._over.is_set()
        if back:  # and no error ended the block
            logging.warning(
                "the data can be read again, after %.1f s", time.monotonic() - self._away_since
            )


def _is_denied(error: OSError | MemoryError) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM)


def _in_words(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return f"{error}: out of memory" if str(error) else "out of memory"
    return in_words(error)


def raise_if_away(error: Exception, file: str | IO[bytes]) -> None:
    """Raises what says that an image is away, where that may be why it could not be decoded.

    A file is damaged where it reads to its end and does not decode, or is gone while other files
    are still in its folder. An empty folder may be one where a drive is missing. Decoders that find
    no memory may say that a file is damaged: while memory is short, none is.

    Args:
      error: what decoding raised.
      file: a path; of anything else nothing but a lack of memory is found.

    Raises:
      MemoryError, OSError: of `error`, or of reading the file; they name it.
    """
    path = file if isinstance(file, str) else ""
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        raise MemoryError(path) from error
    if path and not _is_whole(path):
        return
    if path and isinstance(error, OSError) and error.errno not in _OF_CONTENTS:
        name_file(error, path)
        raise error  # it was away, and has come back
    try:
        bytes(_SPARE)  # asked for and given back, and not written to
    except MemoryError as short:
        raise MemoryError(path) from short


def _is_whole(path: str) -> bool:
    """Whether a file reads to its end; False of what is no file, or gone from beside others.

    Raises:
      OSError: where it is away.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as encoded:
            while encoded.read(_CHUNK):
                pass
    except OSError as problem:
        if problem.errno == errno.ELOOP or (
            problem.errno == errno.ENOENT and _holds_something(os.path.dirname(path) or ".")
        ):
            return False
        name_file(problem, path)
        raise
    return True


def _holds_something(folder: str) -> bool:
    """Whether there is anything in a folder; links that lead nowhere are nothing."""
    try:
        with os.scandir(folder) as entries:
            return any(os.path.exists(each) for each in itertools.islice(entries, _LOOKED_AT))
    except FileNotFoundError:
        return False


def _others_are_read(error: OSError | MemoryError) -> bool:
    """Whether files in the folder of the one that an error names can be read."""
    if isinstance(error, MemoryError) or not isinstance(error.filename, str):
        return False
    folder, name = os.path.split(error.filename)
    try:
        with os.scandir(folder or ".") as entries:
            found = itertools.islice(entries, _LOOKED_AT)
            others = [each.path for each in found if each.name != name and each.is_file()]
    except OSError:
        return False
    return any(map(_can_be_read, others[:_TRIED]))


def _can_be_read(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return bool(file.read(_CHUNK))
    except OSError:
        return False
