"""Every method trained as a run: what it keeps, resumed bit by bit, on eight devices as on one."""

import dataclasses
import shutil
from functools import partial

import jax
import numpy as np
import pytest

from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.data.batches import open_batches
from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs import load_encoder, pretrain
from alphacl_jax.runs.run import open_run
from alphacl_jax.runs.settings import (
    AugmentationSettings,
    ContrastiveSettings,
    DirectCLRSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    QueueSettings,
    RunSettings,
    SiameseSettings,
    SupervisedSettings,
)
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.records import read_records
from tests.tiny_runs import TEST_IMAGES, TRAIN_IMAGES, assert_same_end, last_state

LABELS = np.arange(len(TRAIN_IMAGES)) % 2
TINY = RunSettings(
    model=ModelSettings(widths=(4,), projector_hidden=8, projector_dim=4),
    # Adam's steps would make numbers of what rounding leaves where a gradient is 0.
    optimizer=OptimizerSettings(
        batch_size=8, epochs=2, warmup_epochs=0, optimizer="sgd", learning_rate=0.05
    ),
    evaluation=EvaluationSettings(log_every=1, save_every=2),
)
METHODS = {
    "supervised": {
        "method": SupervisedSettings(),
        "augmentation": AugmentationSettings(views="2+1"),
    },
    "directpred": {"method": SiameseSettings(predictor="directpred")},
    "byol": {
        "method": SiameseSettings(
            predictor_hidden=8, predictor_rate=3, predictor_constant_rate=True
        )
    },
    "queue": {"method": QueueSettings(queue_size=32, loss="info_nce")},
    "directclr": {
        "method": DirectCLRSettings(subvector=2),
        "model": ModelSettings(widths=(4,)),
    },
    # In chunks, by a network without statistics.
    "micro_batch": {
        "method": ContrastiveSettings(loss="info_nce"),
        "model": dataclasses.replace(TINY.model, encoder_norm="group", projector_norm="none"),
        "optimizer": dataclasses.replace(TINY.optimizer, batch_size=16, micro_batch=8, epochs=6),
    },
}
# Together these have everything that a method carries from step to step.
FAST = ("supervised", "directpred", "micro_batch")


def settings_of(name):
    return dataclasses.replace(TINY, **METHODS[name])


def train(name, workdir, **options):
    return pretrain(TRAIN_IMAGES, settings_of(name), labels=LABELS, workdir=workdir, **options)


names = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in METHODS],
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder and the encoder of a run from its start to its end, by method."""
    made = {}

    def run(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "run"
            made[name] = folder, train(name, folder)
        return made[name]

    return run


@names
def test_a_run_goes_on_bitwise_where_it_was_stopped(whole, tmp_path, name):
    folder, encoder = whole(name)
    assert encoder.step == 6
    shutil.copytree(folder, tmp_path / "run")
    for step in (4, 6):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / str(step))
    again = train(name, tmp_path / "run")
    assert again.step == 6
    assert_same_end(folder, tmp_path / "run")
    records = [read_records(of / "metrics.jsonl") for of in (folder, tmp_path / "run")]
    for one, other in zip(*records, strict=True):
        assert {k: v for k, v in one.items() if k != "images_per_second"} == {
            k: v for k, v in other.items() if k != "images_per_second"
        }


@names
def test_the_encoder_of_a_run_can_be_loaded(whole, name):
    folder, encoder = whole(name)
    loaded = load_encoder(folder)
    np.testing.assert_array_equal(loaded(TEST_IMAGES), encoder(TEST_IMAGES))
    z = loaded.embed(TEST_IMAGES)
    assert z.shape == (len(TEST_IMAGES), 2 if name == "directclr" else 4)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1.0, rtol=1e-5)


@names
def test_eight_devices_compute_what_one_computes(whole, tmp_path, name):
    folder, _ = whole(name)
    train(name, tmp_path / "run", mesh=data_mesh(jax.devices()))
    one, eight = last_state(folder), last_state(tmp_path / "run")
    close = partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4)
    jax.tree.map(close, one.params, eight.params)
    jax.tree.map(close, one.method_state, eight.method_state)


REFUSED = {
    "method=supervised reads labels, and the training images of arrays have none": {
        "method": SupervisedSettings()
    },
    "labelled=True reads labels, and the training images": {
        "method": ContrastiveSettings(labelled=True)
    },
    "views=1 of each sample was made, and a Siamese network reads 2 or more": {
        "method": SiameseSettings(),
        "augmentation": AugmentationSettings(views="1"),
    },
    "subvector=64 must be between 1 and the number of features, 4": {
        "method": DirectCLRSettings(),
        "model": ModelSettings(widths=(4,)),
    },
    "queue_size=40 must be a multiple of 16": {"method": QueueSettings(queue_size=40)},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_trained_is_refused_before_there_is_a_folder(tmp_path, message):
    settings = dataclasses.replace(TINY, **REFUSED[message])
    with pytest.raises(ArgumentError, match=f"^{message}"):
        pretrain(TRAIN_IMAGES, settings, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_devices_share_a_part_of_a_batch_evenly(tmp_path):
    settings = dataclasses.replace(TINY, optimizer=OptimizerSettings(batch_size=24, micro_batch=8))
    with pytest.raises(ArgumentError, match=r"^micro_batch=8 must be a multiple of 3"):
        pretrain(TRAIN_IMAGES, settings, mesh=data_mesh(jax.devices()[:3]), workdir=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_some_labels_may_be_unknown():
    settings = settings_of("supervised")
    run = open_run(settings, data_mesh(), dataset_from_arrays(TRAIN_IMAGES, [-1, *LABELS[1:]]))
    batches = open_batches(run.dataset.pretrain, 24, run.mesh, 0, 2**20)
    assert sorted(np.asarray(next(batches)["labels"])) == sorted([-1, *LABELS[1:]])
