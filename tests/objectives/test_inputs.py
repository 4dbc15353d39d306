"""Losses with labels on what they are given: types, traced parameters, views, few samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from alphacl_jax import objectives
from tests.objectives import test_labels
from tests.objectives.test_labels import DIM, LOSSES, N, embeddings, names

# Of a type that does not depend on whether float64 is enabled.
LABELS = test_labels.LABELS.astype(np.int32)


@names
def test_half_precision_is_compared_in_single(name):
    loss = jax.jit(jax.value_and_grad(LOSSES[name][0]))
    for dtype in (jnp.float16, jnp.bfloat16):
        z = jnp.asarray(embeddings(1), dtype)
        value, gradient = loss(z, LABELS)
        assert value.dtype == jnp.float32
        assert gradient.dtype == dtype
        wanted, wanted_gradient = loss(z.astype(jnp.float32), LABELS)
        np.testing.assert_allclose(value, wanted, rtol=1e-6)
        atol = 2 * float(jnp.finfo(dtype).eps) * np.abs(wanted_gradient).max()
        np.testing.assert_allclose(gradient.astype(jnp.float32), wanted_gradient, atol=atol)


@pytest.mark.parametrize("name", ["supcon_in", "triplet_all"])
def test_labels_of_any_whole_type(name, x64):
    loss, z = jax.jit(LOSSES[name][0]), embeddings(2)
    wanted = loss(z, LABELS)
    assert LABELS.max() < 100
    for labels in (LABELS.tolist(), LABELS.astype(np.int8), jnp.asarray(LABELS, jnp.int64)):
        np.testing.assert_allclose(loss(z, labels), wanted, rtol=1e-12)
    # An unsigned type has no -1: there the unknown ones are given classes of their own.
    unsigned = np.where(LABELS < 0, 200 + np.arange(N), LABELS).astype(np.uint8)
    np.testing.assert_allclose(loss(z, unsigned), wanted, rtol=1e-12)
    known = functools.partial(LOSSES[name][0], labels=LABELS)  # not traced
    np.testing.assert_allclose(jax.jit(known)(z), wanted, rtol=1e-12)


PARAMETERS = {
    "out": lambda z, t: objectives.supcon_loss(z, LABELS, t),
    "in": lambda z, t: objectives.supcon_loss(z, LABELS, t, variant="in"),
    "margin": lambda z, t: objectives.margin_loss(z, LABELS, t),
    "triplet": lambda z, t: objectives.triplet_loss(z, LABELS, t),
    "clip": lambda z, t: objectives.clip_loss(z, z[::-1], t),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_that_are_learned(name, x64):
    z, loss = jnp.asarray(embeddings(3)), jax.jit(PARAMETERS[name])
    h = 1e-6
    slope = (loss(z, 0.4 + h) - loss(z, 0.4 - h)) / (2 * h)
    found = jax.grad(loss, argnums=1)(z, 0.4)
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(found, slope, rtol=1e-6)
    # Out of its range there is no loss, where nobody could be told before.
    assert np.isnan(loss(z, -0.1))
    assert np.isnan(jax.grad(loss)(z, -0.1)).all()


@names
def test_views_over_devices(name, x64):
    loss = LOSSES[name][0]
    z = jnp.asarray(np.stack([embeddings(4), embeddings(5)], axis=1))
    plain, gradient = jax.jit(jax.value_and_grad(loss))(z, LABELS)

    @jax.jit
    @jax.value_and_grad
    def spread(z):
        split = lambda x: jnp.asarray(x).reshape(4, -1, *x.shape[1:])  # noqa: E731
        own = functools.partial(loss, axis_name="batch")
        return jax.vmap(own, axis_name="batch")(split(z), split(LABELS))[1]

    value, by_z = spread(z)
    np.testing.assert_allclose(value, plain, rtol=1e-10)
    np.testing.assert_allclose(by_z, gradient, rtol=1e-8, atol=1e-10)


@names
def test_one_sample_has_nothing_to_be_compared_with(name):
    z = jnp.ones((1, DIM))
    for block_size in (None, 1):
        loss = functools.partial(LOSSES[name][0], block_size=block_size)
        value, gradient = jax.value_and_grad(loss)(z, [0])
        assert value == 0
        assert not gradient.any()
    # Two views of it have each other.
    value = LOSSES[name][0](jnp.ones((1, 2, DIM)), [-1])
    assert np.isfinite(value)
    with pytest.raises(ValueError, match=r"z has shape \(0, 3\); a loss needs an embedding"):
        LOSSES[name][0](z[:0], np.zeros(0, int))


@names
def test_nan_reaches_the_loss(name):
    for sample in (2, LABELS.tolist().index(-1)):
        z = embeddings(6, dtype=np.float32)
        z[sample, 1] = np.nan
        assert np.isnan(LOSSES[name][0](z, LABELS)), sample


@pytest.mark.parametrize("name", ["supcon_out", "supcon_in", "nca_log", "triplet_semihard"])
def test_large_norms_and_small_temperatures_are_finite(name):
    loss = {
        "supcon_out": functools.partial(objectives.supcon_loss, temperature=0.01),
        "supcon_in": functools.partial(objectives.supcon_loss, temperature=0.01, variant="in"),
    }.get(name, LOSSES[name][0])
    for scale in (1e-4, 1.0, 100.0, 1e4):
        z = np.float32(scale) * embeddings(7, dtype=np.float32)
        value, gradient = jax.jit(jax.value_and_grad(loss))(z, LABELS)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["supcon_in", "margin", "triplet_hard"])
def test_a_loss_is_exported_with_an_open_size(name):
    (n,) = export.symbolic_shape("n", constraints=["n >= 2"])
    shapes = (jax.ShapeDtypeStruct((n, DIM), "float32"), jax.ShapeDtypeStruct((n,), "int32"))
    loss = jax.jit(functools.partial(LOSSES[name][0], block_size="auto"))
    exported = export.export(loss)(*shapes)
    z = jnp.asarray(embeddings(8, dtype=np.float32))
    np.testing.assert_allclose(exported.call(z, LABELS), loss(z, LABELS), rtol=1e-5)
