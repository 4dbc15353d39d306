"""A batch embedded in chunks: value and gradient of the whole batch, in the memory of a chunk."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import alphacl_jax as acl
from alphacl_jax import objectives
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.contrastive import contrastive_method
from alphacl_jax.methods.embedding import project_views
from alphacl_jax.methods.network import Network
from alphacl_jax.methods.queue import queue_method
from alphacl_jax.methods.siamese import siamese_method
from alphacl_jax.methods.supervised import supervised_method
from alphacl_jax.methods.target import constant_momentum
from alphacl_jax.models.heads import Projector
from alphacl_jax.models.resnet import small_resnet

BATCH, MICRO_BATCH, SIZE = 32, 8, 5
KEY = jax.random.key(0)
close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
MESHES = {
    n: jax.make_mesh((n,), ("data",), (AxisType.Auto,), devices=jax.devices()[:n]) for n in (1, 8)
}


class Layer(nn.Module):
    """A layer of float64, with a norm of each sample by itself."""

    @nn.compact
    def __call__(self, x, train):
        del train
        x = nn.Dense(6, param_dtype=jnp.float64)(x)
        return jnp.tanh(nn.GroupNorm(2, param_dtype=jnp.float64)(x))


class Centred(nn.Module):
    """BatchNorm alone."""

    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)


def batch_of(views, small=0):
    rng = np.random.default_rng(0)
    batch = {
        "views": jnp.asarray(rng.normal(size=(BATCH, views, SIZE))),
        "labels": jnp.asarray(rng.integers(0, 4, BATCH)),
        "recorded": jnp.array(False),
    }
    if small:
        batch["small_views"] = jnp.asarray(rng.normal(size=(BATCH, small, SIZE)))
    return batch


def contrastive(mesh, micro_batch):
    return contrastive_method(
        Layer(), Layer(), acl.families.info_nce(0.2), mesh, micro_batch=micro_batch
    )


def supervised(mesh, micro_batch):
    loss = functools.partial(objectives.supcon_loss, temperature=0.2)
    return supervised_method(Layer(), Layer(), loss, mesh, micro_batch=micro_batch)


def siamese(mesh, micro_batch):
    del mesh
    momentum = constant_momentum(0.9)
    return siamese_method(Layer(), Layer(), Layer(), momentum=momentum, micro_batch=micro_batch)


def queue(mesh, micro_batch):
    return queue_method(
        *(Layer(), Layer(), acl.families.info_nce(0.2), mesh),
        size=2 * BATCH,
        momentum=constant_momentum(0.9),
        micro_batch=micro_batch,
    )


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(
    ("make", "small"), [(contrastive, 0), (supervised, 1), (siamese, 0), (siamese, 1), (queue, 0)]
)
def test_value_and_gradient_are_those_of_the_whole_batch_at_once(x64, make, small, devices):
    mesh, batch = MESHES[devices], batch_of(2, small)
    params, state = make(mesh, None).init(KEY, batch)
    everywhere = {name: NamedSharding(mesh, PartitionSpec("data")) for name in batch}
    placed = jax.device_put(batch, everywhere | {"recorded": NamedSharding(mesh, PartitionSpec())})
    plain, chunked = (
        jax.jit(jax.value_and_grad(make(mesh, micro_batch).loss, has_aux=True))(
            params, state, placed, KEY
        )
        for micro_batch in (None, MICRO_BATCH)
    )
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(plain[1]["encoder"]))
    jax.tree.map(close, plain, chunked)


def test_one_chunk_is_the_batch_at_once(x64):
    """Not a loop of one, which embeds twice."""
    texts = []
    for micro_batch in (None, BATCH):
        method = contrastive(MESHES[1], micro_batch)
        batch = batch_of(2)
        params, state = method.init(KEY, batch)
        step = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
        texts.append(step.lower(params, state, batch, KEY).as_text())
    assert texts[0] == texts[1]


def test_chunks_of_several_seeds_at_once(x64):
    batch = batch_of(2)
    init = jax.vmap(contrastive(MESHES[1], None).init, in_axes=(0, None))
    params, state = init(jax.random.split(KEY), batch)
    plain, chunked = (
        jax.jit(
            jax.vmap(
                jax.grad(contrastive(MESHES[1], micro_batch).loss, has_aux=True),
                in_axes=(0, 0, None, None),
            )
        )(params, state, batch, KEY)
        for micro_batch in (None, 4)
    )
    jax.tree.map(close, plain, chunked)


def test_batch_norm_normalises_each_chunk_and_moves_its_averages_chunk_by_chunk():
    network = Network({"centred": Centred()}, MICRO_BATCH)
    batch = batch_of(2)
    params, stats = network.init(KEY, batch["views"][:, 0])
    x, moved = project_views(network, params, stats, batch)
    views, mean = np.asarray(batch["views"]), np.zeros(SIZE)
    for k in range(BATCH // MICRO_BATCH):
        chunk = views[k :: BATCH // MICRO_BATCH]
        its = chunk.mean(axis=(0, 1))
        mean = 0.9 * mean + 0.1 * its
        want = (chunk - its) / np.sqrt(chunk.var(axis=(0, 1)) + 1e-5)
        np.testing.assert_allclose(x[k :: BATCH // MICRO_BATCH], want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved["centred"]["BatchNorm_0"]["mean"], mean, rtol=1e-5, atol=1e-6)


def gradient_of(micro_batch, batch, image):
    """Compiled gradient of a contrastive step of a ResNet without BatchNorm, from its shapes."""
    method = contrastive_method(
        small_resnet((8,), norm="group"),
        Projector(8, 2, 4),
        acl.families.info_nce(0.2),
        MESHES[1],
        micro_batch=micro_batch,
    )
    shape = jax.ShapeDtypeStruct((batch, 2, *image), jnp.float32)
    inputs = {"views": shape, "recorded": jax.ShapeDtypeStruct((), bool)}
    params, state = jax.eval_shape(method.init, KEY, inputs)
    step = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    return step.lower(params, state, inputs, KEY).compile()


def test_the_memory_is_that_of_a_chunk():
    plain, chunked = (
        gradient_of(micro_batch, 64, (16, 16, 3)).memory_analysis().temp_size_in_bytes
        for micro_batch in (None, 8)
    )
    assert chunked < plain / 2


def test_no_device_sends_images_to_another(x64):
    network = Network({"encoder": Layer()}, MICRO_BATCH)
    batch = {"views": batch_of(2)["views"]}
    params, stats = network.init(KEY, batch["views"][:, 0])

    def loss(params, batch):
        return jnp.sum(project_views(network, params, stats, batch)[0] ** 2)

    sharding = NamedSharding(MESHES[8], PartitionSpec("data"))
    program = jax.jit(jax.grad(loss)).lower(params, jax.device_put(batch, sharding)).compile()
    text = program.as_text()
    assert "all-reduce" in text
    for moving in ("all-gather", "all-to-all", "collective-permute"):
        assert moving not in text


def test_a_chunk_divides_the_batch(x64):
    method, batch = contrastive(MESHES[1], 7), batch_of(2)
    params, state = method.init(KEY, batch)
    with pytest.raises(ArgumentError, match="micro_batch=7 must divide the batch, which has 32"):
        method.loss(params, state, batch, KEY)
