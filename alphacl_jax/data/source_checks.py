"""What the sources of recordings check alike: where they lie, and that an error names the place."""

import os
from pathlib import Path
from typing import Any

from alphacl_jax.data.errors import MissingDataError, NotAFolderError
from alphacl_jax.data.sequences import Recordings, recordings_from_arrays
from alphacl_jax.errors import ArgumentError


def existing_file(data_dir: str | os.PathLike[str], what: str) -> Path:
    """The path of a file.

    Args:
      data_dir: the file.
      what: it should be, for the message.

    Raises:
      MissingDataError: where there is none.
      ArgumentError: where it is a folder.
    """
    path = Path(data_dir).expanduser()
    if path.is_dir():
        raise ArgumentError("data_dir", path, f"is a folder. Give {what}")
    if not path.exists():
        raise MissingDataError("data_dir", path, f"does not exist. Give {what}")
    return path


def existing_folder(data_dir: str | os.PathLike[str], what: str) -> Path:
    """The path of a folder.

    Args:
      data_dir: the folder.
      what: it should be, for the message.

    Raises:
      MissingDataError: where there is none.
      NotAFolderError: where it is a file.
    """
    root = Path(data_dir).expanduser()
    if not root.exists():
        raise MissingDataError("data_dir", root, f"does not exist. Give {what}")
    if not root.is_dir():
        raise NotAFolderError("data_dir", root, f"is a file. Give {what}")
    return root


def check_part(part: str) -> None:
    """Refuses a part that none of the sources has whose parts are two.

    Raises:
      ArgumentError: naming it.
    """
    if part not in ("train", "test"):
        raise ArgumentError("part", part, "must be 'train' or 'test'")


def recordings_in(place: Path, signals: Any, **arrays: Any) -> Recordings:
    """`recordings_from_arrays` of what was read, whose errors name the file or folder.

    Raises:
      ArgumentError: see there.
    """
    try:
        return recordings_from_arrays(signals, **arrays)
    except ArgumentError as error:
        raise ArgumentError("data_dir", place, f"cannot be used: {error}") from error
