"""Data sets by name: what to pretrain on, what to evaluate on, with their class names and colours.

A data set is opened, not loaded: images are decoded when they are indexed, so that a set larger
than memory can stream. `to_arrays` decodes all of one that fits.
"""

import dataclasses
import math
import os
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from absl import logging

from alphacl_jax.data import folder, images, tfds_source

# Mean and standard deviation per channel of the training images, in units of [0, 1].
_COLOURS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "stl10": ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
}
# Of other sets they are measured on this many images.
_COLOUR_SAMPLE = 2000
_COLOUR_CHUNK = 64

_DIGITS_HELD_OUT = 500


class Source(Protocol):
    """Random access to images of one shape.

    `source[i]` is {"image": uint8 [height, width, channels], "label": int, -1 where unlabelled} and
    raises `images.UnreadableImage` where the image is damaged.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """Images that are in memory already: uint8 [n, h, w, c], with labels int32 [n]."""

    images: np.ndarray
    labels: np.ndarray

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.images.shape[1:]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": int(self.labels[index])}


@dataclasses.dataclass(frozen=True)
class Split:
    """Part of a data set; `labelled` says whether every image has a class."""

    source: Source
    labelled: bool


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set, opened.

    Attributes:
      name: as given to `load`.
      pretrain: all images to pretrain on; stl10 has 100,000 here beyond its labelled ones.
      train: the labelled training images, or None for a folder without classes.
      test: the labelled held-out images, or None.
      class_names: one per label; empty where there are no labels.
      image_shape: (height, width, channels).
      mean, std: per channel, in units of [0, 1].
    """

    name: str
    pretrain: Split
    train: Split | None
    test: Split | None
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load(
    name: str, data_dir: str | os.PathLike[str] | None = None, image_size: int | None = None
) -> Dataset:
    """Opens a data set.

    Args:
      name: "digits" (scikit-learn's 1,797 scans of 8x8, which need no download; 500 are held out,
        by class, always the same), "folder", or a TFDS image classification set ("cifar10",
        "cifar100", "stl10", "fashion_mnist", ...).
      data_dir: the images' folder for "folder" (see `folder.open_folder`), or where TFDS keeps its
        data sets (see `tfds_source.open_tfds`).
      image_size: height and width to scale and crop every image to; None keeps their size, which
        must then be the same for all.

    Returns:
      The data set, its images not yet decoded.

    Raises:
      ValueError: for an unknown name and for data that cannot be used; FileNotFoundError for data
        that is not there. The message says what to do.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1, got {image_size}")
    class_names: tuple[str, ...]
    pretrain: Source
    train: Source
    test: Source | None
    if name == "digits":
        if data_dir is not None:
            raise ValueError(
                f"the data set 'digits' reads no data_dir, and {data_dir} was given; for a folder "
                "of images set dataset=folder"
            )
        train, test, class_names = _digits(image_size)
        pretrain = train
    elif name == "folder":
        if data_dir is None:
            raise ValueError("the data set 'folder' needs data_dir, the folder of the images")
        train, test, class_names = folder.open_folder(data_dir, image_size)
        pretrain = train
    else:
        pretrain, train, test, class_names = tfds_source.open_tfds(name, data_dir, image_size)

    labelled = Split(train, bool(class_names))
    mean, std = _COLOURS.get(name) or _colours(train)
    return Dataset(
        name=name,
        pretrain=labelled if pretrain is train else Split(pretrain, labelled=False),
        train=labelled if class_names else None,
        test=None if test is None else Split(test, labelled=True),
        class_names=class_names,
        image_shape=train.image_shape,
        mean=mean,
        std=std,
    )


def fits_in_memory(split: Split, max_bytes: int) -> bool:
    """Whether the split's images, as uint8, take at most `max_bytes`."""
    return _bytes(split.source) <= max_bytes


# A run asks for the same images to train on and to evaluate on: each is decoded, and its damaged
# files are reported, once, and forgotten together with the data set.
_DECODED: weakref.WeakKeyDictionary[Source, tuple[np.ndarray, np.ndarray]] = (
    weakref.WeakKeyDictionary()
)


