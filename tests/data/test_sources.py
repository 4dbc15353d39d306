"""The embedded digits, decoding of whole splits, and names."""

import subprocess
import sys

import numpy as np
import pytest

from alphacl_jax.data import reading, sources
from alphacl_jax.data.images import UnreadableImage
from alphacl_jax.errors import ArgumentError


@pytest.fixture(scope="module")
def digits() -> sources.Dataset:
    return sources.load("digits")


def test_digits_are_split_by_class_always_the_same(digits):
    train, train_labels = sources.to_arrays(digits.train, 10**6)
    test, test_labels = sources.to_arrays(digits.test, 10**6)
    assert train.shape == (1297, 8, 8, 1)
    assert test.shape == (500, 8, 8, 1)
    assert train.dtype == np.uint8
    assert (train.min(), train.max()) == (0, 255)
    share = np.bincount(test_labels) / np.bincount(np.concatenate([train_labels, test_labels]))
    np.testing.assert_allclose(share, 500 / 1797, atol=0.005)
    assert not {x.tobytes() for x in train} & {x.tobytes() for x in test}
    # Published results hold for one split: its first labels, and the sum of its pixels.
    assert test_labels[:8].tolist() == [0, 1, 4, 5, 8, 5, 6, 5]
    assert int(test.sum(dtype=np.int64)) == 2492007


def test_digits_colours_are_those_of_the_training_images(digits):
    train, _ = sources.to_arrays(digits.train, 10**6)
    np.testing.assert_allclose(digits.mean, train.mean() / 255)
    np.testing.assert_allclose(digits.std, train.std() / 255)


def test_digits_can_be_scaled():
    data = sources.load("digits", image_size=16)
    assert data.image_shape == (16, 16, 1)
    assert data.test.source[0]["image"].shape == (16, 16, 1)


def test_image_size_below_one():
    with pytest.raises(ValueError, match="image_size=0 must be at least 1"):
        sources.load("digits", image_size=0)


def test_digits_take_the_shape_of_an_encoder(digits):
    data = sources.load("digits", image_shape=(10, 12, 3))
    assert data.image_shape == (10, 12, 3)
    assert data.title == "digits"
    image = data.train.source[0]["image"]
    np.testing.assert_array_equal(image, np.repeat(image[..., :1], 3, axis=2))
    same = sources.load("digits", image_shape=digits.image_shape)
    np.testing.assert_array_equal(same.test.source.images, digits.test.source.images)
    assert sources.load("digits", image_shape=(8, 8, None)).image_shape == (8, 8, 1)


@pytest.mark.parametrize("shape", [(0, 8, 1), (8, 8, 2), (8, 8)])
def test_an_image_shape_that_is_none(shape):
    with pytest.raises(ArgumentError, match=r"image_shape=\(.* must be a height and a width"):
        sources.load("digits", image_shape=shape)


def test_a_size_and_a_shape_together():
    with pytest.raises(ArgumentError, match=r"image_size=8 cannot be given with image_shape="):
        sources.load("digits", image_size=8, image_shape=(8, 8, 1))


def test_memory_limit(digits):
    needed = 500 * 64
    assert sources.fits_in_memory(digits.test, needed)
    assert not sources.fits_in_memory(digits.test, needed - 1)
    with pytest.raises(ValueError, match="32,000 bytes, more than the 31,999 allowed"):
        sources.to_arrays(digits.test, needed - 1)


class _CountingSource:
    """Images whose every seventh is damaged."""

    image_shape = (2, 2, 1)
    names = tuple(map(str, range(70)))

    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return 70

    def __getitem__(self, index):
        self.reads += 1
        if index % 7 == 0:
            raise UnreadableImage(f"image {index} (broken)")
        return {"image": np.full((2, 2, 1), index, np.uint8), "label": index}


