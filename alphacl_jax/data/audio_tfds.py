"""Recordings of sound in tensorflow-datasets (TFDS): spoken_digit, speech_commands, librispeech.

TFDS's own class of the feature asks for TensorFlow as soon as it is made. What is prepared holds
the samples as plain numbers, which are read here as such, without it.
"""

import functools
import importlib.util
import os
import re
from typing import Any

import numpy as np
from absl import logging

from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.data.numbering import numbered_by
from alphacl_jax.data.resampling import check_rate, resampled
from alphacl_jax.data.sequences import Recordings, recordings_from_arrays
from alphacl_jax.data.tfds_files import Records, own_feature_classes
from alphacl_jax.errors import ArgumentError

_AUDIO = "tensorflow_datasets.core.features.audio_feature.Audio"
# What classes a recording, the first that a set has.
_LABELS = ("label", "speaker_id")
# Samples of 16 bits: TFDS keeps their whole numbers, whatever type it calls them.
_LARGEST = 2.0**15


def load_audio_tfds(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    part: str = "train",
    rate: int | None = None,
    label: str | None = None,
) -> Recordings:
    """Reads a prepared set into memory; prepares it first where TensorFlow is installed.

    Args:
      name: a TFDS name, "NAME", "NAME/CONFIG" or "NAME:VERSION".
      data_dir: where TFDS keeps its data sets; None for TFDS's own default.
      part: a split of the set, or some of it, as "train", "test", "train_clean100" (librispeech)
        or "train[:10%]".
      rate: samples per second to bring all recordings to; None keeps the set's own.
      label: the feature that is the recordings' class; None for "label" or else "speaker_id". A
        ClassLabel has the same numbers in all parts; other values are numbered in the order of
        those that the part has, so that a number may be another class in another part: compare
        `class_names`, or number one part by the other's (`numbering.numbered_by`).

    Raises:
      MissingDataError: for a set that is not prepared while TensorFlow is missing.
      ArgumentError: for a set without sound or such a split or feature, in a file format without
        random access, or with no rate of its own where one is asked for.
    """
    check_rate(rate)
    builder = _prepared(name, data_dir)
    key, own_rate = _sound(name, builder.info.features)
    if rate is not None and own_rate is None:
        raise ArgumentError("rate", rate, f"cannot be reached: {name} does not say its own")
    label = _label(name, builder.info.features, label)
    records = _records(name, builder, part)
    signals: list[np.ndarray] = []
    labels: list[Any] = []
    for index in range(len(records)):
        record = records.read(index, f"{name} {part}, record {index}")
        signals.append(_signal(record[key], own_rate, rate))
        labels.append(None if label is None else _plain(record[label]))
    names = None if label is None else getattr(builder.info.features[label], "names", None)
    if names is not None:
        labels = [names[number] if number >= 0 else None for number in labels]
    found = recordings_from_arrays(signals, labels=labels, rate=rate or own_rate)
    return found if names is None else numbered_by(found, names)


