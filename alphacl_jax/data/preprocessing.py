"""What becomes of an image before an encoder sees it: all that is needed of a data set later."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import chex
import jax
import numpy as np

from alphacl_jax.data import images as image_files
from alphacl_jax.data import views
from alphacl_jax.data.arrays import image_batch, shown
from alphacl_jax.data.decoding import (
    WHOLE_RANGE,
    Decoding,
    PixelRange,
    check_pixel_range,
    shown_range,
)
from alphacl_jax.data.sources import Dataset
from alphacl_jax.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The shape and the colours of the images that an encoder was trained on.

    Attributes:
      image_shape: (height, width, channels).
      mean, std: per channel, in units of [0, 1].
      pixel_range: of image files with more than 8 bits, see `Decoding`.

    Raises:
      ArgumentError: for colours of another number of channels, a deviation that is not above 0, or
        a range without extent.
    """

    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixel_range: PixelRange | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.image_shape[2]:
                raise ArgumentError(
                    name,
                    getattr(self, name),
                    f"must have a number for each channel of image_shape={self.image_shape}",
                )
        if not min(self.std) > 0:
            raise ArgumentError("std", self.std, "must be above 0")
        if self.pixel_range is not None:
            check_pixel_range(self.pixel_range)

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> Self:
        """That of an opened data set."""
        return cls(dataset.image_shape, dataset.mean, dataset.std, dataset.pixel_range)

    @property
    def decoding(self) -> Decoding:
        """How `folder.open_any` and `folder.open_files` decode what the encoder is applied to."""
        return Decoding(self.pixel_range)

    def prepare(self, images: chex.Array, *, resize: bool = False) -> chex.Array:
        """Any number of images as uint8 [n, *image_shape].

        Args:
          images: uint8 [n, height, width, channels], or [n, height, width] of greyscale images;
            NumPy's or JAX's.
          resize: whether images of another size are scaled until they cover `image_shape`, and
            cropped at the centre, as files are (`images.fit`); else they are an error.

        Returns:
          The same array where it has the shape already, else NumPy's.

        Raises:
          ArgumentError: for another type, rank or number of channels; for another size without
            `resize`.
        """
        if np.shape(images) == self.image_shape:
            raise ArgumentError("images", list(self.image_shape), "is one image: give image[None]")
        batch = image_batch("images", images)
        height, width, channels = self.image_shape
        if batch.shape[3] != channels:
            besides = ""
            if not resize and batch.shape[1:3] != (height, width):
                besides = f"; besides they must be {height} pixels high and {width} wide"
            convert = (
                "np.repeat(images[..., None], 3, axis=-1) of [n, height, width] repeats grey values"
                if channels == 3
                else "convert them to greyscale, [n, height, width]"
            )
            raise ArgumentError(
                "images",
                shown(batch),
                f"must have {_channels(channels)} and has {_channels(batch.shape[3])}: {convert}"
                f"{besides}",
            )
        if batch.shape[1:3] == (height, width):
            return batch
        if not resize:
            raise ArgumentError(
                "images",
                shown(batch),
                f"must be {height} pixels high and {width} wide, and is {batch.shape[1]} by "
                f"{batch.shape[2]}; resize=True scales and crops it",
            )
        fitted = np.empty((len(batch), *self.image_shape), np.uint8)
        for index, image in enumerate(np.asarray(batch)):
            fitted[index] = image_files.fit(image, self.image_shape)
        return fitted

    def normalize(self, images: chex.Array) -> jax.Array:
        """What the encoder sees of images: float32 [n, *image_shape], (images/255 − mean)/std.

        Args:
          images: uint8 [n, *image_shape], or [n, height, width] of greyscale images.

        Raises:
          ArgumentError: see `prepare`.
        """
        return views.normalize(self.prepare(images), self.mean, self.std)

    def to_json(self) -> dict[str, Any]:
        """A dict that JSON can hold; its numbers come back the same."""
        return {
            "image_shape": list(self.image_shape),
            "mean": list(self.mean),
            "std": list(self.std),
            "pixel_range": None if self.pixel_range is None else list(self.pixel_range),
        }

    def as_done_to_files(self) -> dict[str, Any]:
        """What becomes of an image file on its way to the encoder, for those who repeat it."""
        return {
            **self.to_json(),
            "size": "scaled until it covers image_shape, and cropped at the centre",
            "channels": "converted to greyscale"
            if self.image_shape[2] == 1
            else "converted to RGB",
            "more than 8 bits": "(value - low) / (high - low) * 255, rounded and clipped, low and "
            f"high of pixel_range, here {shown_range(self.pixel_range or WHOLE_RANGE)}",
            "values": "(image / 255 - mean) / std, by channel",
        }

    def in_words(self) -> str:
        """The same in one line, without the numbers of the colours."""
        height, width, channels = self.image_shape
        kind = "greyscale" if channels == 1 else "RGB"
        wide = "" if self.pixel_range is None else f", wide pixels {shown_range(self.pixel_range)}"
        others = "others were scaled, cropped at the centre and converted"
        return f"{height}x{width}, {kind}{wide}; {others}"

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """That of which `stored` is the `to_json`."""
        shape, mean, std = (tuple(stored[name]) for name in ("image_shape", "mean", "std"))
        pixel_range = stored.get("pixel_range")  # runs of before have none
        return cls(shape, mean, std, None if pixel_range is None else tuple(pixel_range))


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"
