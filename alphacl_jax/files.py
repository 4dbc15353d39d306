"""Files that appear whole or not at all, also where the machine stops in the middle of writing."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

# What C++ libraries write into their messages.
_ERROR_CODE = re.compile(r"os_error_code='(\d+)'")


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` once the block ends.

    Where the block fails, the old file stays, and what was written is removed.

    Args:
      path: the file to write, in a folder that exists.
    """
    target = Path(path)
    # Beside the target, since only within a file system is a file renamed at one blow; with the
    # process's number, so that two writers of one target do not write into one file.
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(target)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            if error.filename == str(partial) and not partial.exists():
                error.filename = None  # the target says more, unless something is in the way
            name_file(error, target)
        raise
    _sync_entries(target.parent)


def name_file(error: OSError, path: str | os.PathLike[str]) -> None:
    """Has an error of the system name the file, which one of an open file does not."""
    if error.filename is None and error.errno is not None:
        error.filename = str(path)


def system_error(error: BaseException, path: str | os.PathLike[str]) -> OSError | None:
    """What the system said where a library wraps it into an error of its own; else None.

    Args:
      error: the library's.
      path: where it was writing, for an error that does not say.
    """
    if isinstance(error, OSError):
        return error
    found = _ERROR_CODE.search(str(error))
    return OSError(int(found[1]), os.strerror(int(found[1])), str(path)) if found else None


def in_words(error: OSError, needed: int | None = None) -> str:
    """Such as "/runs/a: No space left on device (0.2 MB are free there, 12.0 MB are needed)".

    Args:
      error: of the system.
      needed: the bytes that were to be written, where that is known.
    """
    if error.filename is None or not error.strerror:
        return str(error)
    text = f"{error.filename}: {error.strerror}"
    if not is_full(error):
        return text
    wanted = "" if needed is None else f", {needed / 1e6:,.1f} MB are needed"
    return f"{text} ({_free(Path(error.filename)) / 1e6:,.1f} MB are free there{wanted})"


def is_full(error: OSError) -> bool:
    """Whether a disk, or what somebody may take of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _free(path: Path) -> int:
    """The free bytes of the file system that a path, perhaps of no file yet, lies on."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def sync_folder(folder: Path) -> None:
    """Has the system write to the disk what it holds of all files in and below a folder."""
    for place, _, names in os.walk(folder):
        for name in names:
            _sync(Path(place) / name)
        _sync_entries(Path(place))
    _sync_entries(folder.parent)


def _sync_entries(folder: Path) -> None:
    """Which files a folder has; some file systems cannot, and then keep the old ones, whole."""
    with suppress(OSError):
        _sync(folder)


def _sync(path: Path) -> None:
    """Has the system write to the disk what it holds of a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Writes text, in UTF-8, so that the file is either the old one or the whole new one."""
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json_atomically(path: str | os.PathLike[str], value: Any) -> None:
    """Writes JSON so that the file is either the old one or the whole new one."""
    write_text_atomically(path, json.dumps(value, indent=2) + "\n")


def write_npz_atomically(path: str | os.PathLike[str], arrays: Mapping[str, "ArrayLike"]) -> None:
    """Writes arrays by name, as `numpy.load` reads them, whole or not at all."""
    import numpy as np  # here, so that who writes text need not load it

    # Into an open file: given a name, NumPy may add an ending to it.
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def write_png_atomically(path: str | os.PathLike[str], figure: "Figure", *, dpi: int = 150) -> None:
    """Writes a Matplotlib figure as PNG, whole or not at all; the folders above it are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial:
        figure.savefig(partial, format="png", dpi=dpi)


@contextmanager
def replaced_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write files into, which takes the place of `path` once the block ends.

    Where the block fails, the old folder stays, and what was written is removed.

    Args:
      path: the folder to write; the folders above it are made.
    """
    target = Path(path).resolve()
    partial, aside = (
        target.with_name(f"{target.name}.{os.getpid()}.{end}") for end in ("partial", "old")
    )
    partial.mkdir(parents=True)
    try:
        yield partial
        sync_folder(partial)
        # A folder that is not empty cannot be renamed over: it is set aside for a moment.
        if target.exists():
            target.rename(aside)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if aside.exists():
            aside.rename(target)
        raise
    _sync_entries(target.parent)
    shutil.rmtree(aside, ignore_errors=True)
