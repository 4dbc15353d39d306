"""Decoding: every pixel format, orientation, cropping, damage."""

import io
import pickle

import numpy as np
import pytest
from PIL import ExifTags, Image

from alphacl_jax.data import images
from alphacl_jax.data.errors import MixedSizesError


def file_of(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return buffer


def _palette_with_transparency() -> io.BytesIO:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 0)
    return file_of(image, "PNG", transparency=1)


def _cmyk(kind: str) -> io.BytesIO:
    return file_of(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), kind)


CASES = {
    "rgb png": (lambda: file_of(Image.new("RGB", (4, 4), (9, 8, 7)), "PNG"), (9, 8, 7)),
    "rgb webp": (lambda: file_of(Image.new("RGB", (4, 4)), "WEBP", lossless=True), (0, 0, 0)),
    "rgb gif": (lambda: file_of(Image.new("RGB", (4, 4), (255, 0, 0)), "GIF"), (255, 0, 0)),
    "grey bmp": (lambda: file_of(Image.new("L", (4, 4), 77), "BMP"), (77, 77, 77)),
    "grey jpeg": (lambda: file_of(Image.new("L", (4, 4), 77), "JPEG"), (77, 77, 77)),
    "one bit": (lambda: file_of(Image.new("1", (4, 4), 1), "PNG"), (255, 255, 255)),
    # 200 of 255 is 200 * 257 of 65535
    "16-bit png": (lambda: file_of(Image.new("I;16", (4, 4), 200 * 257), "PNG"), (200, 200, 200)),
    "16-bit tiff": (lambda: file_of(Image.new("I;16", (4, 4), 90 * 257), "TIFF"), (90, 90, 90)),
    "palette": (lambda: file_of(Image.new("P", (4, 4), 0), "PNG"), (0, 0, 0)),
    "palette, transparent": (_palette_with_transparency, (255, 255, 255)),
    "rgb, one colour transparent": (
        lambda: file_of(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)),
        (255, 255, 255),
    ),
    # half of red over white
    "rgba": (lambda: file_of(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), "PNG"), (255, 127, 127)),
    "grey with alpha": (lambda: file_of(Image.new("LA", (4, 4), (0, 0)), "PNG"), (255, 255, 255)),
    "cmyk jpeg": (lambda: _cmyk("JPEG"), (255, 0, 0)),
    "cmyk tiff": (lambda: _cmyk("TIFF"), (255, 0, 0)),
}


@pytest.mark.parametrize("case", CASES)
def test_pixel_formats_become_rgb(case):
    make, colour = CASES[case]
    pixels = images.decode(make(), (4, 4, 3), case)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (4, 4, 3)
    np.testing.assert_allclose(pixels[2, 2].astype(int), colour, atol=2)


def test_palette_keeps_its_opaque_colour():
    pixels = images.decode(_palette_with_transparency(), (4, 4, 3), "palette")
    assert pixels[0, 0].tolist() == [10, 20, 30]


def test_one_channel_stays_grey():
    ramp = np.arange(16, dtype=np.uint8).reshape(4, 4)
    pixels = images.decode(file_of(Image.fromarray(ramp), "PNG"), (4, 4, 1), "ramp")
    np.testing.assert_array_equal(pixels[..., 0], ramp)


