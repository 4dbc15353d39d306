"""Preprocessing: what an encoder is given, exact storing, and what it refuses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.data import images as image_files
from alphacl_jax.data import sources, views
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.errors import ArgumentError

COLOUR = Preprocessing((5, 6, 3), (0.1 + 0.2, 1 / 3, 0.5), (0.25, 1 / 7, 0.3))
GREY = Preprocessing((5, 6, 1), (0.4,), (0.2,))
RGB = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)


def test_stored_and_back_every_number_is_the_same():
    back = Preprocessing.from_json(json.loads(json.dumps(COLOUR.to_json())))
    assert back == COLOUR
    assert hash(back) == hash(COLOUR)


def test_that_of_a_data_set_normalises_bit_for_bit_as_a_run_does():
    data = sources.load("digits")
    stored = json.loads(json.dumps(Preprocessing.from_dataset(data).to_json()))
    scans = data.test.source.images[:20]
    got = Preprocessing.from_json(stored).normalize(scans)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, views.normalize(scans, data.mean, data.std))
    np.testing.assert_allclose(got, (scans / 255 - data.mean) / data.std, atol=1e-6)
    without_channel = Preprocessing.from_json(stored).normalize(scans[..., 0])
    np.testing.assert_array_equal(without_channel, got)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_images_of_the_right_shape_are_given_on_as_they_are(kind):
    given = kind(RGB)
    assert COLOUR.prepare(given) is given
    for grey in (kind(RGB[..., 0]), kind(RGB[..., :1])):
        prepared = GREY.prepare(grey)
        assert prepared.shape == (4, 5, 6, 1)
        assert isinstance(prepared, jax.Array) == isinstance(given, jax.Array)
        np.testing.assert_array_equal(prepared, RGB[..., :1])
    assert COLOUR.prepare(given[:0]).shape == (0, 5, 6, 3)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("count", [0, 3])
def test_resizing_is_that_of_files(kind, count):
    large = np.random.default_rng(1).integers(0, 256, (count, 20, 13, 3), np.uint8)
    prepared = COLOUR.prepare(kind(large), resize=True)
    assert prepared.shape == (count, 5, 6, 3)
    for got, image in zip(prepared, large, strict=True):
        np.testing.assert_array_equal(got, image_files.fit(image, (5, 6, 3)))
    grey = GREY.prepare(kind(large[..., 0]), resize=True)
    assert grey.shape == (count, 5, 6, 1)


@pytest.mark.parametrize(
    ("preprocessing", "images", "message"),
    [
        (
            COLOUR,
            RGB[:, 1:],
            r"uint8\[4, 4, 6, 3\] must be 5 pixels high and 6 wide, and is 4 by 6",
        ),
        (COLOUR, RGB[:, :, 1:], r"and is 5 by 5; resize=True scales and crops it"),
        (
            COLOUR,
            RGB[..., 0],
            r"uint8\[4, 5, 6, 1\] must have 3 channels and has 1 channel: np\.re",
        ),
        (COLOUR, RGB[..., :1], r"must have 3 channels and has 1 channel"),
        (GREY, RGB, r"must have 1 channel and has 3 channels: convert them to greyscale"),
        (COLOUR, RGB[0], r"images=\[5, 6, 3\] is one image: give image\[None\]"),
        (GREY, RGB[0, ..., :1], r"images=\[5, 6, 1\] is one image: give image\[None\]"),
        (GREY, RGB[0, ..., 0], r"uint8\[5, 6\] must be \[n, height, width, channels\]"),
        (COLOUR, RGB / 255, r"float64\[4, 5, 6, 3\] must be uint8"),
        (COLOUR, np.moveaxis(RGB, 3, 1), r"np\.moveaxis\(images, 1, -1\)"),
    ],
)
def test_what_an_encoder_cannot_take_is_said(preprocessing, images, message):
    with pytest.raises(ArgumentError, match=message) as error:
        preprocessing.prepare(images)
    assert error.value.argument == "images"


def test_resizing_converts_no_colours():
    with pytest.raises(ArgumentError, match="must have 3 channels and has 1 channel"):
        COLOUR.prepare(RGB[:, 1:, :, :1], resize=True)


def test_colours_belong_to_the_channels():
    with pytest.raises(ArgumentError, match=r"mean=\(0.5,\) must have a number for each channel"):
        Preprocessing((5, 6, 3), (0.5,), (0.2, 0.2, 0.2))
    with pytest.raises(ArgumentError, match=r"std=\(0.0,\) must be above 0"):
        Preprocessing((5, 6, 1), (0.5,), (0.0,))