def test_a_split_is_decoded_once_in_order_without_the_damaged(caplog):
    split = sources.Split(_CountingSource(), labelled=True)
    pixels, labels = sources.to_arrays(split, 1000)
    again, _ = sources.to_arrays(split, 1000)
    expected = [i for i in range(70) if i % 7]
    assert labels.tolist() == expected
    assert pixels[:, 0, 0, 0].tolist() == expected
    assert again is pixels
    assert split.source.reads == 70
    assert not pixels.flags.writeable
    (record,) = caplog.records
    assert "10 of 70 images cannot be read: image 0 (broken); " in record.getMessage()
    assert record.getMessage().endswith("image 63 (broken). They are left out")


def test_images_without_names(digits):
    ((_, labels, names), *_) = sources.in_order_named(digits.test, 7, 10**6)
    assert len(labels) == 7
    assert names is None


def test_in_order_goes_on_where_a_whole_chunk_is_damaged(caplog):
    split = sources.Split(_CountingSource(), labelled=True)
    chunks = list(sources.in_order(split, 1, max_bytes=0))
    assert [int(labels[0]) for _, labels in chunks] == [i for i in range(70) if i % 7]
    (record,) = caplog.records
    assert record.getMessage().startswith("10 of 70 images cannot be read: ")


def test_a_subset_of_what_can_be_read_kept_and_streamed():
    for limit in (1000, 0):
        split = sources.Split(_CountingSource(), labelled=True)
        labels, positions = reading.labels_of(split, limit)
        assert labels.tolist() == positions.tolist() == [i for i in range(70) if i % 7]
        subset = reading.subset_of(split, positions[[0, 7, 12]], limit)
        assert len(subset.source) == 3
        assert subset.source.image_shape == (2, 2, 1)
        pixels, found = sources.to_arrays(subset, 1000)
        assert found.tolist() == pixels[:, 0, 0, 0].tolist() == [1, 9, 15]
    assert reading.subset_of(split, positions, 1000) is split
    assert reading.Subset(split.source, np.array([1, 9])).names == ["1", "9"]


def test_subsets_are_told_apart_by_their_images(digits):
    source = digits.test.source
    fingerprints = {
        reading.Subset(of, np.array(positions)).fingerprint()
        for of in (source, digits.train.source)
        for positions in ([0, 1], [0, 2], [0, 1, 2])
    }
    assert len(fingerprints) == 6
    assert reading.Subset(source, np.array([3])).names is None


def test_in_order_of_kept_and_of_streamed_images_is_the_same():
    images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2, 1)
    split = sources.Split(sources.ArraySource(images, np.arange(5, dtype=np.int32)), labelled=True)
    kept, streamed = (list(sources.in_order(split, 2, limit)) for limit in (1000, 0))
    assert [len(labels) for _, labels in kept] == [2, 2, 1]
    for (a, b), (c, d) in zip(kept, streamed, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)


def test_colours_are_the_mean_and_deviation_of_each_channel():
    images = np.random.default_rng(0).integers(0, 256, (130, 3, 4, 3)).astype(np.uint8)
    mean, std = reading.mean_and_std(sources.ArraySource(images, np.zeros(130, np.int32)))
    values = images.reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, values.std(axis=0), rtol=1e-12)


def test_digits_read_no_folder(tmp_path):
    with pytest.raises(ValueError, match=f"data_dir={tmp_path} .*'digits' reads no data_dir"):
        sources.load("digits", tmp_path)


def test_a_channel_without_contrast_has_a_deviation_above_zero():
    flat = sources.ArraySource(np.full((4, 2, 2, 3), 51, np.uint8), np.zeros(4, np.int32))
    mean, std = reading.mean_and_std(flat)
    np.testing.assert_allclose(mean, 0.2)
    assert min(std) > 0


def test_cifar100_has_colours_of_its_own():
    assert sources._COLOURS["cifar10"] != sources._COLOURS["cifar100"]


@pytest.mark.parametrize("name", ["cifr10", "not a name"])
def test_unknown_names(name, tmp_path):
    with pytest.raises(
        ValueError, match=rf"dataset={name} is not known.*Known are digits"
    ) as error:
        sources.load(name, tmp_path)
    assert ("Did you mean cifar10" in str(error.value)) == (name == "cifr10")


def test_importing_costs_no_reader():
    code = (
        "import sys, alphacl_jax.data.sources\n"
        "print([m for m in ('tensorflow_datasets', 'sklearn', 'grain') if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
