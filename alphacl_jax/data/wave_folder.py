"""Recordings of sound in a folder: .wav, .flac and .ogg files, their classes the folders' names."""

import dataclasses
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from alphacl_jax.data import class_folders, tree
from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.data.moment_intervals import Interval, labels_of_moments, read_intervals
from alphacl_jax.data.numbering import numbered_by
from alphacl_jax.data.parts import find_parts
from alphacl_jax.data.places import existing_folder
from alphacl_jax.data.resampling import check_rate, resampled
from alphacl_jax.data.sequences import Recordings
from alphacl_jax.data.source_checks import check_part, recordings_in
from alphacl_jax.errors import ArgumentError
from alphacl_jax.extras import require_of_sequences

ENDINGS = frozenset((".wav", ".flac", ".ogg"))
_NAMED = 5  # of the files that a message is about
# Bytes by which writers of .wav files miscount, and what some write who do not know how many come.
_SLACK, _STREAMED = 8, 2**31 - 2**12


class UnreadableSound(Exception):
    """A file that is damaged or holds no sound; says why."""


class _Part(NamedTuple):
    """The files of a part, in order, the class of each (None beside all folders) and intervals."""

    files: list[tree.File]
    classes: list[str | None]
    intervals: list[list[Interval]]


def load_wave_folder(
    data_dir: str | os.PathLike[str], *, part: str = "train", rate: int | None = None
) -> Recordings:
    """Reads `data_dir/CLASS/*.wav`, or `data_dir/train/CLASS/*.wav` with `test/`, to any depth.

    The parts have the names that image folders may have (`parts`), and links, hidden files and the
    order are theirs too (`tree`). A file beside all class folders has no label. Channels are
    averaged. Damaged files are named in the log and left out. Where a file NAME.csv with the
    columns start, end and label (in seconds) lies beside NAME.wav, its labels are those of the
    moments. Classes have the same numbers in both parts.

    Args:
      data_dir: the folder.
      part: "train", all recordings where the folder has no parts, or "test".
      rate: samples per second to bring all recordings to; None keeps what the files have, which
        must then be the same in all.

    Raises:
      ModuleNotFoundError: where soundfile is missing.
      MissingDataError: for a folder that does not exist, or a part without sound.
      ArgumentError: for files of several rates with no `rate`, a single folder around the class
        folders, classes of the test part that the training part lacks, and labels of moments that
        cannot be used.
      OSError: where a file cannot be read though it is there.
    """
    require_of_sequences("soundfile", "reading .wav, .flac and .ogg files")
    check_rate(rate)
    check_part(part)
    root = existing_folder(data_dir, "the folder of the recordings")
    parts = find_parts(root, ENDINGS)
    train = _part(root, tree.search(parts.train, endings=ENDINGS))
    test = _held_out(root, parts.held_out)
    if test is not None:
        _check_classes(root, train, test)
    both = [train] if test is None else [train, test]
    if part == "test" and test is None:
        problem = "has no test part: no test/ or val/ with sound beside train/"
        raise MissingDataError("data_dir", root, problem)
    moment_names = sorted({i.label for one in both for some in one.intervals for i in some} - {""})
    found = _read(root, both[part == "test"], moment_names, rate)
    return numbered_by(found, sorted({name for name in train.classes if name is not None}))


def _part(root: Path, found: tree.Found) -> _Part:
    if not found.images:
        held = f"files of type {tree.in_words(found.others)}" if found.others else "it is empty"
        problem = f"has no sound in {found.folder}: {held}. Put .wav, .flac or .ogg files into it"
        raise MissingDataError("data_dir", root, problem)
    classes, loose = class_folders.by_class(found)
    _check_not_around_the_classes(root, found.folder, classes, loose)
    files = [*(file for some in classes.values() for file in some), *loose]
    names = [*(name for name, some in classes.items() for _ in some), *(None for _ in loose)]
    sidecars = [_sidecar(file) for file in files]
    there = [os.path.isfile(path) for path in sidecars]
    intervals = [
        read_intervals(path) if is_there else []
        for path, is_there in zip(sidecars, there, strict=True)
    ]
    _report(found, sum(there))
    return _Part(files, names, intervals)


def _sidecar(file: tree.File) -> str:
    """Where the labels of a file's moments are, if it has any."""
    return os.path.splitext(file.path)[0] + ".csv"


