"""What no image may do: start other programs, keep the reader waiting, or fill memory."""

import io
import os
import socket
import struct
import subprocess
import zlib

import pytest
from PIL import Image

from alphacl_jax.data import images
from alphacl_jax.data.decoding import Decoding
from tests.data.test_images import file_of

_EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 4 4
%%EndComments
"""
_EMF = b"\1\0\0\0" + b"\0" * 36 + b" EMF" + b"\0" * 60
_WMF = b"\xd7\xcd\xc6\x9a\0\0" + b"\0\0\0\0\4\0\4\0" + b"\x48\0" + b"\0" * 40


@pytest.mark.parametrize("content", [_EPS, _EMF, _WMF], ids=["eps", "emf", "wmf"])
@pytest.mark.parametrize("ending", [".png", ".eps"])
def test_no_other_program_sees_a_file_whatever_it_is_called(tmp_path, monkeypatch, content, ending):
    path = tmp_path / f"image{ending}"
    path.write_bytes(content)
    started = []
    for name in ("check_call", "Popen", "call", "run"):
        monkeypatch.setattr(subprocess, name, lambda *a, **k: started.append(a))
    with pytest.raises(images.UnreadableImage, match="cannot identify"):
        images.decode(str(path), (4, 4, 3), "image")
    assert not images.all_grey([str(path)])
    with pytest.raises(ValueError, match="no image in here"):
        images.common_size([str(path)], "here")
    assert not started


@pytest.mark.parametrize("kind", ["named pipe", "socket", "device", "folder"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = tmp_path / "image.png"
    if kind == "named pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(images.UnreadableImage, match=rf"x \(it is a {kind}, not a file\)"):
        images.decode(str(path), (4, 4, 3), "x")
    assert not images.all_grey([str(path)])
    with pytest.raises(ValueError, match=f"it is a {kind}"):
        images.common_size([str(path)], "here")


def test_the_number_of_pixels_has_a_limit():
    file = file_of(Image.new("1", (1500, 1000)), "PNG")
    assert images.decode(file, (2, 2, 1), "x", Decoding(max_megapixels=1.5)).shape == (2, 2, 1)
    too_large = r"x \(1500x1000 are 1\.5 megapixels, more than max_megapixels=1\.4 allows\)"
    with pytest.raises(images.UnreadableImage, match=too_large):
        images.decode(file, (2, 2, 1), "x", Decoding(max_megapixels=1.4))
    vast = io.BytesIO(b"P4 9000 9000\n")  # below what Pillow warns of
    with pytest.raises(images.UnreadableImage, match="are 81 megapixels, more than max_megapixels"):
        images.decode(vast, (2, 2, 1), "x")


def _tiff_of_one_tile(size: int, side: int) -> io.BytesIO:
    """A TIFF of size x size whose only tile, compressed, has side x side: an uint8 each."""
    tile = zlib.compress(bytes(side * side))
    tags = {256: size, 257: size, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 0}
    tags[325] = len(tile)
    tags[324] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return io.BytesIO(header + entries + bytes(4) + tile)


def test_the_tiles_of_a_small_image_have_the_same_limit():
    file = _tiff_of_one_tile(8, 1600)
    assert images.decode(file, (2, 2, 1), "x", Decoding(max_megapixels=3)).shape == (2, 2, 1)
    assert images.decode(_tiff_of_one_tile(8, 16), (2, 2, 1), "x").shape == (2, 2, 1)
    too_large = (
        r"x \(its tiles of 1600x1600 are 2\.56 megapixels, more than max_megapixels=1 allows\)"
    )
    with pytest.raises(images.UnreadableImage, match=too_large):
        images.decode(file, (2, 2, 1), "x", Decoding(max_megapixels=1))


def test_a_format_that_holds_images_of_any_size_is_not_opened():
    inside = file_of(Image.new("L", (1500, 1000)), "JPEG").getvalue()
    header = b"BLP1" + struct.pack("<iIIIii", 0, 0, 8, 8, 5, 1)
    where = len(header) + 2 * 16 * 4 + 4
    header += struct.pack("<16I", where, *[0] * 15) + struct.pack("<16I", len(inside), *[0] * 15)
    file = io.BytesIO(header + bytes(4) + inside)
    assert Image.open(file).size == (8, 8)
    file.seek(0)
    with pytest.raises(images.UnreadableImage, match="cannot identify"):
        images.decode(file, (2, 2, 1), "x")


@pytest.mark.parametrize("limit", [0, -1, 179, float("nan")])
def test_a_limit_that_is_none(limit):
    with pytest.raises(ValueError, match=r"^max_megapixels=.* must be above 0 and at most 178"):
        Decoding(max_megapixels=limit)
