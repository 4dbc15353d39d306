"""How image files are decoded where the files do not say it themselves; imports nothing slow."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from alphacl_jax.errors import ArgumentError

PixelRange = tuple[float, float]
Auto = Literal["auto"]

# Of 16-bit integers, which Pillow gives as wide as they are stored.
WHOLE_RANGE: PixelRange = (0, 65535)
# What fits in memory for each of many threads; photographs of today have up to 60 or so.
MAX_MEGAPIXELS = 64.0
# Beyond that Pillow refuses a file itself.
MOST_MEGAPIXELS = 178.0


@dataclasses.dataclass(frozen=True)
class Decoding:
    """What is decoded of image files, and how.

    Attributes:
      pixel_range: (low, high), the values of greyscale pixels of more than 8 bits that become 0 and
        255, as those beyond do; or a text that `parse_pixel_range` reads. "auto" is the range of
        the files that are opened as training images. None is 0 to 65535; float pixels, whose range
        is not known, are then unreadable.
      max_megapixels: files of more pixels, in millions, are unreadable.

    Raises:
      ArgumentError: for what is no range, one whose low is not below its high, or a limit that is
        not above 0.
    """

    pixel_range: PixelRange | Auto | None = None
    max_megapixels: float = MAX_MEGAPIXELS

    @property
    def numbers(self) -> PixelRange | None:
        """The range, once it is known: `ranges.measured` finds that of "auto".

        Raises:
          ValueError: where it was not measured.
        """
        if self.pixel_range == "auto":
            raise ValueError("pixel_range=auto was not measured: see ranges.measured")
        return self.pixel_range

    def __post_init__(self) -> None:
        if isinstance(self.pixel_range, str):
            object.__setattr__(self, "pixel_range", parse_pixel_range(self.pixel_range))
        elif self.pixel_range is not None:
            object.__setattr__(self, "pixel_range", check_pixel_range(self.pixel_range))
        if not 0 < self.max_megapixels <= MOST_MEGAPIXELS:
            raise ArgumentError(
                "max_megapixels",
                self.max_megapixels,
                f"must be above 0 and at most {MOST_MEGAPIXELS:g}",
            )


def check_pixel_range(pixel_range: Sequence[float]) -> PixelRange:
    """The two numbers of a range, of which the first is below the second.

    Raises:
      ArgumentError: where it has others, or they are not finite, or not in this order.
    """
    try:
        low, high = map(float, pixel_range)
        in_order = math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        in_order = False
    if not in_order:
        raise ArgumentError(
            "pixel_range",
            shown_range(pixel_range),
            "must be two numbers, the lower one first, such as 0:4095",
        )
    return low, high


def parse_pixel_range(text: str) -> PixelRange | Auto:
    """The range that a text stands for: "LOW:HIGH", such as "0:4095", or "auto".

    Raises:
      ArgumentError: where it stands for none.
    """
    if text == "auto":
        return "auto"
    try:
        low, high = map(float, text.split(":"))
    except ValueError as error:
        raise ArgumentError(
            "pixel_range", text, "must be LOW:HIGH, such as 0:4095, or auto"
        ) from error
    return check_pixel_range((low, high))


def shown_range(pixel_range: Sequence[float]) -> str:
    """As `parse_pixel_range` reads it, such as "0:4095"; anything else as Python writes it."""
    try:
        return ":".join(f"{value:.9g}" for value in pixel_range)
    except (TypeError, ValueError):
        return repr(pixel_range)


# How files are decoded where nothing else is asked for.
PLAIN = Decoding()
