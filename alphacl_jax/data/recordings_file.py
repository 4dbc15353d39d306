"""Recordings in one .npz file: what `save_recordings` writes, and what NumPy alone can write."""

import dataclasses
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from alphacl_jax.data.places import existing_file
from alphacl_jax.data.sequences import Recordings
from alphacl_jax.data.source_checks import recordings_in
from alphacl_jax.errors import ArgumentError
from alphacl_jax.files import write_npz_atomically

# Those that a file may have; `signal` it must.
_KEYS = (
    *("signal", "lengths", "names", "labels", "class_names"),
    *("moment_labels", "moment_names", "context", "rate"),
)


def save_recordings(path: str | os.PathLike[str], recordings: Recordings) -> None:
    """Writes recordings to a file that `load_recordings("npz", path)` reads, whole or not at all.

    Args:
      path: the file, in a folder that exists; usually ends in .npz.
      recordings: all that they hold is written.
    """
    arrays = {
        "signal": recordings.signal,
        "lengths": recordings.lengths,
        "names": np.array(recordings.names, np.str_),
        "labels": recordings.labels,
        "class_names": np.array(recordings.class_names, np.str_),
        "moment_labels": recordings.moment_labels,
        "moment_names": np.array(recordings.moment_names, np.str_),
        "context": recordings.context,
    }
    if recordings.rate is not None:
        arrays["rate"] = np.array(recordings.rate)
    write_npz_atomically(path, arrays)


def load_npz(data_dir: str | os.PathLike[str]) -> Recordings:
    """Recordings of a .npz file with these arrays, of which all but the first may be left out.

    `signal`: numbers `[time, channels]` or `[time]`, all recordings one behind the other.
    `lengths`: whole numbers `[recordings]`, the moments of each; without it all is one recording.
    `names`: words `[recordings]`. `labels`: whole numbers or words `[recordings]`.
    `moment_labels`: whole numbers or words `[time]`. `context`: numbers `[time, dims]` or `[time]`.
    `rate`: moments per second. `class_names`, `moment_names`: words; `labels` and `moment_labels`
    are then the numbers of these, from 0 on, and −1 where unknown.

    Args:
      data_dir: the file.

    Raises:
      MissingDataError: where there is none.
      ArgumentError: for a file that is damaged, none of NumPy's or of pickled Python objects, and
        for arrays that do not fit each other.
    """
    path = existing_file(data_dir, "the .npz file of the recordings")
    arrays = _arrays(path)
    if "signal" not in arrays:
        raise _unfit(path, f"has no array 'signal', only {', '.join(sorted(arrays)) or 'none'}")
    if others := sorted(set(arrays) - set(_KEYS)):
        logging.warning("%s: arrays of these names are not read: %s", path, ", ".join(others))
    borders = np.cumsum(_lengths(path, arrays))[:-1]

    def cut(key: str) -> list[np.ndarray] | None:
        array = _of_moments(path, arrays, key)
        return None if array is None else np.split(array, borders)

    found = recordings_in(
        path,
        np.split(np.atleast_1d(arrays["signal"]), borders),
        names=arrays["names"].tolist() if "names" in arrays else None,
        labels=None if "class_names" in arrays else arrays.get("labels"),
        moment_labels=None if "moment_names" in arrays else cut("moment_labels"),
        context=cut("context"),
        rate=float(_rate(path, arrays["rate"])) if "rate" in arrays else None,
    )
    # Numbers with names are taken as they are: of many moments, words would fill the memory.
    for key, names in (("labels", "class_names"), ("moment_labels", "moment_names")):
        if names in arrays:
            numbers = _numbers(path, arrays, key, names, like=getattr(found, key))
            named: dict[str, Any] = {key: numbers, names: tuple(arrays[names].tolist())}
            found = dataclasses.replace(found, **named)
    return found


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:  # which NumPy leaves open where it is damaged
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise _unfit(path, "holds a single array. Save it by np.savez(FILE, signal=array)")
            return {key: found[key] for key in found.files}
    except ArgumentError:
        raise
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error) and zipfile.is_zipfile(path):
            problem = (
                "holds pickled Python objects, which are not read, since they may run any program. "
                "Save recordings of several lengths one behind the other in `signal`, with "
                "`lengths`"
            )
            raise _unfit(path, problem) from error
        # Of what is no zip file NumPy says that it may be pickled, and how to run it.
        why = f" ({error})" if zipfile.is_zipfile(path) else ""
        problem = f"is damaged, or no .npz file{why}. Make it again, as by save_recordings"
        raise _unfit(path, problem) from error


def _lengths(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    total = len(np.atleast_1d(arrays["signal"]))
    if "lengths" not in arrays:
        return np.array([total])
    lengths = arrays["lengths"]
    if lengths.dtype.kind not in "iu" or lengths.ndim != 1 or not (lengths > 0).all():
        raise _unfit(path, "has `lengths` that are not whole numbers [recordings] above 0")
    if lengths.sum() != total:
        problem = f"has `lengths` that sum to {lengths.sum()}, and {total} moments in `signal`"
        raise _unfit(path, problem)
    return lengths.astype(np.int64)


def _of_moments(path: Path, arrays: dict[str, np.ndarray], key: str) -> np.ndarray | None:
    array = arrays.get(key)
    # What was saved with no context is an array without columns.
    if array is None or (key == "context" and array.ndim == 2 and not array.shape[1]):
        return None
    total = len(np.atleast_1d(arrays["signal"]))
    if not array.ndim or len(array) != total:
        problem = f"has `{key}` of shape {array.shape}, and {total} moments in `signal`"
        raise _unfit(path, problem)
    return array


def _numbers(
    path: Path, arrays: dict[str, np.ndarray], key: str, names: str, like: np.ndarray
) -> np.ndarray:
    """The labels as numbers of their names; as `like` has them, all unknown, where none are."""
    labels, words = arrays.get(key, like), arrays[names]
    if labels.dtype.kind not in "iu" or words.dtype.kind != "U" or words.ndim != 1:
        problem = f"must have whole numbers in `{key}` and words in `{names}`, since it has both"
        raise _unfit(path, problem)
    if labels.shape != like.shape:
        raise _unfit(path, f"has `{key}` of shape {labels.shape}: it must be {like.shape}")
    if labels.max() >= len(words):
        raise _unfit(path, f"has {labels.max()} in `{key}`, and {len(words)} words in `{names}`")
    return np.maximum(labels, -1).astype(np.int32)


def _rate(path: Path, rate: np.ndarray) -> np.ndarray:
    if rate.size != 1 or rate.dtype.kind not in "iuf":
        raise _unfit(path, "has a `rate` that is not one number of moments per second")
    return rate.reshape(())


def _unfit(path: Path, problem: str) -> ArgumentError:
    return ArgumentError("data_dir", path, problem)
