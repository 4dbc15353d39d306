"""Recordings by the name of their source; `recordings_from_arrays` makes them of arrays in memory.

All are read into memory at once: 100 hours of sound at 16,000 samples per second take 23 GB.
"""

import inspect
import os
from collections.abc import Callable
from typing import Any

from alphacl_jax.data.audio_tfds import load_audio_tfds
from alphacl_jax.data.japanese_vowels import load_japanese_vowels
from alphacl_jax.data.recordings_file import load_npz, save_recordings
from alphacl_jax.data.sequences import Recordings, recordings_from_arrays
from alphacl_jax.data.tables_of_time import load_table
from alphacl_jax.data.wave_folder import load_wave_folder
from alphacl_jax.errors import ArgumentError, shown

__all__ = ["Recordings", "load_recordings", "recordings_from_arrays", "save_recordings"]

_SOURCES: dict[str, Callable[..., Recordings]] = {
    "japanese_vowels": load_japanese_vowels,
    "npz": load_npz,
    "table": load_table,
    "wav": load_wave_folder,
}
_TFDS = "tfds:"


def load_recordings(
    source: str, data_dir: str | os.PathLike[str] | None = None, **options: Any
) -> Recordings:
    """Reads recordings.

    Sources that have parts return the one to train on, and the other for `part="test"`. Classes
    have the same numbers in both, but for a label of "tfds:NAME" that is no ClassLabel, such as the
    speakers of librispeech: those of a part are numbered by themselves, and
    `numbering.numbered_by` gives them the numbers of another. Of a source without parts all is to
    train on.

    Args:
      source: "japanese_vowels" (comes with aeon), "npz" (a file: see
        `recordings_file.load_npz`), "wav" (a folder of .wav, .flac or .ogg:
        `wave_folder.load_wave_folder`), "table" (a .csv or Parquet file:
        `tables_of_time.load_table`), or "tfds:NAME" (`audio_tfds.load_audio_tfds`).
      data_dir: the file or folder; for TFDS where it keeps its data sets, or None for its default.
      **options: of the source: "japanese_vowels" and "wav" `part`; "wav" `rate`; "table"
        `time_column`, `signal_columns`, `context_columns`, `label_column`, `recording_column`;
        "tfds:NAME" `part`, `rate`, `label`.

    Raises:
      ArgumentError: for an unknown source or option, and for data that cannot be used; a
        MissingDataError (also a FileNotFoundError) for data that is not there.
      ModuleNotFoundError: where a library of the extra [sequences] is missing.

    >>> from alphacl_jax.data.recordings import load_recordings, recordings_from_arrays
    >>> from alphacl_jax.data.recordings import save_recordings
    >>> save_recordings("two.npz", recordings_from_arrays([[[0.0]] * 5, [[1.0]] * 3], rate=10))
    >>> load_recordings("npz", "two.npz").lengths
    array([5, 3])
    """
    loader, given = _loader(source, data_dir)
    parameters = inspect.signature(loader).parameters
    if "part" not in parameters and "part" in options:
        if options["part"] != "train":
            problem = f"cannot be had: the source {source!r} has no parts"
            raise ArgumentError("part", options["part"], problem)
        options = {name: value for name, value in options.items() if name != "part"}
    own = [name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY]
    if unknown := sorted(set(options) - set(own)):
        problem = f"is no option of the source {source!r}, which has {', '.join(own) or 'none'}"
        raise ArgumentError(unknown[0], shown(options[unknown[0]]), problem)
    needed = [name for name in own if parameters[name].default is inspect.Parameter.empty]
    if missing := [name for name in needed if options.get(name) is None]:
        raise ArgumentError(missing[0], None, f"must be given: the source {source!r} needs it")
    return loader(*given, **options)


def _loader(
    source: str, data_dir: str | os.PathLike[str] | None
) -> tuple[Callable[..., Recordings], list[Any]]:
    """The function of a source, and its arguments but for the options."""
    if source.startswith(_TFDS):
        return load_audio_tfds, [source.removeprefix(_TFDS), data_dir]
    if source not in _SOURCES:
        problem = f"is not known. Known are {', '.join(_SOURCES)} and {_TFDS}NAME"
        raise ArgumentError("source", source, problem)
    loader = _SOURCES[source]
    reads_one = "data_dir" in inspect.signature(loader).parameters
    if reads_one and data_dir is None:
        problem = f"must be given: the source {source!r} reads a file or folder"
        raise ArgumentError("data_dir", None, problem)
    if not reads_one and data_dir is not None:
        problem = f"cannot be used: the source {source!r} reads no file of yours"
        raise ArgumentError("data_dir", data_dir, problem)
    return loader, [data_dir] if reads_one else []
