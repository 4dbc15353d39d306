"""Data sets by name: what to pretrain on, what to evaluate on, with their class names and colours.

A data set is opened, not loaded: images are decoded when they are indexed, so that a set larger
than memory can stream. `reading` decodes them; images in memory become a data set in `arrays`.
"""

import dataclasses
import os

import numpy as np

from alphacl_jax.data import folder, images, tfds_source, tree
from alphacl_jax.data.decoding import PLAIN, Decoding, PixelRange
from alphacl_jax.data.reading import (
    ArraySource,
    Source,
    Split,
    fits_in_memory,
    in_order,
    in_order_named,
    mean_and_std,
    to_arrays,
)
from alphacl_jax.errors import ArgumentError

__all__ = [
    "ArraySource",
    "Dataset",
    "Source",
    "Split",
    "fits_in_memory",
    "in_order",
    "in_order_named",
    "load",
    "make_dataset",
    "title_of",
    "to_arrays",
]

# Mean and standard deviation per channel of the training images, in units of [0, 1].
_COLOURS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "stl10": ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
}

# What a data set of images in memory is called, where it is called nothing else.
ARRAYS = "arrays"

_DIGITS_HELD_OUT = 500


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set, opened.

    Attributes:
      name: as given to `load`.
      title: what to call it in a file name or a headline: the data folder's own name where `name`
        is "folder", else `name`.
      pretrain: all images to pretrain on; stl10 has 100,000 here beyond its labelled ones.
      train: the labelled training images, or None for a folder without classes.
      test: the labelled held-out images, or None.
      class_names: one per label; empty where there are no labels.
      image_shape: (height, width, channels), the channels those of the files where `load` was not
        asked for others: 1 of greyscale images, else 3.
      mean, std: per channel, in units of [0, 1].
      pixel_range: see `Decoding`, "auto" measured; None also where no files are decoded.
    """

    name: str
    title: str
    pretrain: Split
    train: Split | None
    test: Split | None
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixel_range: PixelRange | None = None


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    image_shape: tuple[int, int, int | None] | None = None,
    decoding: Decoding = PLAIN,
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
      image_shape: (height, width, channels) to bring every image to, in place of `image_size`: the
        shape that an encoder takes which was trained on other images. Channels None are those of
        the files.
      decoding: how image files are decoded; the range of pixels is for "folder" alone.

    Returns:
      The data set, its images not yet decoded.

    Raises:
      ArgumentError: for an unknown name and for data that cannot be used; a MissingDataError (also
        a FileNotFoundError) for data that is not there. The message says what to do.
    """
    if name == ARRAYS:
        raise ArgumentError(
            "dataset",
            name,
            "stands for images in memory, which only Python can give (alphacl_jax.runs.pretrain). "
            "For images in files set dataset=folder and data_dir, their folder",
        )
    size, channels = _wanted(image_size, image_shape)
    if name == "digits":
        if data_dir is not None:
            raise ArgumentError(
                "data_dir",
                data_dir,
                "cannot be used: the data set 'digits' reads no data_dir; for a folder of images "
                "set dataset=folder",
            )
        return make_dataset(name, *_digits(size, channels))
    if name == "folder":
        if data_dir is None:
            raise ArgumentError(
                "data_dir",
                None,
                "must be given: the data set 'folder' needs data_dir, the folder of the images",
            )
        own, held_out, names = folder.open_folder(data_dir, size, channels, decoding)
        dataset = make_dataset(name, own, held_out, names, title=title_of(name, data_dir))
        return dataclasses.replace(dataset, pixel_range=own.decoding.numbers)
    pretrain, train, test, class_names = tfds_source.open_tfds(
        name, data_dir, size, channels, decoding
    )
    return make_dataset(
        name, train, test, class_names, pretrain=pretrain, colours=_COLOURS.get(name)
    )


def title_of(name: str, data_dir: str | os.PathLike[str] | None) -> str:
    """What `Dataset.title` is: "flowers" for the folder /data/flowers, else `name`.

    It is the same in whichever encoding the folder's name is stored.
    """
    if name != "folder" or data_dir is None:
        return name
    own = os.path.basename(os.path.abspath(os.path.expanduser(data_dir)))
    return tree.composed(own) or name


def make_dataset(
    name: str,
    train: Source,
    test: Source | None,
    class_names: tuple[str, ...],
    *,
    title: str | None = None,
    pretrain: Source | None = None,
    colours: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> Dataset:
    """A data set of opened sources.

    Args:
      name, class_names: see `Dataset`.
      train: the training images; without classes where there are no `class_names`.
      test: the held-out images with labels, or None.
      title: None for `name`.
      pretrain: where there are more images to pretrain on than the labelled ones, all of them.
      colours: mean and standard deviation per channel; None, or those of other channels, to
        measure them.
    """
    split = Split(train, labelled=bool(class_names))
    if colours is None or len(colours[0]) != train.image_shape[2]:
        colours = mean_and_std(train)
    return Dataset(
        name=name,
        title=title or name,
        pretrain=split
        if pretrain is None or pretrain is train
        else Split(pretrain, labelled=False),
        train=split if class_names else None,
        test=None if test is None else Split(test, labelled=True),
        class_names=class_names,
        image_shape=train.image_shape,
        mean=colours[0],
        std=colours[1],
    )


def _wanted(
    image_size: int | None, image_shape: tuple[int, int, int | None] | None
) -> tuple[tuple[int, int] | None, int | None]:
    """The (height, width) and the channels asked for, None where the files decide."""
    if image_size is not None and image_size < 1:
        raise ArgumentError("image_size", image_size, "must be at least 1")
    if image_shape is None:
        return (None if image_size is None else (image_size, image_size)), None
    if image_size is not None:
        raise ArgumentError(
            "image_size", image_size, f"cannot be given with image_shape={image_shape}: give one"
        )
    if len(image_shape) != 3 or min(image_shape[:2]) < 1 or image_shape[2] not in (None, 1, 3):
        raise ArgumentError(
            "image_shape",
            image_shape,
            "must be a height and a width of at least 1, and 1 or 3 channels",
        )
    return (image_shape[0], image_shape[1]), image_shape[2]


def _digits(
    size: tuple[int, int] | None, channels: int | None
) -> tuple[ArraySource, ArraySource, tuple[str, ...]]:
    from sklearn.datasets import load_digits  # here, since it takes a second
    from sklearn.model_selection import train_test_split

    scans = load_digits()
    pixels = np.round(scans.images * (255 / 16)).astype(np.uint8)[..., None]
    shape = (*(size or (8, 8)), channels or 1)
    pixels = np.stack([images.fit(image, shape) for image in pixels])
    labels = scans.target.astype(np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_DIGITS_HELD_OUT, stratify=labels, random_state=0
    )
    parts = [ArraySource(pixels[np.sort(part)], labels[np.sort(part)]) for part in (train, test)]
    return parts[0], parts[1], tuple(map(str, scans.target_names))