def to_arrays(split: Split, max_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a whole split, in threads; damaged images are left out, and reported in one line.

    Returns:
      Images uint8 [n, height, width, channels] and labels int32 [n], both read-only. A second call
      for the same source returns the same arrays.

    Raises:
      ValueError: where the images take more than `max_bytes`, or none can be read.
    """
    source = split.source
    if not fits_in_memory(split, max_bytes):
        raise ValueError(
            f"{len(source)} images of {source.image_shape} take {_bytes(source):,} bytes, more "
            f"than the {max_bytes:,} allowed. Raise the limit, stream them, or make them smaller"
        )
    if isinstance(source, ArraySource):
        return source.images, source.labels
    if source not in _DECODED:
        pixels, labels, damaged = _decode(source, np.arange(len(source)))
        _tell_of(damaged, len(source))
        pixels.flags.writeable = labels.flags.writeable = False
        _DECODED[source] = pixels, labels
    return _DECODED[source]


def in_order(split: Split, size: int, max_bytes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A split's images and labels, `size` at a time and in order, whatever the split's own size.

    Damaged images are left out, and reported. Where the images take at most `max_bytes` they are
    decoded once and kept, as by `to_arrays`.
    """
    if fits_in_memory(split, max_bytes):
        pixels, labels = to_arrays(split, max_bytes)
        for start in range(0, len(pixels), size):
            yield pixels[start : start + size], labels[start : start + size]
        return
    total = len(split.source)
    damaged: list[str] = []
    for start in range(0, total, size):
        pixels, labels, problems = _decode(split.source, np.arange(start, min(start + size, total)))
        damaged += problems
        if len(pixels):
            yield pixels, labels
    _tell_of(damaged, total)


def _bytes(source: Source) -> int:
    return len(source) * math.prod(source.image_shape)


def _decode(source: Source, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images and labels of `indices` without the damaged ones, and what is wrong with those."""
    pixels = np.empty((len(indices), *source.image_shape), np.uint8)
    labels = np.empty(len(indices), np.int32)

    def read(row: int) -> str | None:
        try:
            example = source[int(indices[row])]
        except images.UnreadableImage as error:
            return str(error)
        pixels[row], labels[row] = example["image"], example["label"]
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = list(pool.map(read, range(len(indices))))
    damaged = [problem for problem in problems if problem is not None]
    if damaged:
        good = np.array([problem is None for problem in problems])
        pixels, labels = pixels[good], labels[good]
    return pixels, labels, damaged


def _tell_of(damaged: list[str], total: int) -> None:
    """Names the damaged images in one line of the log.

    Raises:
      ValueError: where no image can be read.
    """
    if damaged and len(damaged) == total:
        more = f"; and {total - 5} more" if total > 5 else ""
        raise ValueError(
            f"{total} of {total} images cannot be read: {'; '.join(damaged[:5])}{more}. Check that "
            "these files are images, whole and readable"
        )
    if damaged:
        logging.warning(
            "%d of %d images cannot be read: %s. They are left out",
            len(damaged),
            total,
            "; ".join(damaged),
        )


def _colours(source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel over evenly spaced images."""
    indices = np.linspace(0, len(source) - 1, min(_COLOUR_SAMPLE, len(source)), dtype=int)
    # Counted by value, a few images at a time: the sample itself may be gigabytes.
    channels = source.image_shape[-1]
    counts = np.zeros((channels, 256))
    damaged: list[str] = []
    for part in np.array_split(indices, -(-len(indices) // _COLOUR_CHUNK)):
        pixels, _, problems = _decode(source, part)
        damaged += problems
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    if len(damaged) == len(indices):
        _tell_of(damaged, len(indices))
    weights, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
    mean = weights @ values
    std = np.sqrt(np.sum(weights * np.square(values[None, :] - mean[:, None]), axis=1))
    # A channel without contrast would otherwise be divided by zero.
    return tuple(map(float, mean)), tuple(map(float, np.maximum(std, 1 / 255)))


def _digits(image_size: int | None) -> tuple[ArraySource, ArraySource, tuple[str, ...]]:
    from sklearn.datasets import load_digits  # here, since it takes a second
    from sklearn.model_selection import train_test_split

    scans = load_digits()
    pixels = np.round(scans.images * (255 / 16)).astype(np.uint8)[..., None]
    if image_size is not None:
        pixels = np.stack([images.fit(image, (image_size, image_size, 1)) for image in pixels])
    labels = scans.target.astype(np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_DIGITS_HELD_OUT, stratify=labels, random_state=0
    )
    parts = [ArraySource(pixels[np.sort(part)], labels[np.sort(part)]) for part in (train, test)]
    return parts[0], parts[1], tuple(map(str, scans.target_names))
