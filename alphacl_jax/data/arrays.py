"""Images in memory: their checks, and a data set of them."""

from collections.abc import Sequence

import chex
import jax
import numpy as np

from alphacl_jax.data import images as image_files
from alphacl_jax.data.reading import ArraySource
from alphacl_jax.data.sources import ARRAYS, Dataset, make_dataset
from alphacl_jax.errors import ArgumentError


def dataset_from_arrays(
    images: chex.Array,
    labels: chex.Array | None = None,
    test_images: chex.Array | None = None,
    test_labels: chex.Array | None = None,
    class_names: Sequence[str] | None = None,
    name: str = ARRAYS,
    *,
    image_shape: tuple[int, int, int] | None = None,
) -> Dataset:
    """A data set of images in memory, NumPy's or JAX's.

    Args:
      images: uint8 [n, height, width, channels] with 1 or 3 channels, or [n, height, width] of
        greyscale images: what is pretrained on.
      labels: integers [n], the number of each image's class from 0 on, or -1 where it is unknown;
        None where none is known.
      test_images, test_labels: held-out images of the same size and channels, and their classes,
        all of them known.
      class_names: one for each class, or None for the numbers, of which none may be left out.
      name: what the data set is called; it chooses the default augmentation (`policies`).
      image_shape: (height, width, channels) to scale, crop and convert every image to; None keeps
        the shape they have.

    Raises:
      ArgumentError: for another type or shape, labels that do not fit the images or the class
        names, or a single class.
    """
    pixels = _pixels("images", images, image_shape)
    if labels is None:
        if test_images is not None or test_labels is not None or class_names is not None:
            raise ArgumentError(
                "labels", None, "must be given with test images, test labels or class names"
            )
        unlabelled = np.full(len(pixels), -1, np.int32)
        return make_dataset(name, ArraySource(pixels, unlabelled), None, ())

    numbers = _integers("labels", labels, len(pixels))
    names = _names_of(numbers) if class_names is None else tuple(map(str, class_names))
    _check_range("labels", numbers, -1, len(names))
    known = numbers >= 0
    if len(np.unique(numbers[known])) < 2:
        raise ArgumentError(
            "labels",
            shown(numbers),
            "know fewer than two classes: there is nothing to tell apart. Leave them out to "
            "pretrain without labels",
        )
    everything = ArraySource(pixels, numbers.astype(np.int32))
    train = everything
    if not known.all():
        train = ArraySource(everything.images[known], everything.labels[known])
    if test_images is None and test_labels is None:
        return make_dataset(name, train, None, names, pretrain=everything)
    if test_images is None or test_labels is None:
        missing = "test_images" if test_images is None else "test_labels"
        raise ArgumentError(missing, None, "must be given: the other of test images and labels is")
    test_pixels = _pixels("test_images", test_images, image_shape)
    if test_pixels.shape[1:] != pixels.shape[1:]:
        raise ArgumentError(
            "test_images", shown(test_pixels), f"must have the shape of images={shown(pixels)}"
        )
    test_numbers = _integers("test_labels", test_labels, len(test_pixels))
    _check_range("test_labels", test_numbers, 0, len(names))
    test = ArraySource(test_pixels, test_numbers.astype(np.int32))
    return make_dataset(name, train, test, names, pretrain=everything)


def image_batch(argument: str, images: chex.Array) -> chex.Array:
    """`images`, NumPy's or JAX's, as uint8 [n, height, width, channels].

    Args:
      argument: what an error calls them.
      images: uint8 [n, height, width, channels] with 1 or 3 channels, or [n, height, width] of
        greyscale images.

    Raises:
      ArgumentError: for another type or shape.
    """
    if not isinstance(images, jax.Array):
        images = np.asarray(images)
    if images.dtype != np.uint8:
        of_units = "; of values in [0, 1]: np.round(255 * images).astype(np.uint8)"
        raise ArgumentError(
            argument,
            shown(images),
            "must be uint8 with values from 0 to 255" + of_units * (images.dtype.kind == "f"),
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ArgumentError(
            argument,
            shown(images),
            "must be [n, height, width, channels], or [n, height, width] of greyscale images; one "
            "image alone is image[None]",
        )
    if images.shape[3] not in (1, 3):
        first = "; of [n, channels, height, width]: np.moveaxis(images, 1, -1)"
        raise ArgumentError(
            argument,
            shown(images),
            "must have 1 or 3 channels on its last axis" + first * (images.shape[1] in (1, 3)),
        )
    return images


def _pixels(
    argument: str, images: chex.Array, image_shape: tuple[int, int, int] | None
) -> np.ndarray:
    pixels = np.asarray(image_batch(argument, images))
    if not len(pixels):
        raise ArgumentError(argument, shown(pixels), "holds no image")
    if image_shape is None or pixels.shape[1:] == image_shape:
        return pixels
    return np.stack([image_files.fit(image, image_shape) for image in pixels])


def _integers(argument: str, labels: chex.Array, count: int) -> np.ndarray:
    array = np.asarray(labels)
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise ArgumentError(
            argument, shown(array), f"must be integers [{count}], one for each image"
        )
    return array


def _names_of(numbers: np.ndarray) -> tuple[str, ...]:
    """The class names of labels alone: their numbers, from 0 on."""
    present = np.unique(numbers[numbers >= 0])
    absent = np.setdiff1d(np.arange(len(present)), present)
    if len(absent):
        raise ArgumentError(
            "labels",
            shown(numbers),
            f"hold {present[-1]} but not {absent[0]}: number the classes from 0 on, as by "
            "np.unique(labels, return_inverse=True)[1], or give class_names",
        )
    return tuple(str(number) for number in present)


def _check_range(argument: str, numbers: np.ndarray, lowest: int, classes: int) -> None:
    outside = numbers[(numbers < lowest) | (numbers >= classes)]
    if len(outside):
        raise ArgumentError(
            argument,
            shown(numbers),
            f"hold {outside[0]}, and must lie between {lowest} and {classes - 1}: there are "
            f"{classes} classes" + ", and -1 stands for an unknown one" * (lowest < 0),
        )


def shown(array: chex.Array) -> str:
    """An array by its type and shape, such as "uint8[10, 28, 28]"."""
    return f"{array.dtype}{list(array.shape)}"
