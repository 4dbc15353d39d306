"""The values of pixels of more than 8 bits: measured, and said where few of 256 levels are left.

Many cameras and scanners store 10 to 14 bits in a type of 16 or 32, and no file says so.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
from absl import logging

from alphacl_jax.data import images
from alphacl_jax.data.decoding import WHOLE_RANGE, Decoding, PixelRange, shown_range
from alphacl_jax.data.outages import Patience, raise_if_away
from alphacl_jax.errors import ArgumentError

# How many files are looked at before anything is said about them, and how many values of each.
_SAMPLE = 100
_VALUES = 4096
_FEWEST_LEVELS = 128
# Of the values at either end, in percent, may be out of the ordinary: of broken pixels, of glare.
_RARE = 0.1

Kind = Literal["grey", "float", "colours"]


class _Look(NamedTuple):
    """At the pixels of one file: their extremes, and some of them where that was asked for."""

    kind: Kind
    low: float
    high: float
    file: str
    some: np.ndarray | None


class _Seen(NamedTuple):
    """In all files.

    Attributes:
      low, high: the extremes.
      usual: those of all but the rarest values, where they are much closer.
      files: how many gave values.
      farthest: the file with the value that is farthest from the usual ones.
    """

    low: float
    high: float
    usual: PixelRange
    files: int
    farthest: str


def measured(
    decoding: Decoding, files: Sequence[str], where: str, others: Sequence[str] = ()
) -> Decoding:
    """`decoding` with a range of numbers: in place of "auto" that of all of these files.

    Where it loses most of 256 levels, the log says so, with the values of a sample of all files.

    Args:
      decoding: as asked for.
      files: the training images; those that cannot be read are passed over.
      where: what an error or a warning calls them.
      others: images that will be brought to the same range.

    Raises:
      ArgumentError: where no file has pixels of more than 8 bits, or all of these are equal.
    """
    looks: list[_Look] = []
    auto = decoding.pixel_range == "auto"
    if auto:
        looks = [one for one in _look_at(files, decoding, 0) if one.kind != "colours"]
        decoding = dataclasses.replace(decoding, pixel_range=_whole_range(looks, where))
    every = [*files, *others]
    chosen = np.linspace(0, len(every) - 1, min(_SAMPLE, len(every)), dtype=int)
    looks += _look_at([every[i] for i in chosen], decoding, _VALUES)
    _warn_of_lost_levels(looks, decoding.numbers, where, len(chosen), auto)
    return decoding


def _whole_range(looks: Sequence[_Look], where: str) -> PixelRange:
    if not looks:
        raise ArgumentError(
            "pixel_range",
            "auto",
            f"has nothing to measure: no image in {where} that can be read has grey values of more "
            "than 8 bits. Leave it out",
        )
    low, high = min(one.low for one in looks), max(one.high for one in looks)
    if low == high:
        raise ArgumentError(
            "pixel_range",
            "auto",
            f"finds one value only, {low:g}, in {where}. Give LOW:HIGH, such as 0:4095",
        )
    return low, high


def _warn_of_lost_levels(
    looks: Sequence[_Look], pixel_range: PixelRange | None, where: str, sampled: int, auto: bool
) -> None:
    by_kind: dict[Kind, list[_Look]] = {"grey": [], "float": [], "colours": []}
    for one in looks:
        by_kind[one.kind].append(one)
    if pixel_range is None:
        _warn_of_floats(by_kind["float"], where)
        grey = by_kind["grey"]
    else:
        grey = by_kind["grey"] + by_kind["float"]
    if grey:
        _warn_of_grey(grey, pixel_range, where, auto)
    elif pixel_range is not None:
        logging.warning(
            "%s: pixel_range=%s changes nothing of the %d images that were looked at: none has "
            "grey values of more than 8 bits",
            where,
            shown_range(pixel_range),
            sampled,
        )
    _warn_of_colours(by_kind["colours"], where)


def _warn_of_grey(
    looks: Sequence[_Look], pixel_range: PixelRange | None, where: str, auto: bool
) -> None:
    seen = _seen(looks)
    low, high = pixel_range or WHOLE_RANGE
    levels = _levels(seen.usual, (low, high))
    # A range that was chosen may leave out a little on purpose.
    spare = (high - low) / 2 if pixel_range else 0
    beyond = seen.usual[0] < low - spare or seen.usual[1] > high + spare
    if levels >= _FEWEST_LEVELS and not beyond:
        return
    has_outliers = seen.usual != (seen.low, seen.high)
    logging.warning(
        "%s: the pixels of more than 8 bits in %d files that were looked at have values from %g to "
        "%g%s, and pixel_range=%s maps them to %d levels of 256%s. Give the range of the camera or "
        "scanner, such as pixel_range=%s%s",
        where,
        seen.files,
        *seen.usual,
        f", but for a few from {seen.low:g} to {seen.high:g}, such as in {seen.farthest}"
        if has_outliers
        else "",
        shown_range((low, high)),
        levels,
        ", clipping what lies beyond" * beyond,
        shown_range(_likely(seen.usual)),
        "" if auto or has_outliers else ", or pixel_range=auto for that of the training images",
    )


def _warn_of_floats(looks: Sequence[_Look], where: str) -> None:
    if looks:
        seen = _seen(looks)
        logging.warning(
            "%s: the pixels of %d files that were looked at are floats, with values from %g to %g, "
            "and cannot be read without a range. Give pixel_range=%s, or pixel_range=auto for that "
            "of the training images",
            where,
            seen.files,
            *seen.usual,
            shown_range(_likely(seen.usual)),
        )


def _warn_of_colours(looks: Sequence[_Look], where: str) -> None:
    if not looks:
        return
    low, high = min(one.low for one in looks), max(one.high for one in looks)
    if high - low + 1 < _FEWEST_LEVELS:
        logging.warning(
            "%s: of %d files with 16 bits a channel the upper 8 are read, whose values lie between "
            "%d and %d: at most %d levels of 256 are left. Save such files with 8 bits a channel",
            where,
            len(looks),
            low,
            high,
            high - low + 1,
        )


def _levels(values: PixelRange, pixel_range: PixelRange) -> int:
    """How many of 256 the values between these two become."""
    (lowest, highest), (low, high) = values, pixel_range
    inside = max(0.0, min(highest, high) - max(lowest, low))
    return round(255 * inside / (high - low)) + 1


def _likely(values: PixelRange) -> PixelRange:
    """Of 0 to 1 and the ranges of whole bits the first that holds the values, if it keeps levels.

    Else their own range, in few digits.
    """
    low, high = values
    # Floats that should lie between 0 and 1 are often a little off.
    off = high <= 1.01
    whole = (0, 1 if off else 2 ** math.ceil(math.log2(high + 1)) - 1)
    if low >= (-0.01 if off else 0) and _levels(values, whole) >= _FEWEST_LEVELS:
        return whole
    return float(f"{low:.6g}"), float(f"{high if high > low else low + 1:.6g}")


def _seen(looks: Sequence[_Look]) -> _Seen:
    low, high = min(one.low for one in looks), max(one.high for one in looks)
    some = [one.some for one in looks if one.some is not None]
    usual = _usual(np.concatenate(some), low, high) if some else (low, high)
    farthest = max(looks, key=lambda one: max(usual[0] - one.low, one.high - usual[1]))
    return _Seen(low, high, usual, len(some), farthest.file)


def _usual(values: np.ndarray, low: float, high: float) -> PixelRange:
    """Between the rarest values, where these take up more than half of `low` to `high`."""
    least, most = np.percentile(values, (_RARE, 100 - _RARE), method="nearest").tolist()
    return (least, most) if 0 < 2 * (most - least) < high - low else (low, high)


def _look_at(files: Sequence[str], decoding: Decoding, count: int) -> list[_Look]:
    """At all files with greys of more than 8 bits, or with colours of 16, and `count` values."""
    patience = Patience()

    def look(file: str) -> _Look | None:
        return patience.read(_look, file, decoding.max_megapixels, count)

    found = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # A part at a time: a task for each of millions of files would fill memory.
        for start in range(0, len(files), 1000):
            found += [one for one in pool.map(look, files[start : start + 1000]) if one is not None]
    return found


def _look(file: str, max_megapixels: float, count: int) -> _Look | None:
    """At one file; None of another kind, and of one that cannot be read."""
    try:
        wide = images.wide_values(file, max_megapixels)
    except Exception as error:  # as in images.decode, which reports it
        raise_if_away(error, file)
        return None
    if wide is None or not np.isfinite(wide[0]).all():
        return None
    values, colours = wide
    kind: Kind = "colours" if colours else "float" if values.dtype.kind == "f" else "grey"
    return _Look(kind, float(values.min()), float(values.max()), file, _some(values, count))


def _some(values: np.ndarray, count: int) -> np.ndarray | None:
    """At most `count` of them from anywhere, always the same; None of none."""
    if count == 0:
        return None
    if values.size > count:
        values = values.flat[np.random.default_rng(0).integers(values.size, size=count)]
    return values.ravel().astype(np.float64)