@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, -1), (8, 1)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_orientation_is_applied_to_pixels_and_to_the_size(orientation, turn, kind):
    stored = np.random.default_rng(0).integers(0, 255, (3, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = file_of(Image.fromarray(stored), kind, exif=exif)
    upright = np.rot90(stored, turn)
    assert images.common_size([file], "here") == upright.shape[:2]
    file.seek(0)
    np.testing.assert_array_equal(images.decode(file, upright.shape, "x"), upright)


@pytest.mark.parametrize("at_once", [0, 2**20])
def test_orientation_is_applied_to_an_uncompressed_tiff_on_the_disk(tmp_path, monkeypatch, at_once):
    """Pillow maps such a file into memory, and then forgets to turn it."""
    monkeypatch.setattr(images, "_MOST_AT_ONCE", at_once)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.tiff", exif=exif)
    decoded = images.decode(str(tmp_path / "turned.tiff"), (7, 5, 1), "it")
    np.testing.assert_array_equal(decoded[..., 0], np.rot90(pixels, -1))


@pytest.mark.parametrize("tall", [False, True])
def test_other_sizes_are_scaled_on_the_shorter_side_and_cropped_at_the_centre(tall):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255  # the central square
    stored = wide.swapaxes(0, 1) if tall else wide
    pixels = images.decode(file_of(Image.fromarray(stored), "PNG"), (10, 10, 3), "x")
    assert pixels.shape == (10, 10, 3)
    assert pixels[1:-1, 1:-1].min() == 255


def test_a_large_jpeg_is_reduced_to_its_mean():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    pixels = images.decode(file_of(Image.fromarray(noise), "JPEG", quality=95), (8, 8, 3), "x")
    expected = noise.reshape(8, 32, 8, 32).mean((1, 3))
    np.testing.assert_allclose(pixels[..., 0], expected, atol=12)  # one pixel's deviation is 74


def _truncated() -> io.BytesIO:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    return io.BytesIO(file_of(Image.fromarray(noise), "PNG").getvalue()[:1000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: io.BytesIO(b"no image"), "cannot identify"),
        (lambda: io.BytesIO(b""), "cannot identify"),
        (_truncated, "truncated"),
        (lambda: file_of(Image.new("F", (4, 4), 0.5), "TIFF"), "float pixels"),
    ],
)
def test_damage_is_named(make, reason):
    with pytest.raises(images.UnreadableImage, match=rf"some\.png \(.*{reason}"):
        images.decode(make(), (4, 4, 3), "some.png")


def test_sizes_that_differ_are_listed():
    files = [file_of(Image.new("L", size), "PNG") for size in [(4, 6), (4, 6), (5, 6)]]
    with pytest.raises(MixedSizesError) as error:
        images.common_size(files, "here")
    assert str(error.value) == (
        "image_size=None must be a number, such as 4, since the images in here differ in size: "
        "4x6 (2), 5x6 (1), width x height (count). Each is then scaled until it covers a square of "
        "that side, and cropped"
    )
    # Errors travel between processes.
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
    assert pickle.loads(pickle.dumps(error.value)).suggested == 4


@pytest.mark.parametrize(
    ("sizes", "suggested"),
    [
        ([(70, 90), (71, 300), (20, 20)], 64),  # the median of the shorter sides is 70
        ([(300, 4000), (4000, 3000)], 224),
        ([(32, 40), (40, 32)], 32),
        ([(7, 7), (7, 9)], 7),
        ([(1, 5), (5, 1)], 1),
    ],
)
def test_the_suggested_size_is_a_usual_one_that_half_of_the_images_have(sizes, suggested):
    files = [file_of(Image.new("L", size), "PNG") for size in sizes]
    with pytest.raises(MixedSizesError, match=f"such as {suggested}, ") as error:
        images.common_size(files, "here")
    assert error.value.suggested == suggested


def _palette(kind: str, second: tuple[int, int, int]) -> io.BytesIO:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([9, 9, 9, *second])
    image.putpixel((1, 1), 1)
    return file_of(image, kind)


GREY = {
    "one bit": lambda: file_of(Image.new("1", (4, 4), 1), "PNG"),
    "png": lambda: file_of(Image.new("L", (4, 4), 7), "PNG"),
    "jpeg": lambda: file_of(Image.new("L", (4, 4), 7), "JPEG"),
    "with alpha": lambda: file_of(Image.new("LA", (4, 4), (7, 100)), "PNG"),
    "16-bit png": lambda: file_of(Image.new("I;16", (4, 4), 700), "PNG"),
    "16-bit tiff": lambda: file_of(Image.new("I;16", (4, 4), 700), "TIFF"),
    "palette png": lambda: _palette("PNG", (200, 200, 200)),
    "palette gif": lambda: _palette("GIF", (200, 200, 200)),
}
COLOUR = {
    "rgb of grey": lambda: file_of(Image.new("RGB", (4, 4), (7, 7, 7)), "PNG"),
    "rgba": lambda: file_of(Image.new("RGBA", (4, 4), (7, 7, 7, 7)), "PNG"),
    "cmyk": lambda: file_of(Image.new("CMYK", (4, 4)), "JPEG"),
    "lab": lambda: file_of(Image.new("LAB", (4, 4)), "TIFF"),
    "palette png": lambda: _palette("PNG", (200, 200, 201)),
    "palette gif": lambda: _palette("GIF", (200, 199, 200)),
    "palette tiff": lambda: _palette("TIFF", (200, 199, 200)),
}


@pytest.mark.parametrize("case", GREY)
def test_greyscale_files_are_known_by_their_headers_and_lose_nothing_in_one_channel(case):
    assert images.all_grey([GREY[case](), GREY["png"]()])
    rgb = images.decode(GREY[case](), (4, 4, 3), case)
    one = images.decode(GREY[case](), (4, 4, 1), case)
    np.testing.assert_array_equal(rgb, np.repeat(one, 3, axis=2))


@pytest.mark.parametrize("case", COLOUR)
def test_one_colour_file_makes_a_set_colour(case):
    assert not images.all_grey([COLOUR[case]()])
    assert not images.all_grey([GREY["png"](), GREY["jpeg"](), COLOUR[case]()])


def test_the_first_colour_ends_the_reading_and_damaged_files_decide_nothing():
    def files():
        yield COLOUR["rgba"]()
        raise AssertionError("read on")

    assert not images.all_grey(files())
    assert images.all_grey([io.BytesIO(b"?"), GREY["png"]()])
    assert not images.all_grey([io.BytesIO(b"?")])
    assert not images.all_grey([])


def test_fit_converts_channels_as_decoding_does():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    for stored in (pixels, pixels[..., :1]):
        file = file_of(Image.fromarray(stored.squeeze()), "PNG")
        for shape in ((9, 7, 3), (9, 7, 1), (4, 5, 3), (4, 5, 1)):
            file.seek(0)
            decoded = images.decode(file, shape, "x")
            np.testing.assert_array_equal(images.fit(stored, shape), decoded)


def test_a_damaged_header_is_passed_over_unless_all_are():
    good = file_of(Image.new("L", (4, 6)), "PNG")
    assert images.common_size([io.BytesIO(b"?"), good], "here") == (6, 4)
    with pytest.raises(ValueError, match="no image in here can be read"):
        images.common_size([io.BytesIO(b"?")], "here")


def test_suffixes_are_those_pillow_decodes():
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".bmp", ".gif"} <= images.suffixes()
    assert not {".txt", ".db", ".h5", ".pdf", ".mpg", ""} & images.suffixes()
    assert not {".eps", ".ps", ".wmf", ".emf", ".iim", ".ico", ".icns", ".blp"} & images.suffixes()


def test_links_to_files_are_followed(tmp_path):
    Image.new("L", (4, 4), 9).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert images.decode(str(tmp_path / "b.png"), (4, 4, 1), "b").max() == 9
