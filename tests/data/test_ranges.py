"""Pixels of more than 8 bits: mapped by a range, and said where few levels are left."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alphacl_jax.data import folder, images, ranges, sources
from alphacl_jax.data.decoding import Decoding, parse_pixel_range, shown_range
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.errors import ArgumentError

SHAPE = (4, 4, 1)
TYPES = {"png": np.uint16, "tif": np.uint16, "wide.tif": np.int32, "float.tif": np.float32}


def _save(path: Path, values: np.ndarray, kind: str = "png") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(TYPES[kind])).save(path.with_name(f"{path.name}.{kind}"))


def _ramp(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 16).reshape(4, 4)


def _ramps(root: Path, low: float, high: float, kind: str = "png") -> None:
    for name in ("cat/a", "dog/b"):
        _save(root / name, _ramp(low, high), kind)


def _levels(data: sources.Dataset) -> list[int]:
    return np.unique(sources.to_arrays(data.train, 10**6)[0]).tolist()


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("png", 0, 4095),
        ("tif", 0, 4095),
        ("wide.tif", 0, 255),
        ("wide.tif", -1024, 3071),
        ("float.tif", -0.5, 1.0),
    ],
)
def test_a_range_maps_its_ends_to_0_and_255(tmp_path, kind, low, high, caplog):
    _ramps(tmp_path, low, high, kind)
    decoding = Decoding((low, high))
    data = sources.load("folder", tmp_path, decoding=decoding)
    exact = (np.rint(_ramp(low, high)) if kind != "float.tif" else _ramp(low, high)) - low
    expected = np.rint(exact / (high - low) * 255).astype(np.uint8)
    pixels = sources.to_arrays(data.train, 10**6)[0]
    np.testing.assert_array_max_ulp(pixels[0, ..., 0].astype(float), expected.astype(float), 1)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert len(_levels(data)) == 16
    measured = sources.load("folder", tmp_path, decoding=Decoding("auto"))
    assert measured.pixel_range == pytest.approx((low, high))
    assert _levels(measured) == _levels(data)
    assert "pixel" not in caplog.text


def test_without_a_range_16_bits_are_the_whole_range(tmp_path, caplog):
    _ramps(tmp_path, 0, 65535)
    data = sources.load("folder", tmp_path)
    assert data.pixel_range is None
    assert _levels(data) == [17 * step for step in range(16)]
    assert caplog.text == ""
    values = np.arange(65536).reshape(256, 256)
    _save(tmp_path / "all", values)
    every = images.decode(str(tmp_path / "all.png"), (256, 256, 1), "all")
    np.testing.assert_array_equal(every[..., 0], (values + 128) // 257)


@pytest.mark.parametrize(
    ("kind", "low", "high", "said"),
    [
        ("png", 0, 4095, "from 0 to 4095, and pixel_range=0:65535 maps them to 17 levels of 256. "),
        ("wide.tif", 0, 255, "from 0 to 255, and pixel_range=0:65535 maps them to 2 levels of 256"),
        ("wide.tif", -1024, 3071, "to 13 levels of 256, clipping what lies beyond"),
        ("wide.tif", -9, 65535, "maps them to 256 levels of 256, clipping what lies beyond"),
        ("wide.tif", 0, 10**6, "maps them to 256 levels of 256, clipping what lies beyond"),
    ],
)
def test_lost_levels_are_said_with_what_was_seen(tmp_path, caplog, kind, low, high, said):
    _ramps(tmp_path, low, high, kind)
    sources.load("folder", tmp_path)
    (record,) = caplog.records
    assert said in record.getMessage()
    assert "in 2 files that were looked at" in record.getMessage()
    assert "or pixel_range=auto for that of the training images" in record.getMessage()


@pytest.mark.parametrize(
    ("low", "high", "likely"), [(3, 4000, "0:4095"), (0, 255, "0:255"), (-5, 3071, "-5:3071")]
)
def test_the_range_that_is_offered_is_one_of_whole_bits(tmp_path, caplog, low, high, likely):
    _ramps(tmp_path, low, high, "wide.tif")
    sources.load("folder", tmp_path)
    assert f"such as pixel_range={likely}, or" in caplog.text


@pytest.mark.parametrize(
    ("kind", "low", "high", "likely"),
    [
        ("png", 30000, 33999, (30000, 33999)),
        ("wide.tif", -1024, 3071, (-1024, 3071)),
        ("png", 7, 8, (7, 8)),
        ("png", 7, 7, (7, 8)),
        ("png", 0, 20000, (0, 32767)),
        ("float.tif", 2.28649424e-05, 1.00002286, (0, 1)),
        ("float.tif", 0.125, 0.25, (0.125, 0.25)),
        ("float.tif", 0, 254.7, (0, 255)),
    ],
)
def test_what_is_offered_keeps_the_levels(tmp_path, caplog, kind, low, high, likely):
    _ramps(tmp_path, low, high, kind)
    folder.open_folder(tmp_path)
    (record,) = caplog.records
    assert f"pixel_range={shown_range(likely)}, or pixel_range=auto" in record.getMessage()
    caplog.clear()
    folder.open_folder(tmp_path, decoding=Decoding(likely))
    assert ("maps them to" in caplog.text) == (high == low)


def test_floats_without_a_range_are_not_said_to_be_mapped(tmp_path, caplog):
    _ramps(tmp_path, 0, 1, "float.tif")
    folder.open_folder(tmp_path)
    assert "of 2 files that were looked at are floats, with values from 0 to 1, and" in caplog.text
    assert "cannot be read without a range. Give pixel_range=0:1, or" in caplog.text
    assert "65535" not in caplog.text


def test_a_pgm_says_its_highest_value_itself(tmp_path, caplog):
    values = np.rint(_ramp(0, 4095)).astype(">u2")
    for name in ("a.pgm", "b.pgm"):
        (tmp_path / name).write_bytes(b"P5 4 4 4095\n" + values.tobytes())
    train, _, _ = folder.open_folder(tmp_path)
    np.testing.assert_array_equal(train[0]["image"].ravel(), np.arange(16) * 17)
    assert caplog.text == ""


def _with_a_broken_pixel(root: Path, value: int, broken: tuple[int, int]) -> str:
    """Twelve files with values of 12 bits, one of which has one pixel that is broken."""
    values = np.random.default_rng(0).permutation(4096).reshape(64, 64)
    for name in "abcdefghijkl":
        _save(root / "cat" / name, values)
        _save(root / "dog" / name, values)
    values[broken] = value
    _save(root / "dog" / "k", values)
    return f"{root}/dog/k.png"


def test_one_broken_pixel_hides_no_lost_levels(tmp_path, caplog, monkeypatch):
    file = _with_a_broken_pixel(tmp_path, 65535, (0, 0))
    sources.load("folder", tmp_path)
    (record,) = caplog.records
    assert "values from 4 to 4091, but for a few from 0 to 65535, such as in " in (
        record.getMessage()
    )
    assert f"{file}, and pixel_range=0:65535 maps them to 17 levels of 256. " in record.getMessage()
    assert record.getMessage().endswith("such as pixel_range=0:4095")  # auto would be no better
    caplog.clear()
    monkeypatch.setattr(ranges, "_SAMPLE", 3)  # without the file that spoils the range
    data = sources.load("folder", tmp_path, decoding=Decoding("auto"))
    assert data.pixel_range == (0, 65535)
    (record,) = caplog.records
    assert f"such as in {file}, and pixel_range=0:65535 maps them to 17" in record.getMessage()
    assert record.getMessage().endswith("such as pixel_range=0:4095")
    caplog.clear()
    sources.load("folder", tmp_path, decoding=Decoding((0, 4095)))
    assert caplog.text == ""


def test_a_window_that_clips_a_little_is_chosen_and_other_images_are_told_of(tmp_path, caplog):
    _ramps(tmp_path, 0, 4095)
    sources.load("folder", tmp_path, decoding=Decoding((0, 4000)))
    assert caplog.text == ""
    folder.open_any(tmp_path, SHAPE, Decoding((0, 1023)))
    assert "pixel_range=0:1023 maps them to 256 levels of 256, clipping" in caplog.text


def test_a_range_that_changes_nothing_is_said(tmp_path, caplog):
    for name in ("a.png", "b.png"):
        Image.new("L", (4, 4), 7).save(tmp_path / name)
    sources.load("folder", tmp_path, decoding=Decoding((0, 4095)))
    assert "pixel_range=0:4095 changes nothing of the 2 images" in caplog.text
    with pytest.raises(ArgumentError, match=r"^pixel_range=auto has nothing to measure: no image"):
        sources.load("folder", tmp_path, decoding=Decoding("auto"))
    for name in ("a", "b"):
        _save(tmp_path / name, np.full((4, 4), 9))
    with pytest.raises(ArgumentError, match=r"^pixel_range=auto finds one value only, 9, in"):
        sources.load("folder", tmp_path, decoding=Decoding("auto"))


def test_auto_is_of_the_training_images_alone(tmp_path):
    _ramps(tmp_path / "train", 100, 300)
    _ramps(tmp_path / "test", 0, 400)
    Image.new("L", (4, 4), 255).save(tmp_path / "train" / "cat" / "narrow.png")
    (tmp_path / "train" / "dog" / "damaged.tif").write_bytes(b"II*\0")
    data = sources.load("folder", tmp_path, decoding=Decoding("auto"))
    assert data.pixel_range == (100, 300)
    assert data.test.source.decoding.pixel_range == (100, 300)
    assert data.test.source[0]["image"][..., 0].min() == 0
    assert data.test.source[0]["image"][..., 0].max() == 255
    assert data.train.source[1]["image"].max() == 255  # 8 bits are as they are


def test_float_pixels_need_a_range_and_numbers(tmp_path):
    values = _ramp(0, 1)
    _save(tmp_path / "whole", values, "float.tif")
    values[0, 0] = np.nan
    _save(tmp_path / "hole", values, "float.tif")
    with pytest.raises(images.UnreadableImage, match="no known range: set pixel_range=LOW:HIGH"):
        images.decode(str(tmp_path / "whole.float.tif"), SHAPE, "x")
    with pytest.raises(images.UnreadableImage, match=r"no numbers \(NaN or infinite\)"):
        images.decode(str(tmp_path / "hole.float.tif"), SHAPE, "x", Decoding((0, 1)))
    data = sources.load("folder", tmp_path, decoding=Decoding("auto"))
    assert data.pixel_range == (0, 1)


def _colours_of_16_bits(values: np.ndarray) -> bytes:
    """A PNG of uint16 [height, width, 3], which Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        ends = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(kind + content))
        return ends[0] + kind + content + ends[1]

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("high", [4095, 65535])
def test_colours_of_16_bits_are_read_by_their_upper_8(tmp_path, caplog, high):
    values = np.repeat(np.rint(_ramp(0, high))[..., None], 3, axis=2)
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(_colours_of_16_bits(values))
    data = sources.load("folder", tmp_path)
    np.testing.assert_array_equal(data.pretrain.source[0]["image"], values // 256)
    said = "of 2 files with 16 bits a channel the upper 8 are read, whose values lie between 0 and "
    assert (f"{said}15: at most 16 levels of 256 are left" in caplog.text) == (high == 4095)


def test_an_encoder_keeps_the_range_that_was_measured(tmp_path):
    _ramps(tmp_path, 0, 4095)
    data = sources.load("folder", tmp_path, decoding=Decoding("auto"))
    kept = Preprocessing.from_json(Preprocessing.from_dataset(data).to_json())
    assert kept.pixel_range == (0, 4095)
    _save(tmp_path / "other" / "x", _ramp(0, 2000))
    source = folder.open_files(
        [tmp_path / "other" / "x.png"], kept.image_shape, decoding=kept.decoding
    )
    assert source[0]["image"].max() == round(2000 / 4095 * 255)
    assert folder.open_any(tmp_path / "other", SHAPE, kept.decoding)[0][0]["image"].max() == 125
    assert "low and high of pixel_range, here 0:4095" in str(kept.as_done_to_files())
    assert "greyscale, wide pixels 0:4095; others" in kept.in_words()
    # Runs of before have none.
    stored = kept.to_json()
    del stored["pixel_range"]
    assert Preprocessing.from_json(stored).pixel_range is None


@pytest.mark.parametrize("text", ["0", "a:b", "5:5", "9:1", "0:nan", "0:inf", "1:2:3", "Auto"])
def test_a_text_that_is_no_range(text):
    with pytest.raises(ArgumentError, match=r"^pixel_range=.* such as 0:4095"):
        parse_pixel_range(text)


def test_a_text_is_a_range():
    assert parse_pixel_range("auto") == "auto"
    assert parse_pixel_range("-1024:3071.5") == (-1024, 3071.5)
    assert parse_pixel_range(shown_range((-1024, 3071.5))) == (-1024, 3071.5)
    with pytest.raises(ArgumentError, match="pixel_range=7:7 must be two numbers"):
        Decoding((7, 7))


def test_a_range_may_be_a_text_or_any_two_numbers():
    for given in ("0:4095", [0, 4095], np.array([0, 4095]), (0.0, 4095)):
        kept = Decoding(given).pixel_range
        assert kept == (0, 4095)
        assert all(type(value) is float for value in kept)
    assert Decoding("auto").pixel_range == "auto"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([4095, 0], "pixel_range=4095:0 must be two numbers"),
        ("4095", "pixel_range=4095 must be LOW:HIGH"),
        ((1, 2, 3), "pixel_range=1:2:3 must be two numbers"),
        (4095, "pixel_range=4095 must be two numbers"),
        (("a", "b"), r"pixel_range=\('a', 'b'\) must be two numbers"),
        ((0, None), r"pixel_range=\(0, None\) must be two numbers"),
        (b"0:4095", "must be two numbers"),
        (True, "pixel_range=True must be two numbers"),
    ],
)
def test_what_is_no_range(given, said):
    with pytest.raises(ArgumentError, match=said):
        Decoding(given)


def test_a_range_that_was_not_measured_is_a_mistake():
    file = io.BytesIO()
    Image.new("I;16", (4, 4), 700).save(file, "PNG")
    with pytest.raises(ValueError, match="was not measured"):
        images.decode(file, SHAPE, "x", Decoding("auto"))
