"""One encoded image as a uint8 array of a known shape, of the formats that are read here."""

import functools
import io
import os
import stat
from collections import Counter
from collections.abc import Iterable
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin
from PIL.ImageFile import ImageFile as OpenedImage

from alphacl_jax.data.decoding import PLAIN, WHOLE_RANGE, Decoding, PixelRange
from alphacl_jax.data.errors import MixedSizesError
from alphacl_jax.data.outages import Patience, raise_if_away

ImageFile = str | IO[bytes]

# Sides of square images that networks are usually trained on.
_USUAL_SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224)

# In the order in which they are tried. Left out of what Pillow knows are those that hand a file,
# which may come from anywhere, to another program or to the system (EPS, with PS; WMF, with EMF);
# IPTC, which opens what is inside it in any format; ICO, ICNS and BLP, whose headers do not say how
# many pixels are inside; and containers without a decoder.
_FORMATS = (
    "JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "QOI",
    "CUR", "DCX", "DDS", "DIB", "FITS", "FLI", "FTEX", "GBR", "IM", "MSP", "PCD", "PCX",
    "PIXAR", "PSD", "SGI", "SUN", "TGA", "XBM", "XPM",
)  # fmt: skip
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of TIFF
_MOST_AT_ONCE = 2**24  # bytes
_FILE_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnreadableImage(ValueError):
    """An image that cannot be decoded; the message names it and gives the reason."""


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `_FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def suffixes() -> frozenset[str]:
    """The file endings, such as ".png", of the formats that are read."""
    known = _formats()
    return frozenset(
        suffix for suffix, kind in Image.registered_extensions().items() if kind in known
    )


def _open(file: ImageFile, whole: bool = False) -> OpenedImage:
    """Reads an image's header.

    Args:
      file: as in `decode`.
      whole: read the rest as well, at once, unless that is much: the threads that decode wait for
        each other at every part that Pillow reads for itself.

    Raises:
      ValueError: for a path that is no regular file, at which reading could wait for ever.
    """
    if isinstance(file, str):
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode):
            kind = _FILE_KINDS.get(stat.S_IFMT(status.st_mode), "no file")
            raise ValueError(f"it is {kind}, not a file")
        if whole and status.st_size <= _MOST_AT_ONCE:
            with open(file, "rb", buffering=0) as unread:
                file = io.BytesIO(unread.read())
    image = Image.open(file, formats=_formats())
    # Pillow maps uncompressed files that have a name into memory, and then forgets to turn them.
    image.filename = ""
    return image


def _check_pixels(image: Image.Image, most_millions: float) -> None:
    for what, width, height in (("", *image.size), *_tile_of(image)):
        millions = width * height / 1e6
        if millions > most_millions:
            raise ValueError(
                f"{what}{width}x{height} are {millions:.4g} megapixels, more than "
                f"max_megapixels={most_millions:g} allows"
            )


def _tile_of(image: Image.Image) -> list[tuple[str, int, int]]:
    """Of a TIFF in tiles, which are decoded whole, however small the image is: one tile's size."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return []
    width, height = map(image.tag_v2.get, (_TILE_WIDTH, _TILE_LENGTH))
    return [("its tiles of ", width, height)] if width and height else []


def decode(
    file: ImageFile,
    shape: tuple[int, int, int],
    name: str,
    decoding: Decoding = PLAIN,
) -> np.ndarray:
    """Decodes one image to `shape`.

    The EXIF orientation is applied; transparent pixels are laid over white; greyscale of more than
    8 bits is brought to 8 by `decoding.pixel_range`; of an animation the first frame is taken. An
    image of another size is scaled, with its aspect kept, until it covers `shape`, and cropped at
    the centre.

    Args:
      file: a path, or a file open for reading bytes.
      shape: (height, width, channels) to return; 1 channel is greyscale, 3 are RGB.
      name: what an error calls this image.
      decoding: how, with a range that is known: `ranges.measured` finds that of "auto".

    Returns:
      uint8 [height, width, channels].

    Raises:
      UnreadableImage: where it cannot be decoded, is no regular file, or is larger than allowed.
      OSError, MemoryError: where it is away, see `outages`.
    """
    for last in (False, True):  # memory may be short for a moment, which decoders take for damage
        try:
            return _decoded(file, shape, decoding)
        except Exception as error:  # Pillow's decoders raise many types on damaged files
            raise_if_away(error, file)
            if last:
                raise UnreadableImage(f"{name} ({error or type(error).__name__})") from error
    raise AssertionError  # not reached


def _decoded(file: ImageFile, shape: tuple[int, int, int], decoding: Decoding) -> np.ndarray:
    height, width, channels = shape
    pixel_range = decoding.numbers
    with _open(file, whole=True) as image:
        _check_pixels(image, decoding.max_megapixels)
        # A JPEG much larger than asked for is decoded at 1/2, 1/4 or 1/8 of its size, still
        # twice what is needed, so that the resize below does the filtering.
        image.draft(None, (2 * width, 2 * height))
        ImageOps.exif_transpose(image, in_place=True)
        return _fitted(_as_grey_or_rgb(image, channels, pixel_range), shape)


def fit(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Scales `pixels`, uint8 [h, w, c], to cover `shape` (bilinear, aspect kept), crops centrally.

    Grey images become RGB, and RGB ones grey, where `shape` has the other number of channels. An
    array that has the shape already is returned as it is.
    """
    if pixels.shape == shape:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return _fitted(image.convert(_mode(shape[2])), shape)


def _fitted(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """Scales a grey or RGB image as `fit` does; the pixels are copied once, when they are small."""
    size = shape[1], shape[0]
    if image.size != size:
        image = ImageOps.fit(image, size, method=Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def _mode(channels: int) -> str:
    return "L" if channels == 1 else "RGB"


def _as_grey_or_rgb(
    image: Image.Image, channels: int, pixel_range: PixelRange | None
) -> Image.Image:
    if _is_wide(image):
        if image.mode == "F" and pixel_range is None:
            raise ValueError(
                "float pixels have no known range: set pixel_range=LOW:HIGH or auto, or save it "
                "with 8 or 16 bits"
            )
        image = Image.fromarray(_to_8_bits(np.asarray(image), pixel_range or WHOLE_RANGE))
    elif "transparency" in image.info or {"A", "a"} & set(image.getbands()):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == _mode(channels) else image.convert(_mode(channels))


def _is_wide(image: Image.Image) -> bool:
    """Whether it is greyscale of more than 8 bits, which convert() would clip at 255."""
    return image.mode.startswith("I") or image.mode == "F"


def _to_8_bits(wide: np.ndarray, pixel_range: PixelRange) -> np.ndarray:
    """round(255 (v − low) / (high − low)), clipped."""
    if not np.isfinite(wide).all():
        raise ValueError("it holds pixels that are no numbers (NaN or infinite)")
    low, high = pixel_range
    narrow = np.empty(wide.shape, np.uint8)
    rows = max(1, 2**20 // wide.shape[1])  # a part at a time, for eight bytes a pixel are many
    for start in range(0, len(wide), rows):
        values = np.clip(wide[start : start + rows].astype(np.float64), low, high)
        narrow[start : start + rows] = np.rint((values - low) * (255 / (high - low)))
    return narrow


def wide_values(file: ImageFile, max_megapixels: float) -> tuple[np.ndarray, bool] | None:
    """The pixels of a file of more than 8 bits as they are stored; None of another one.

    Args:
      file: as in `decode`.
      max_megapixels: as in `Decoding`.

    Returns:
      The values, and whether they are those of colours: Pillow gives the upper 8 of their 16 bits,
      and so do the values here.

    Raises:
      Exception: of any type, where it cannot be decoded.
    """
    with _open(file) as image:
        # The format of the bytes in the file, such as "RGB;16B".
        colours = not _is_wide(image) and any(";16" in str(tile[3]) for tile in image.tile)
        if not colours and not _is_wide(image):
            return None
        _check_pixels(image, max_megapixels)
        return np.asarray(image), colours


def all_grey(files: Iterable[ImageFile]) -> bool:
    """Whether every image that can be read is greyscale, as its header says.

    Colour is what the file format calls so: a picture of grey things in an RGB file counts as
    colour. The first colour image ends the reading; greyscale ones are all looked at, since a
    sample of them could lose the colours of those left out. False where none can be read.
    """
    known, patience = False, Patience()
    for file in files:
        grey = patience.read(_is_grey, file)
        if grey is False:
            return False
        known = known or grey is not None
    return known


def _is_grey(file: ImageFile) -> bool | None:
    """Of one file; None where it cannot be read."""
    try:
        with _open(file) as image:
            return Image.getmodebase(image.mode) == "L" or _has_grey_palette(image)
    except Exception as error:  # as in decode, which reports it
        raise_if_away(error, file)
        return None


def _has_grey_palette(image: Image.Image) -> bool:
    """Of a PNG or GIF; palettes of other formats may be packed otherwise, and count as colour."""
    palette = image.palette
    if image.mode != "P" or palette is None or (palette.mode, palette.rawmode) != ("RGB", None):
        return False
    red, green, blue = (bytes(palette.palette[channel::3]) for channel in range(3))
    return red == green == blue


def common_size(files: Iterable[ImageFile], where: str) -> tuple[int, int]:
    """The (height, width) that all images share, read from their headers.

    Files that cannot be read are passed over: they are reported when they are decoded.

    Raises:
      MixedSizesError: where the sizes differ, naming those found and a size that would do.
      ValueError: where no file can be read.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    problem, patience = "", Patience()
    for file in files:
        found = patience.read(_header_size, file)
        if isinstance(found, tuple):
            sizes[found] += 1
        else:
            problem = problem or found
        # A few are enough to show a user that sizes differ; a large folder is not read to its end.
        if len(sizes) > 1 and sizes.total() >= 1000:
            break
    if not sizes:
        raise ValueError(f"no image in {where} can be read: {problem}")
    if len(sizes) > 1:
        shown = ", ".join(f"{w}x{h} ({count})" for (h, w), count in sizes.most_common(5))
        more = f" and {len(sizes) - 5} other sizes" if len(sizes) > 5 else ""
        suggested = _suggested_size(sizes)
        raise MixedSizesError(
            "image_size",
            None,
            f"must be a number, such as {suggested}, since the images in {where} differ in size: "
            f"{shown}{more}, width x height (count). Each is then scaled until it covers a square "
            "of that side, and cropped",
            suggested,
        )
    return next(iter(sizes))


def _suggested_size(sizes: Counter[tuple[int, int]]) -> int:
    """The largest usual size that at least half of the images have on their shorter side."""
    median = int(np.median([min(size) for size in sizes.elements()]))
    return max((size for size in _USUAL_SIZES if size <= median), default=median)


def _header_size(file: ImageFile) -> tuple[int, int] | str:
    """Its (height, width), or what is wrong with it."""
    try:
        with _open(file) as image:
            width, height = image.size
            # Asking a PNG for EXIF that it does not announce would decode all of it.
            turned = "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    except Exception as error:  # as in decode
        raise_if_away(error, file)
        return str(error)
    return (width, height) if turned else (height, width)
