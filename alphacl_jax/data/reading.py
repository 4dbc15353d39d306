"""Reading images: random access to encoded ones, and the decoding of all of a set, in order."""

import dataclasses
import hashlib
import math
import os
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from absl import logging

from alphacl_jax.data import images
from alphacl_jax.data.outages import Patience

# How many images the colours of a set are measured on.
_COLOUR_SAMPLE = 2000
_COLOUR_CHUNK = 64
_LABEL_CHUNK = 500


class Source(Protocol):
    """Random access to images of one shape.

    `source[i]` is {"image": uint8 [height, width, channels], "label": int, -1 where unlabelled} and
    raises `images.UnreadableImage` where the image is damaged, OSError or MemoryError where it is
    away for a reason that lies elsewhere.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def names(self) -> Sequence[str] | None:
        """What each image is called, or None where they have no names."""

    def fingerprint(self) -> str:
        """Hexadecimal digits that change with the images, as far as can be told undecoded."""

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

    @property
    def names(self) -> None:
        return None

    def fingerprint(self) -> str:
        """Of shape and pixels."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": int(self.labels[index])}


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """Some images of a source, by their positions [n] in it."""

    source: Source
    indices: np.ndarray

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.source.image_shape

    @property
    def names(self) -> list[str] | None:
        names = self.source.names
        return None if names is None else [names[i] for i in self.indices]

    def fingerprint(self) -> str:
        """Of the whole source and the positions."""
        digest = hashlib.sha256(self.source.fingerprint().encode())
        digest.update(np.asarray(self.indices, np.int64).tobytes())
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.source[int(self.indices[index])]


@dataclasses.dataclass(frozen=True)
class Split:
    """Part of a data set; `labelled` says whether every image has a class."""

    source: Source
    labelled: bool


class _Decoded(NamedTuple):
    """Images uint8 [n, h, w, c], labels int32 [n], where they stand in the source [n]."""

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


def fits_in_memory(split: Split, max_bytes: int) -> bool:
    """Whether the split's images, as uint8, take at most `max_bytes`."""
    return _bytes(split.source) <= max_bytes


# A run asks for the same images to train on and to evaluate on: each is decoded, and its damaged
# files are reported, once, and forgotten together with the data set.
_DECODED: weakref.WeakKeyDictionary[Source, _Decoded] = weakref.WeakKeyDictionary()


_FINGERPRINTS: weakref.WeakKeyDictionary[Source, str] = weakref.WeakKeyDictionary()


def fingerprint_of(source: Source) -> str:
    """`source.fingerprint()`, taken once: it reads all pixels, or the size of every file."""
    if source not in _FINGERPRINTS:
        _FINGERPRINTS[source] = source.fingerprint()
    return _FINGERPRINTS[source]


