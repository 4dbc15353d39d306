"""The values of pixels of more than 8 bits: measured, and said where few of 256 levels are left.

Many cameras and scanners store 10 to 14 bits in a type of 16 or 32, and no file says so.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from absl import logging

from alphacl_jax.data import images
from alphacl_jax.data.decoding import WHOLE_RANGE, Decoding, PixelRange, shown_range
from alphacl_jax.data.outages import Patience, raise_if_away
from alphacl_jax.errors import ArgumentError

# How many files are looked at before anything is said about them.
_SAMPLE = 100
_FEWEST_LEVELS = 128


class _Seen(NamedTuple):
    """Values from `low` to `high` in `files` files."""

    low: float
    high: float
    files: int


def measured(decoding: Decoding, files: Sequence[str], where: str) -> Decoding:
    """`decoding` with a range of numbers: in place of "auto" that of all of these files.

    Args:
      decoding: as asked for.
      files: the training images; those that cannot be read are passed over.
      where: what an error calls them.

    Raises:
      ArgumentError: where no file has pixels of more than 8 bits, or all of these are equal.
    """
    if decoding.pixel_range != "auto":
        return decoding
    seen, _ = _look_at(files, decoding.max_megapixels)
    if seen is None:
        raise ArgumentError(
            "pixel_range",
            "auto",
            f"has nothing to measure: no image in {where} that can be read has grey values of more "
            "than 8 bits. Leave it out",
        )
    if seen.low == seen.high:
        raise ArgumentError(
            "pixel_range",
            "auto",
            f"finds one value only, {seen.low:g}, in {where}. Give LOW:HIGH, such as 0:4095",
        )
    return dataclasses.replace(decoding, pixel_range=(seen.low, seen.high))


def warn_of_lost_levels(decoding: Decoding, files: Sequence[str], where: str) -> None:
    """Says of a sample of files which values their wide pixels have, where `decoding` loses most.

    Args:
      decoding: with a range that is known.
      files: images of any kind.
      where: what the warning calls them.
    """
    chosen = np.linspace(0, len(files) - 1, min(_SAMPLE, len(files)), dtype=int)
    grey, colours = _look_at([files[i] for i in chosen], decoding.max_megapixels)
    if grey is not None:
        _warn_of_grey(grey, decoding.numbers, where)
    elif decoding.numbers is not None:
        logging.warning(
            "%s: pixel_range=%s changes nothing of the %d images that were looked at: none has "
            "grey values of more than 8 bits",
            where,
            shown_range(decoding.numbers),
            len(chosen),
        )
    if colours is not None and colours.high - colours.low + 1 < _FEWEST_LEVELS:
        logging.warning(
            "%s: of %d files with 16 bits a channel the upper 8 are read, whose values lie between "
            "%d and %d: at most %d levels of 256 are left. Save such files with 8 bits a channel",
            where,
            colours.files,
            colours.low,
            colours.high,
            colours.high - colours.low + 1,
        )


def _warn_of_grey(seen: _Seen, pixel_range: PixelRange | None, where: str) -> None:
    low, high = pixel_range or WHOLE_RANGE
    span = high - low
    inside = max(0.0, min(seen.high, high) - max(seen.low, low))
    levels = round(255 * inside / span) + 1
    # A range that was chosen may leave out a little on purpose.
    spare = span / 2 if pixel_range else 0
    beyond = seen.low < low - spare or seen.high > high + spare
    if levels >= _FEWEST_LEVELS and not beyond:
        return
    logging.warning(
        "%s: the pixels of more than 8 bits in %d files that were looked at have values from %g to "
        "%g, and pixel_range=%s maps them to %d levels of 256%s. Give the range of the camera or "
        "scanner, such as pixel_range=%s, or pixel_range=auto for that of the training images",
        where,
        seen.files,
        seen.low,
        seen.high,
        shown_range((low, high)),
        levels,
        ", clipping what lies beyond" * beyond,
        shown_range(_likely(seen)),
    )


def _likely(seen: _Seen) -> PixelRange:
    """The range of whole bits that holds the values, or the values' own where some are negative."""
    if seen.low < 0 or seen.high < 1:
        return seen.low, max(seen.high, seen.low + 1)
    return 0, 2 ** math.ceil(math.log2(seen.high + 1)) - 1


def _look_at(files: Sequence[str], max_megapixels: float) -> tuple[_Seen | None, _Seen | None]:
    """The values of grey pixels of more than 8 bits, and the upper 8 bits of colours of 16."""
    found: dict[bool, list[PixelRange]] = {False: [], True: []}
    patience = Patience()

    def range_of(file: str) -> tuple[bool, PixelRange] | None:
        return patience.read(functools.partial(range_within, file))

    def range_within(file: str) -> tuple[bool, PixelRange] | None:
        try:
            wide = images.wide_values(file, max_megapixels)
        except Exception as error:  # as in images.decode, which reports it
            raise_if_away(error, file)
            return None
        if wide is None or not np.isfinite(wide[0]).all():
            return None
        return wide[1], (float(wide[0].min()), float(wide[0].max()))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # A part at a time: a task for each of millions of files would fill memory.
        for start in range(0, len(files), 1000):
            for one in pool.map(range_of, files[start : start + 1000]):
                if one is not None:
                    found[one[0]].append(one[1])
    grey, colours = (
        _Seen(min(low for low, _ in all_), max(high for _, high in all_), len(all_))
        if all_
        else None
        for all_ in (found[False], found[True])
    )
    return grey, colours
