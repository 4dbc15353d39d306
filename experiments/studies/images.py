"""The images of a study, in memory."""

import dataclasses

import numpy as np

from alphacl_jax.data import sources
from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs.settings import DataSettings

_QUICK_IMAGES, _QUICK_TESTS = 256, 100  # training and test images of --quick


def in_memory(data: DataSettings, wanted: int | None, quick: bool) -> sources.Dataset:
    """The data set, decoded, of as many training images as are wanted."""
    found = sources.load(data.dataset, data.data_dir, data.image_size, decoding=data.decoding)
    if found.train is None or found.test is None:
        missing = "labels" if found.train is None else "labelled test images"
        raise RunError(
            f"a study needs labelled training and test images, and {found.title} has no {missing}"
        )
    (images, labels), (test_images, test_labels) = (
        sources.to_arrays(split, data.memory_limit_mb * 2**20)
        for split in (found.train, found.test)
    )
    if quick and wanted is None:
        wanted = min(_QUICK_IMAGES, len(images))
    if wanted is not None:
        if wanted > len(images):
            raise ArgumentError(
                "num_images", wanted, f"is more than {found.title} has, {len(images):,}"
            )
        chosen = _drawn(len(images), wanted)
        images, labels = images[chosen], labels[chosen]
    if quick:
        chosen = _drawn(len(test_images), min(_QUICK_TESTS, len(test_images)))
        test_images, test_labels = test_images[chosen], test_labels[chosen]
    # The name chooses the augmentation, and the title is for people.
    dataset = dataset_from_arrays(
        images, labels, test_images, test_labels, found.class_names, found.name
    )
    return dataclasses.replace(dataset, title=found.title)


def _drawn(count: int, wanted: int) -> np.ndarray:
    """Positions of some of `count` images, always the same ones: folders lie class by class."""
    return np.sort(np.random.default_rng(0).permutation(count)[:wanted])


def arrays_of(split: sources.Split | None) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a part of a data set in memory."""
    assert split is not None
    assert isinstance(split.source, sources.ArraySource)
    return split.source.images, split.source.labels


def pixels_of(split: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Raw pixels as features, in [0, 1], with their labels."""
    images, labels = split
    return images.reshape(len(images), -1).astype(np.float32) / 255, labels
