"""A data set of images in memory, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.data import sources
from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.errors import ArgumentError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 6, 3), np.uint8)
LABELS = np.arange(12) % 3
LIMIT = 10**6


def test_images_labels_and_a_test_part():
    data = dataset_from_arrays(IMAGES, LABELS, IMAGES[:4], LABELS[:4], ["a", "b", "c"], "mine")
    assert (data.name, data.title, data.class_names) == ("mine", "mine", ("a", "b", "c"))
    assert data.image_shape == (5, 6, 3)
    assert data.pretrain is data.train
    pixels, labels = sources.to_arrays(data.train, LIMIT)
    np.testing.assert_array_equal(pixels, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert labels.dtype == np.int32
    assert len(data.test.source) == 4
    np.testing.assert_allclose(data.mean, IMAGES.reshape(-1, 3).mean(0) / 255)
    np.testing.assert_allclose(data.std, IMAGES.reshape(-1, 3).std(0) / 255)


def test_images_alone_and_greyscale_ones_of_jax():
    data = dataset_from_arrays(jnp.asarray(IMAGES[..., 0]))
    assert data.image_shape == (5, 6, 1)
    assert (data.train, data.test, data.class_names) == (None, None, ())
    assert not data.pretrain.labelled
    pixels, labels = sources.to_arrays(data.pretrain, LIMIT)
    np.testing.assert_array_equal(pixels, IMAGES[..., :1])
    assert labels.tolist() == [-1] * 12


def test_classes_are_called_by_their_numbers_and_may_be_unknown():
    assert dataset_from_arrays(IMAGES, LABELS.astype(np.uint8)).class_names == ("0", "1", "2")
    partly = np.where(np.arange(12) < 6, LABELS, -1)
    data = dataset_from_arrays(IMAGES, partly)
    assert not data.pretrain.labelled
    assert data.train.labelled
    np.testing.assert_array_equal(sources.to_arrays(data.pretrain, LIMIT)[1], partly)
    np.testing.assert_array_equal(data.train.source.images, IMAGES[:6])
    np.testing.assert_array_equal(data.train.source.labels, LABELS[:6])


def test_the_shape_of_an_encoder():
    data = dataset_from_arrays(IMAGES, LABELS, IMAGES, LABELS, image_shape=(4, 4, 1))
    assert data.image_shape == (4, 4, 1)
    assert data.test.source[0]["image"].shape == (4, 4, 1)


@pytest.mark.parametrize(
    ("arguments", "argument", "message"),
    [
        ({"images": IMAGES / 255}, "images", r"float64\[12, 5, 6, 3\] must be uint8 .*np\.round"),
        ({"images": IMAGES.astype(int)}, "images", r"int64\[12, 5, 6, 3\] must be uint8 with"),
        ({"images": IMAGES[0, 0]}, "images", r"must be \[n, height, width, channels\]"),
        ({"images": IMAGES[:, :0]}, "images", r"uint8\[12, 0, 6, 3\] must be \[n, height"),
        ({"images": IMAGES[:0]}, "images", "holds no image"),
        ({"images": IMAGES[..., :2]}, "images", r"must have 1 or 3 channels on its last axis$"),
        ({"images": np.moveaxis(IMAGES, 3, 1)}, "images", r"3, 5, 6\] .*moveaxis\(images, 1, -1\)"),
        ({"labels": LABELS / 1}, "labels", r"float64\[12\] must be integers \[12\]"),
        ({"labels": LABELS[:5]}, "labels", r"int64\[5\] must be integers \[12\], one for each"),
        ({"labels": LABELS * 4}, "labels", r"hold 8 but not 1: .*return_inverse=True"),
        ({"labels": LABELS - 2}, "labels", r"hold -2, and must lie between -1 and 0"),
        ({"labels": LABELS * 0}, "labels", "fewer than two classes"),
        ({"labels": LABELS * 0 - 1}, "labels", "fewer than two classes"),
        ({"class_names": ["a", "b"]}, "labels", "hold 2, and must lie between -1 and 1: .* 2 cl"),
        ({"labels": LABELS + 2**32, "class_names": "abc"}, "labels", "hold 4294967296"),
        ({"labels": None, "class_names": "abc"}, "labels", "None must be given with"),
        ({"test_images": IMAGES}, "test_labels", "None must be given"),
        ({"test_labels": LABELS}, "test_images", "None must be given"),
        ({"test_images": IMAGES, "test_labels": LABELS + 1}, "test_labels", "hold 3, .* 0 and 2"),
        ({"test_images": IMAGES, "test_labels": LABELS - 1}, "test_labels", "hold -1, .* 0 and 2"),
        (
            {"test_images": IMAGES[:, 1:], "test_labels": LABELS},
            "test_images",
            r"uint8\[12, 4, 6, 3\] must have the shape of images=uint8\[12, 5, 6, 3\]",
        ),
    ],
)
def test_what_is_wrong_is_said(arguments, argument, message):
    with pytest.raises(ArgumentError, match=message) as error:
        dataset_from_arrays(**{"images": IMAGES, "labels": LABELS, **arguments})
    assert error.value.argument == argument
