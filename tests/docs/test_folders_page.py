"""The page on folders names what the code reads: every format, every name of a part, the limit."""

import re

import pytest
from PIL import Image

from alphacl_jax.data import images, parts
from alphacl_jax.data.decoding import MAX_MEGAPIXELS
from tests.docs.documents import text_of

PAGE = text_of("docs/folders.md")
KINDS = PAGE[PAGE.index("| format |") : PAGE.index("| not read |")]


@pytest.mark.parametrize("name", images._FORMATS)
def test_each_format_is_named(name):
    title = {"JPEG2000": "JPEG 2000", "WEBP": "WebP", "DIB": "`.dib`"}.get(name, name)
    assert re.search(rf"(?<!\w){re.escape(title)}(?!\w)", KINDS)


def test_the_endings_named_are_those_that_are_tried():
    named = set(re.findall(r"`(\.\w+)`", KINDS))
    known = images.suffixes() | {".avif"}  # where Pillow was built with it
    assert named <= known
    common = {"JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "QOI"}
    assert {s for s, kind in Image.registered_extensions().items() if kind in common} <= named


def test_each_name_of_a_part_is_named():
    cells = PAGE[PAGE.index("| part | names |") :].split("\n\n")[0].replace("held_out", "heldout")
    for name in (*parts.TRAIN, *parts.HELD_OUT):
        assert re.search(rf"(?<!\w){name}(?!\w)", cells)


def test_the_limit_is_the_default():
    assert f"more than {MAX_MEGAPIXELS:g} million pixels (`--max_megapixels`)" in PAGE
