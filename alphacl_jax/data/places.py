"""Files and folders that people name: that they are there."""

import os
from pathlib import Path

from alphacl_jax.data.errors import MissingDataError, NotAFolderError
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
    path = _existing(data_dir, what)
    if path.is_dir():
        raise ArgumentError("data_dir", path, f"is a folder. Give {what}")
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
    path = _existing(data_dir, what)
    if not path.is_dir():
        raise NotAFolderError("data_dir", path, f"is a file. Give {what}")
    return path


def _existing(data_dir: str | os.PathLike[str], what: str) -> Path:
    path = Path(data_dir).expanduser()
    if not path.exists():
        raise MissingDataError("data_dir", path, f"does not exist. Give {what}")
    return path