def _check_not_around_the_classes(
    root: Path, folder: Path, classes: class_folders.Classes, loose: Sequence[tree.File]
) -> None:
    if len(classes) != 1 or loose:
        return
    (files,) = classes.values()
    inside = [Path(file.inside).parts for file in files]
    if all(len(steps) > 2 for steps in inside) and len({steps[1] for steps in inside}) > 1:
        problem = (
            f"holds one folder, which holds the folders of sound: give {folder / inside[0][0]}, "
            "whose folders are then the classes"
        )
        raise ArgumentError("data_dir", root, problem)


def _held_out(root: Path, folders: Sequence[Path]) -> _Part | None:
    """Of several held-out parts the first that has sound."""
    for folder in folders:
        if (found := tree.search(folder, endings=ENDINGS)).images:
            return _part(root, found)
    return None


def _check_classes(root: Path, train: _Part, test: _Part) -> None:
    known = set(train.classes)
    if unknown := sorted({name for name in test.classes if name is not None and name not in known}):
        problem = (
            "has classes in its test part that its training part lacks: "
            f"{', '.join(unknown[:_NAMED])}. Give both the same folders"
        )
        raise ArgumentError("data_dir", root, problem)


def _report(found: tree.Found, sidecars: int) -> None:
    others = found.others - Counter({".csv": sidecars})
    if others:
        logging.warning(
            "%s: %d files are left out, since their endings are not those of sound that can be "
            "read: %s",
            found.folder,
            others.total(),
            tree.in_words(others),
        )
    class_folders.report_links(found)


def _read(root: Path, part: _Part, moment_names: Sequence[str], rate: int | None) -> Recordings:
    names = [os.path.relpath(file.path, root) for file in part.files]
    sounds: dict[int, tuple[np.ndarray, int]] = {}
    damaged = []
    for number, file in enumerate(part.files):
        try:
            sounds[number] = decoded(_content(file.path))
        except UnreadableSound as error:
            damaged.append(f"{names[number]} ({error})")
    if damaged:
        more = f"; and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
        said = f"{'; '.join(damaged[:_NAMED])}{more}"
        if not sounds:
            problem = f"has no file that can be read as sound: {said}"
            raise MissingDataError("data_dir", root, problem)
        logging.warning(
            "%s: %d of %d files cannot be read and are left out: %s",
            *(root, len(damaged), len(names), said),
        )
    if rate is None:
        _check_one_rate({names[number]: own for number, (_, own) in sounds.items()})
    signals = [resampled(samples, own, rate) for samples, own in sounds.values()]
    common = rate or next(iter(sounds.values()))[1]
    moment_labels = [
        labels_of_moments(
            part.intervals[number],
            moment_names,
            len(signal),
            common,
            _sidecar(part.files[number]),
        )
        for number, signal in zip(sounds, signals, strict=True)
    ]
    found = recordings_in(
        root,
        signals,
        names=[tree.composed(names[number]) for number in sounds],
        labels=[part.classes[number] for number in sounds],
        rate=float(common),
    )
    return dataclasses.replace(
        found, moment_labels=np.concatenate(moment_labels), moment_names=tuple(moment_names)
    )


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:  # a link that leads nowhere
        raise UnreadableSound("there is no such file") from error


def decoded(content: bytes) -> tuple[np.ndarray, int]:
    """The mean `[time]` of the channels of a file, in −1 to 1, and its samples per second.

    Raises:
      UnreadableSound: where that is no sound file, is empty or holds values that are not finite.
    """
    import soundfile  # here, since it is of an extra

    _check_whole(content)
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise UnreadableSound(getattr(error, "error_string", str(error))) from error
    if not len(samples):
        raise UnreadableSound("it holds no sample")
    if not np.isfinite(samples).all():
        raise UnreadableSound("it holds values that are not finite")
    return samples.mean(axis=1), rate


def _check_whole(content: bytes) -> None:
    """Refuses a .wav file that breaks off, of which libsndfile reads what there is."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return
    promised = int.from_bytes(content[4:8], "little") + 8
    if len(content) + _SLACK < promised < _STREAMED:
        raise UnreadableSound(f"it has {len(content)} of the {promised} bytes that it should have")


def _check_one_rate(rates: dict[str, int]) -> None:
    first = {rate: name for name, rate in reversed(rates.items())}
    if len(first) > 1:
        shown = ", ".join(f"{rate} ({first[rate]})" for rate in sorted(first))
        problem = (
            f"must be given: there are files of several numbers of samples per second, {shown}. "
            f"{min(first)} brings all to the lowest"
        )
        raise ArgumentError("rate", None, problem)
