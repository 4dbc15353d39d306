"""The chunk that `micro_batch=auto` chooses, and what an image's activations are taken to be."""

import jax
import jax.numpy as jnp
import pytest

import alphacl_jax as acl
from alphacl_jax.data.batches import raw_shapes
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.contrastive import contrastive_method
from alphacl_jax.models.heads import Projector
from alphacl_jax.models.resnet import small_resnet
from alphacl_jax.runs import load_encoder, pretrain
from alphacl_jax.runs.chunk_size import activation_bytes_per_image, with_chosen_chunk
from alphacl_jax.runs.folder import read_settings
from alphacl_jax.runs.settings import ModelSettings, OptimizerSettings, RunSettings
from alphacl_jax.training.mesh import data_mesh
from tests.tiny_runs import TRAIN_IMAGES, assert_same_end

IMAGE = (16, 16, 3)
MESHES = {count: data_mesh(jax.devices()[:count]) for count in (1, 4)}
RAW = raw_shapes(IMAGE, 2)


def make_batch(key, raw):
    views = raw["images"][:, None] / 255.0
    return {"views": jnp.concatenate([views, views], axis=1)}


def method_of(mesh, widths=(8, 16), norm="group"):
    encoder = small_resnet(widths, norm=norm)
    projector = Projector(16, 2, 4)
    loss = acl.families.info_nce(0.2)
    return contrastive_method(encoder, projector, loss, mesh)


def chosen(megabytes, devices=1, **network):
    optimizer = OptimizerSettings(batch_size=512, micro_batch="auto", activations_mb=megabytes)
    settings, mesh = RunSettings(optimizer=optimizer), MESHES[devices]
    method = method_of(mesh, **network)
    return with_chosen_chunk(settings, method, make_batch, RAW, mesh).optimizer


def per_image(devices=1):
    return activation_bytes_per_image(method_of(MESHES[devices]), make_batch, RAW, devices)


@pytest.mark.parametrize("devices", [1, 4])
def test_the_largest_chunk_within_the_limit(devices):
    megabytes = 8
    size = chosen(megabytes, devices=devices).micro_batch
    assert 512 % size == 0
    assert size % devices == 0
    assert size // devices * per_image(devices) <= megabytes * 2**20
    assert 2 * size // devices * per_image(devices) > megabytes * 2**20  # 512 has powers of 2 alone


def test_devices_share_a_chunk():
    # The loss keeps a little of each pair: that is more where the pairs are those of four devices.
    assert per_image(4) == pytest.approx(per_image(1), rel=0.05)
    assert chosen(8, devices=4).micro_batch == 4 * chosen(8).micro_batch


def test_a_batch_that_fits_is_embedded_at_once():
    own = chosen(10_000)
    assert own.micro_batch is None
    assert own == OptimizerSettings(batch_size=512)  # what a run's flags then hold


def test_an_image_that_does_not_fit_is_refused():
    with pytest.raises(ArgumentError, match=r"^activations_mb=1 is too little: one image of .* MB"):
        chosen(1, widths=(256, 256))


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_the_estimate_is_what_the_compiled_gradient_takes(norm):
    """Neither less, which would not fit, nor more than twice."""
    method, key = method_of(MESHES[1], norm=norm), jax.random.key(0)

    def taken(size):
        batch = jax.eval_shape(make_batch, key, raw_shapes(IMAGE, size))
        batch["recorded"] = jax.ShapeDtypeStruct((), bool)
        params, state = jax.eval_shape(method.init, key, batch)
        step = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
        program = step.lower(params, state, batch, key).compile()
        return program.memory_analysis().temp_size_in_bytes

    measured = (taken(64) - taken(32)) / 32
    assert measured <= activation_bytes_per_image(method, make_batch, RAW, 1) <= 2 * measured


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