def to_arrays(split: Split, max_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a whole split, in threads; damaged images are left out, and reported in one line.

    Returns:
      Images uint8 [n, height, width, channels] and labels int32 [n], both read-only where they were
      decoded. A second call for the same source returns the same arrays.

    Raises:
      ValueError: where the images take more than `max_bytes`, or none can be read.
    """
    return _all_of(split, max_bytes)[:2]


def _all_of(split: Split, max_bytes: int) -> _Decoded:
    source = split.source
    if not fits_in_memory(split, max_bytes):
        raise ValueError(
            f"{len(source)} images of {source.image_shape} take {_bytes(source):,} bytes, more "
            f"than the {max_bytes:,} allowed. Raise the limit, stream them, or make them smaller"
        )
    if isinstance(source, ArraySource):
        return _Decoded(source.images, source.labels, np.arange(len(source)))
    if source not in _DECODED:
        decoded, damaged = _decode(source, np.arange(len(source)))
        _tell_of(damaged, len(source))
        decoded.images.flags.writeable = decoded.labels.flags.writeable = False
        _DECODED[source] = decoded
    return _DECODED[source]


def in_order(split: Split, size: int, max_bytes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A split's images and labels, `size` at a time and in order, whatever the split's own size.

    Damaged images are left out, and reported. Where the images take at most `max_bytes` they are
    decoded once and kept, as by `to_arrays`.
    """
    for chunk in _chunks(split, size, max_bytes):
        yield chunk.images, chunk.labels


def in_order_named(
    split: Split, size: int, max_bytes: int
) -> Iterator[tuple[np.ndarray, np.ndarray, list[str] | None]]:
    """`in_order`, with the names of the images yielded, or None where they have no names."""
    names = split.source.names
    for chunk in _chunks(split, size, max_bytes):
        named = None if names is None else [names[i] for i in chunk.indices]
        yield chunk.images, chunk.labels, named


def labels_of(split: Split, max_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels [n] of the images that can be read, in order, and their positions [n].

    Args:
      split: what is read.
      max_bytes: as in `in_order`.
    """
    chunks = list(_chunks(split, _LABEL_CHUNK, max_bytes))
    labels, indices = ([getattr(c, name) for c in chunks] for name in ("labels", "indices"))
    return np.concatenate(labels), np.concatenate(indices)


def subset_of(split: Split, indices: np.ndarray, max_bytes: int) -> Split:
    """The images of a split at increasing positions `indices` [n], all of which can be read.

    Images that were decoded already are not decoded again.
    """
    if not fits_in_memory(split, max_bytes):
        return Split(Subset(split.source, indices), split.labelled)
    decoded = _all_of(split, max_bytes)
    rows = np.searchsorted(decoded.indices, indices)
    if len(rows) == len(decoded.indices):
        return split
    return Split(ArraySource(decoded.images[rows], decoded.labels[rows]), split.labelled)


def _chunks(split: Split, size: int, max_bytes: int) -> Iterator[_Decoded]:
    if fits_in_memory(split, max_bytes):
        decoded = _all_of(split, max_bytes)
        for start in range(0, len(decoded.images), size):
            yield _Decoded(*(array[start : start + size] for array in decoded))
        return
    total = len(split.source)
    damaged: list[str] = []
    for start in range(0, total, size):
        chunk, problems = _decode(split.source, np.arange(start, min(start + size, total)))
        damaged += problems
        if len(chunk.images):
            yield chunk
    _tell_of(damaged, total)


def _bytes(source: Source) -> int:
    return len(source) * math.prod(source.image_shape)


def _decode(source: Source, indices: np.ndarray) -> tuple[_Decoded, list[str]]:
    """The images of `indices` without the damaged ones, and what is wrong with those."""
    pixels = np.empty((len(indices), *source.image_shape), np.uint8)
    labels = np.empty(len(indices), np.int32)
    patience = Patience()

    def read(row: int) -> str | None:
        try:
            example = patience.read(source.__getitem__, int(indices[row]))
        except images.UnreadableImage as error:
            return str(error)
        pixels[row], labels[row] = example["image"], example["label"]
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = list(pool.map(read, range(len(indices))))
    damaged = [problem for problem in problems if problem is not None]
    decoded = _Decoded(pixels, labels, indices)
    if damaged:
        good = np.array([problem is None for problem in problems])
        decoded = _Decoded(*(array[good] for array in decoded))
    return decoded, damaged


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


def mean_and_std(source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, in units of [0, 1], over evenly spaced images."""
    indices = np.linspace(0, len(source) - 1, min(_COLOUR_SAMPLE, len(source)), dtype=int)
    # Counted by value, a few images at a time: the sample itself may be gigabytes.
    channels = source.image_shape[-1]
    counts = np.zeros((channels, 256))
    damaged: list[str] = []
    for part in np.array_split(indices, -(-len(indices) // _COLOUR_CHUNK)):
        decoded, problems = _decode(source, part)
        damaged += problems
        for channel in range(channels):
            counts[channel] += np.bincount(decoded.images[..., channel].ravel(), minlength=256)
    if len(damaged) == len(indices):
        _tell_of(damaged, len(indices))
    weights, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
    mean = weights @ values
    std = np.sqrt(np.sum(weights * np.square(values[None, :] - mean[:, None]), axis=1))
    # A channel without contrast would otherwise be divided by zero.
    return tuple(map(float, mean)), tuple(map(float, np.maximum(std, 1 / 255)))
