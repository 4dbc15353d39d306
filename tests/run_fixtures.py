"""What the tests of runs share: folders of images, and programs compiled once."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from PIL import Image

from alphacl_jax.runs import pretraining
from alphacl_jax.training import mesh
from tests.tiny_runs import TEST_IMAGES, TRAIN_IMAGES


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory) -> Iterator[None]:
    """Keeps compiled programs on disk, so that runs and processes share them."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    environment = dict(os.environ)
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="session", autouse=True)
def one_device() -> Iterator[None]:
    """Runs of this process use one of its devices: a step compiles in half the time."""
    before = mesh.data_mesh

    def first_device(devices=None):
        return before(devices or jax.devices()[:1])

    mesh.data_mesh = pretraining.data_mesh = first_device
    yield
    mesh.data_mesh = pretraining.data_mesh = before


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory) -> Path:
    """24 training and 8 test images in two classes."""
    root = tmp_path_factory.mktemp("classes")
    for split, images in (("train", TRAIN_IMAGES), ("test", TEST_IMAGES)):
        for i, pixels in enumerate(images):
            folder = root / split / ("bright", "dark")[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return root


@pytest.fixture(scope="session")
def flat_folder(tmp_path_factory) -> Path:
    """The training images without classes."""
    root = tmp_path_factory.mktemp("flat")
    for i, pixels in enumerate(TRAIN_IMAGES):
        Image.fromarray(pixels).save(root / f"{i:02}.png")
    return root
