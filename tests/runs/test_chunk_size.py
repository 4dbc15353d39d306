"""The chunk that `micro_batch=auto` chooses, and what an image's activations are taken to be."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.data.batches import raw_shapes
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.embedding import project_views
from alphacl_jax.methods.network import Network, flat_views
from alphacl_jax.runs import load_encoder, pretrain
from alphacl_jax.runs.chunk_size import activation_bytes_per_image, with_chosen_chunk
from alphacl_jax.runs.folder import read_settings
from alphacl_jax.runs.networks import make_encoder, make_projector
from alphacl_jax.runs.run import open_run
from alphacl_jax.runs.settings import (
    ContrastiveSettings,
    DirectCLRSettings,
    ModelSettings,
    OptimizerSettings,
    QueueSettings,
    RunSettings,
    SiameseSettings,
    SupervisedSettings,
)
from alphacl_jax.training.mesh import data_mesh
from tests.tiny_runs import TRAIN_IMAGES, assert_same_end

IMAGE = (16, 16, 3)
RAW = raw_shapes(IMAGE, 1)
MODEL = ModelSettings(
    widths=(8, 16),
    projector_hidden=16,
    projector_dim=4,
    encoder_norm="group",
    projector_norm="none",
)
MESHES = {count: data_mesh(jax.devices()[:count]) for count in (1, 8)}


def make_batch(key, raw):
    views = raw["images"][:, None] / 255.0
    return {"views": jnp.concatenate([views, views], axis=1), "labels": raw["labels"]}


def network_of(**more):
    model = dataclasses.replace(MODEL, **more)
    return Network({"encoder": make_encoder(model, IMAGE), "projector": make_projector(model)})


def chosen(megabytes, devices=1, batch_size=512, **more):
    optimizer = OptimizerSettings(
        batch_size=batch_size, micro_batch="auto", activations_mb=megabytes
    )
    settings = RunSettings(model=dataclasses.replace(MODEL, **more), optimizer=optimizer)
    return with_chosen_chunk(settings, make_batch, RAW, devices).optimizer


@pytest.mark.parametrize("devices", [1, 4])
def test_the_largest_chunk_within_the_limit(devices):
    per_image, limit = activation_bytes_per_image(network_of(), make_batch, RAW), 8 * 2**20
    size = chosen(8, devices).micro_batch
    assert 512 % size == 0
    assert size % devices == 0
    assert size // devices * per_image <= limit
    assert 2 * size // devices * per_image > limit  # 512 is a power of 2


def test_devices_share_a_chunk():
    assert chosen(8, devices=4).micro_batch == 4 * chosen(8).micro_batch


def test_a_batch_that_fits_is_embedded_at_once():
    own = chosen(10_000)
    assert own.micro_batch is None
    assert own == OptimizerSettings(batch_size=512)  # what a run's flags then hold


def test_an_image_that_does_not_fit_is_refused_with_what_it_takes():
    message = r"^activations_mb=1 is too little for one image of each device, .* take (\d+) MB"
    with pytest.raises(ArgumentError, match=message) as raised:
        chosen(1, widths=(256, 256))
    needed = int(re.search(message, str(raised.value))[1])
    assert chosen(needed, widths=(256, 256)).micro_batch == 1


def test_a_batch_that_the_devices_cannot_share_is_refused_as_such():
    assert chosen(8, devices=3).micro_batch is None
    optimizer = OptimizerSettings(batch_size=12, micro_batch="auto")
    with pytest.raises(ArgumentError, match="batch of 12 cannot be split evenly over 8 devices"):
        pretrain(TRAIN_IMAGES, RunSettings(model=MODEL, optimizer=optimizer), mesh=MESHES[8])


@pytest.mark.parametrize("chunks", [1, 4])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_the_estimate_is_what_the_compiled_gradient_takes(chunks, norm):
    """Neither less, which would not fit, nor more than twice."""
    network, key = network_of(encoder_norm=norm), jax.random.key(0)

    def taken(size):
        """Bytes of the gradient of a batch that is embedded `size` images at a time."""
        batch = jax.eval_shape(make_batch, key, raw_shapes(IMAGE, chunks * size))
        params, stats = jax.eval_shape(
            network.init, key, jax.eval_shape(flat_views, batch["views"])
        )
        of_chunk = network._replace(micro_batch=size)

        def loss(params, stats, batch):
            return jnp.sum(project_views(of_chunk, params, stats, batch)[0] ** 2)

        program = jax.jit(jax.grad(loss)).lower(params, stats, batch).compile()
        return program.memory_analysis().temp_size_in_bytes

    measured = (taken(64) - taken(32)) / 32
    estimate = activation_bytes_per_image(network, make_batch, RAW)
    assert measured <= estimate <= 2 * measured


@pytest.mark.parametrize(
    "method",
    [
        ContrastiveSettings(),
        SupervisedSettings(),
        DirectCLRSettings(subvector=2),
        QueueSettings(queue_size=24, loss="info_nce"),
        SiameseSettings(predictor="directpred"),
    ],
)
def test_every_method_is_opened_with_an_odd_batch(method):
    model = ModelSettings(widths=(64,))
    optimizer = OptimizerSettings(batch_size=3, micro_batch="auto", activations_mb=1)
    if not isinstance(method, DirectCLRSettings):
        model = dataclasses.replace(model, projector_hidden=8, projector_dim=4)
    dataset = dataset_from_arrays(TRAIN_IMAGES, np.arange(len(TRAIN_IMAGES)) % 2)
    settings = RunSettings(method=method, model=model, optimizer=optimizer)
    run = open_run(settings, MESHES[1], dataset)
    assert run.settings.optimizer.micro_batch in (None, 1)


def test_a_run_holds_the_number_and_goes_on_with_auto(tmp_path, capsys):
    optimizer = OptimizerSettings(
        batch_size=16, micro_batch="auto", activations_mb=1, epochs=1, warmup_epochs=0
    )
    model = ModelSettings(widths=(64,), projector_hidden=8, projector_dim=4)
    settings = RunSettings(model=model, optimizer=optimizer)

    def train(name, settings):
        return pretrain(TRAIN_IMAGES, settings, workdir=tmp_path / name, mesh=MESHES[1])

    train("run", settings)
    kept = read_settings(tmp_path / "run")
    number = kept.optimizer.micro_batch
    assert isinstance(number, int)
    assert number < 16
    assert f"embedded in chunks of {number}" in capsys.readouterr().err
    assert load_encoder(tmp_path / "run").settings == kept
    assert train("run", settings).settings == kept
    train("given", kept)
    assert_same_end(tmp_path / "run", tmp_path / "given")
