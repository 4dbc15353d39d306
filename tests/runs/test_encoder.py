"""An encoder leaves its run: the same features, bit for bit, with the data gone."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.cli.pretrain import pretrain as pretrain_by_flags
from alphacl_jax.data import sources
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs import load_encoder, pretrain
from alphacl_jax.runs.evaluation import features_of
from alphacl_jax.runs.folder import OtherDataError, read_settings
from alphacl_jax.runs.settings import (
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    RunSettings,
)
from alphacl_jax.training import mesh
from alphacl_jax.training.loop import NonFiniteLossError
from tests.tiny_runs import TEST_IMAGES, TRAIN_IMAGES, tiny_values

TINY = RunSettings(
    model=ModelSettings(widths=(4,), projector_hidden=8, projector_dim=4),
    optimizer=OptimizerSettings(batch_size=8, epochs=2, warmup_epochs=0),
)


@pytest.fixture(scope="module")
def moved(class_folder, tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A run whose folder was moved and whose data is gone, and the features that it had."""
    root = tmp_path_factory.mktemp("moved")
    shutil.copytree(class_folder, root / "data")
    pretrain_by_flags(
        tiny_values(
            "--dataset=folder",
            f"--data_dir={root}/data",
            f"--workdir={root}/run",
            "--evaluate=none",
        )
    )
    dataset = sources.load("folder", root / "data")
    encoder = load_encoder(root / "run")
    features, _ = features_of(encoder, dataset.test, 2**20)
    images, _ = sources.to_arrays(dataset.test, 2**20)
    shutil.rmtree(root / "data")
    shutil.move(root / "run", root / "elsewhere")
    np.save(root / "images.npy", images)
    return root / "elsewhere", features


def test_features_are_those_of_the_run_bit_for_bit(moved):
    folder, features = moved
    images = np.load(folder.parent / "images.npy")
    encoder = load_encoder(folder)
    again = encoder(images)
    assert again.dtype == np.float32
    assert again.shape == (len(images), 4)
    assert again.tobytes() == features.tobytes()
    # Any number, NumPy or JAX.
    assert encoder(jnp.asarray(images[:1])).tobytes() == features[:1].tobytes()
    many = np.concatenate([images] * 150)
    assert encoder(many).tobytes() == np.concatenate([features] * 150).tobytes()
    assert encoder.class_names == ("bright", "dark")
    assert encoder.step == 6


def test_embeddings_are_unit_vectors_of_the_projector(moved):
    encoder = load_encoder(moved[0])
    images = np.load(moved[0].parent / "images.npy")
    z = encoder.embed(images)
    assert z.shape == (len(images), 4)
    assert encoder.embed(images[:0]).shape == encoder(images[:0]).shape == (0, 4)
    assert repr(encoder) == "Encoder(small by alpha_direct on data, images 8x8x3, step 6)"
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)


def test_module_and_variables_serve_ones_own_flax_code(moved):
    encoder = load_encoder(moved[0])
    images = np.load(moved[0].parent / "images.npy")
    x = encoder.preprocessing.normalize(jnp.asarray(images))
    h = encoder.module.apply(encoder.variables, x, train=False)
    np.testing.assert_allclose(h, encoder(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 1), np.uint8), "channel"),
        (np.zeros((2, 9, 9, 3), np.uint8), "resize=True"),
        (np.zeros((2, 8, 8, 3), np.float32), "uint8"),
        (np.zeros((8, 3), np.uint8), "images"),
    ],
)
def test_wrong_images_are_named(moved, images, message):
    with pytest.raises((ArgumentError, AssertionError), match=message):
        load_encoder(moved[0])(images)


def test_other_sizes_on_request(moved):
    large = np.repeat(np.repeat(np.load(moved[0].parent / "images.npy"), 2, 1), 2, 2)
    assert load_encoder(moved[0])(large, resize=True).shape == (len(large), 4)


def test_no_run_and_a_damaged_description(moved, tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        load_encoder(tmp_path)
    shutil.copytree(moved[0], tmp_path / "run")
    path = tmp_path / "run" / "preprocessing.json"
    path.write_text(json.dumps({"mean": 3}))
    with pytest.raises(RunError, match=r"preprocessing.json cannot be read"):
        load_encoder(tmp_path / "run")
    path.unlink()
    with pytest.raises(RunError, match=r"preprocessing.json is missing"):
        load_encoder(tmp_path / "run")


def test_arrays_in_memory_train_without_a_flag_or_a_folder():
    encoder = pretrain(TRAIN_IMAGES, TINY)
    assert encoder(TEST_IMAGES).shape == (8, 4)
    assert encoder.step == 6


def test_greyscale_arrays_and_a_folder_that_can_be_loaded(tmp_path):
    grey = TRAIN_IMAGES[..., 0]
    encoder = pretrain(grey, TINY, workdir=tmp_path / "run")
    assert encoder.preprocessing.image_shape == (8, 8, 1)
    again = load_encoder(tmp_path / "run")
    assert again(grey).tobytes() == encoder(grey).tobytes()
    # The same call finds nothing left to train.
    assert pretrain(grey, TINY, workdir=tmp_path / "run")(grey).tobytes() == again(grey).tobytes()


def test_a_run_starts_from_anothers_encoder(moved, tmp_path):
    start = dataclasses.replace(
        TINY,
        model=dataclasses.replace(TINY.model, init_from=str(moved[0])),
        optimizer=dataclasses.replace(TINY.optimizer, learning_rate=1e-9),
    )
    images = np.load(moved[0].parent / "images.npy")
    from_other = pretrain(TRAIN_IMAGES, start, workdir=tmp_path / "run")
    source = load_encoder(moved[0])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        from_other.params["encoder"],
        source.params["encoder"],
    )
    assert from_other(images).shape == (len(images), 4)


