"""What the sources of recordings check alike: their parts, and that an error names the place."""

from pathlib import Path
from typing import Any

from alphacl_jax.data.sequences import Recordings, recordings_from_arrays
from alphacl_jax.errors import ArgumentError


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