@functools.cache
def _numbers_of_sound() -> type:
    """A class of TFDS's features that reads what its Audio wrote."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.features import feature as features

    class Sound(tfds.features.Tensor):
        sample_rate: int | None = None

        @classmethod
        def from_json_content(cls, value: Any) -> "Sound":
            of = value.get if isinstance(value, dict) else functools.partial(getattr, value)
            if of("lazy_decode"):
                problem = (
                    "holds encoded files, which are not read. Prepare a configuration that does "
                    "not have lazy_decode in its name"
                )
                raise ArgumentError("source", "tfds", problem)
            shape: Any = of("shape")
            made = cls(
                shape=tuple(shape) if isinstance(value, dict) else features.from_shape_proto(shape),
                dtype=features.dtype_from_str(of("dtype")),
                encoding="none" if isinstance(value, dict) else of("encoding") or "none",
            )
            made.sample_rate = of("sample_rate") or None
            return made

    return Sound


def _prepared(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    import tensorflow_datasets as tfds

    folder = None if data_dir is None else os.path.expanduser(data_dir)
    _check_name(name)
    for attempt in ("as it is", "once prepared"):
        with own_feature_classes(name, {_AUDIO: _numbers_of_sound()}):
            try:
                return tfds.core.read_only_builder.builder_from_files(name, data_dir=folder)
            except tfds.core.DatasetNotFoundError:
                if attempt == "once prepared":
                    raise
        _prepare(name, folder)
    raise AssertionError


def _check_name(name: str) -> None:
    if not re.fullmatch(r"\w+(/[\w.-]+)?(:[\d.*]+)?", name):
        problem = "is no name of a set: give tfds:NAME, tfds:NAME/CONFIG or tfds:NAME:VERSION"
        raise ArgumentError("source", f"tfds:{name}", problem)


def _prepare(name: str, folder: str | None) -> None:
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    where = f" in {folder}" if folder else ""
    if (plain := re.split("[/:]", name)[0]) not in known:
        problem = f"is not prepared{where}, and TFDS has no set {plain!r}"
        raise ArgumentError("source", f"tfds:{name}", problem)
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingDataError(
            "source",
            f"tfds:{name}",
            f"is not prepared yet{where}. Preparing it takes TensorFlow, once, and pydub and "
            "ffmpeg for its sound; reading does not. Install them by `pip install "
            "'alphacl_jax[tfds]' pydub` and repeat this, or prepare it as ArrayRecord wherever "
            f"they are installed: tfds.builder({name!r}).download_and_prepare("
            "file_format='array_record')",
        )
    logging.info("preparing %s", name)
    tfds.builder(name, data_dir=folder).download_and_prepare(file_format="array_record")


def _sound(name: str, features: Any) -> tuple[str, int | None]:
    """The feature that is sound, and its samples per second."""
    found = {
        key: feature
        for key, feature in features.items()
        if isinstance(feature, _numbers_of_sound())
    }
    if len(found) != 1:
        problem = (
            f"must have one feature of sound, and has {', '.join(found) or 'none'} among "
            f"{', '.join(sorted(features.keys()))}"
        )
        raise ArgumentError("source", f"tfds:{name}", problem)
    ((key, feature),) = found.items()
    return key, feature.sample_rate  # type: ignore[attr-defined]


def _label(name: str, features: Any, label: str | None) -> str | None:
    if label is None:
        return next((known for known in _LABELS if known in features), None)
    if label not in features:
        problem = f"is no feature of {name}, which has {', '.join(sorted(features.keys()))}"
        raise ArgumentError("label", label, problem)
    return label


def _records(name: str, builder: Any, part: str) -> Records:
    import tensorflow_datasets as tfds

    formats = builder.info.available_file_formats()
    if formats.isdisjoint(tfds.core.FileFormat.with_random_access()):
        problem = (
            f"is held in {builder.data_path} as {', '.join(sorted(kind.value for kind in formats))}"
            ", which cannot be read without TensorFlow. Prepare it again in another folder with "
            "file_format='array_record'"
        )
        raise ArgumentError("source", f"tfds:{name}", problem)
    splits = builder.info.splits
    if re.split(r"\W", part)[0] not in splits:
        problem = f"is no split of {name}, which has {', '.join(sorted(splits))}"
        raise ArgumentError("part", part, problem)
    try:
        return Records(lambda: builder.as_data_source(part))
    except (ValueError, AssertionError) as error:  # of no recording too
        problem = f"is no part of a split with recordings: {' '.join(str(error).split())}"
        raise ArgumentError("part", part, problem) from error


def _signal(samples: np.ndarray, own_rate: int | None, rate: int | None) -> np.ndarray:
    signal = np.asarray(samples)
    if signal.dtype.kind in "iu":
        signal = (signal / _LARGEST).astype(np.float32)
    signal = signal if signal.ndim == 1 else signal.mean(axis=1)
    return signal if own_rate is None else resampled(signal, own_rate, rate)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return int(value) if np.issubdtype(np.asarray(value).dtype, np.integer) else str(value)