def test_a_run_starts_from_an_encoder_without_statistics(tmp_path):
    model = dataclasses.replace(TINY.model, encoder_norm="group")
    first = dataclasses.replace(TINY, model=model)
    source = pretrain(TRAIN_IMAGES, first, workdir=tmp_path / "first")
    assert source.variables["batch_stats"] == {}
    start = dataclasses.replace(
        first,
        model=dataclasses.replace(model, init_from=str(tmp_path / "first")),
        optimizer=dataclasses.replace(TINY.optimizer, learning_rate=1e-9),
    )
    again = pretrain(TRAIN_IMAGES, start)
    np.testing.assert_allclose(again(TEST_IMAGES), source(TEST_IMAGES), atol=1e-4)
    other = dataclasses.replace(TINY, model=dataclasses.replace(start.model, encoder_norm="layer"))
    with pytest.raises(ArgumentError, match="encoder_norm is 'group' there and 'layer' here"):
        pretrain(TRAIN_IMAGES, other)


def test_another_architecture_is_refused(moved, tmp_path):
    other = dataclasses.replace(TINY, model=ModelSettings(widths=(5,), init_from=str(moved[0])))
    with pytest.raises(
        ArgumentError, match=r"init_from=.* another encoder: widths is \(4,\) there"
    ):
        pretrain(TRAIN_IMAGES, other, workdir=tmp_path / "run")
    grey = dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, init_from=str(moved[0])))
    with pytest.raises(ArgumentError, match="another encoder: channels is 3 there and 1 here"):
        pretrain(TRAIN_IMAGES[..., 0], grey, workdir=tmp_path / "run")
    nowhere = dataclasses.replace(TINY, model=ModelSettings(init_from=f"{tmp_path}/no"))
    with pytest.raises(ArgumentError, match=r"init_from=.*/no cannot be loaded: .* holds no run"):
        pretrain(TRAIN_IMAGES, nowhere, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_settings_of_other_data_are_refused_where_images_are_given(tmp_path):
    for data in (DataSettings(dataset="cifar10"), DataSettings(image_size=9)):
        with pytest.raises(ArgumentError, match=r"(dataset=cifar10|image_size=9) is set, and imag"):
            pretrain(TRAIN_IMAGES, dataclasses.replace(TINY, data=data), workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_supervised_row_needs_labels_before_anything_is_trained(tmp_path):
    asked = dataclasses.replace(TINY, evaluation=EvaluationSettings(supervised=True))
    with pytest.raises(ArgumentError, match="arrays has no labels and no labelled test images"):
        pretrain(TRAIN_IMAGES, asked, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    unread = EvaluationSettings(evaluate="none", supervised=True)
    with pytest.raises(ArgumentError, match=r"supervised=True is set, and evaluate=none makes no"):
        pretrain(TRAIN_IMAGES, dataclasses.replace(TINY, evaluation=unread))


@pytest.mark.slow
def test_a_learning_rate_that_is_too_large_is_named():
    wild = dataclasses.replace(TINY.optimizer, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(NonFiniteLossError, match="none was saved yet") as error:
        pretrain(TRAIN_IMAGES, dataclasses.replace(TINY, optimizer=wild))
    assert error.value.__notes__ == [
        "Given were learning_rate=1e+30, temperature=0.5, clip_norm=None."
    ]


def test_other_arrays_are_gone_on_with_on_request(tmp_path, capsys):
    pretrain(TRAIN_IMAGES, TINY, workdir=tmp_path / "run")
    longer = dataclasses.replace(TINY, optimizer=dataclasses.replace(TINY.optimizer, epochs=4))
    went_on = pretrain(TRAIN_IMAGES[:16], longer, workdir=tmp_path / "run", allow_changed_data=True)
    assert "goes on with other images (images 24 then, 16 now)" in capsys.readouterr().err
    assert went_on.step == 8
    assert went_on.description.data_changes == ("images 24 then, 16 now",)


@pytest.mark.slow
def test_epochs_may_be_raised(tmp_path, capsys):
    pretrain(TRAIN_IMAGES, TINY, workdir=tmp_path / "run")
    longer = dataclasses.replace(TINY, optimizer=dataclasses.replace(TINY.optimizer, epochs=3))
    assert pretrain(TRAIN_IMAGES, longer, workdir=tmp_path / "run").step == 9
    assert "is raised from 2 to 3 epochs" in capsys.readouterr().err
    # Once trained, the same call says so, and other images are refused before anything changes.
    assert pretrain(TRAIN_IMAGES, longer, workdir=tmp_path / "run").step == 9
    assert "trained already, to step 9" in capsys.readouterr().err
    longest = dataclasses.replace(TINY, optimizer=dataclasses.replace(TINY.optimizer, epochs=4))
    for images, change in (
        (TRAIN_IMAGES[:20], "images 24 then, 20 now"),
        (TRAIN_IMAGES[::-1], "as many images, but not the same ones"),
        (TRAIN_IMAGES.reshape(24, 4, 16, 3), r"image shape \(8, 8, 3\) then, \(4, 16, 3\) now"),
        (TRAIN_IMAGES[..., 0], r"image shape \(8, 8, 3\) then, \(8, 8, 1\) now"),
    ):
        with pytest.raises(OtherDataError, match=f"trained on other images: {change}"):
            pretrain(images, longest, workdir=tmp_path / "run")
    assert read_settings(tmp_path / "run").optimizer.epochs == 3


@pytest.mark.slow
def test_one_device_is_handed_not_fetched():
    devices = mesh.data_mesh(jax.devices()[:2])
    encoder = pretrain(TRAIN_IMAGES, TINY, mesh=devices)
    assert encoder(TEST_IMAGES).shape == (8, 4)
