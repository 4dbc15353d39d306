"""Losses with labels in square tiles: value and gradient are those of the dense form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alphacl_jax import blocks, objectives

N, DIM, BLOCK = 23, 3, 4
# Classes of several sizes, one that is alone, and unknown ones.
LABELS = np.array([0, 1, 2, 0, 1, -1, 0, -1, 5, 1, 0, 2, 2, 2, 2, 0, 0, -1, 1, 1, 0, 2, 7])
LOSSES = {
    "out": functools.partial(objectives.supcon_loss, variant="out"),
    "in": functools.partial(objectives.supcon_loss, variant="in"),
    "probability": lambda z, labels, _, **options: objectives.nca_loss(
        z, labels, variant="probability", **options
    ),
    "margin": objectives.margin_loss,
}


# One of each kind: one sum of exponentials, two, and none.
KINDS = ("out", "in", "margin")


def embeddings(seed, n=N, dtype=np.float64):
    z = np.random.default_rng(seed).normal(size=(n, DIM))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(dtype)


@functools.partial(jax.jit, static_argnames=("block_size", "names"))
def gradients(z, labels, parameter, weights, block_size, names=KINDS):
    """name -> (the anchors' losses, gradients of a combination of them by z and the parameter)."""

    def one(name):
        def combined(z, parameter):
            values = LOSSES[name](z, labels, parameter, reduction="none", block_size=block_size)
            return jnp.dot(values, weights), values

        (_, values), by = jax.value_and_grad(combined, argnums=(0, 1), has_aux=True)(z, parameter)
        return values, *by

    return {name: one(name) for name in names}


def both(z, labels, parameter, names=KINDS):
    weights = np.random.default_rng(1).normal(size=np.size(z) // DIM)
    every = (jnp.asarray(z), jnp.asarray(labels), jnp.asarray(parameter), jnp.asarray(weights))
    return [gradients(*every, block_size=b, names=names) for b in (BLOCK, None)]


def test_these_blocks_are_tiles():
    """Several, of which the last is filled up."""
    assert blocks.tile_side(BLOCK, N) == 4
    assert N % 4


# One shift for all rows where norms allow, else one for each row and each sum.
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_tiles_have_the_values_and_the_gradients_of_the_whole(scale, x64):
    tiles, dense = both(scale * embeddings(0), LABELS, 0.3 * scale)
    for name, (values, by_z, by_parameter) in dense.items():
        found = tiles[name]
        assert np.abs(by_z).max() > 0, name
        np.testing.assert_allclose(found[0], values, rtol=1e-10, atol=1e-10, err_msg=name)
        atol = 1e-10 * np.abs(by_z).max()
        np.testing.assert_allclose(found[1], by_z, rtol=1e-9, atol=atol, err_msg=name)
        np.testing.assert_allclose(found[2], by_parameter, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.slow
def test_small_temperatures_and_large_norms_in_float32(x64):
    """Within what rounding of distances, a few eps · ‖z‖², does to the logits."""
    jax.config.update("jax_disable_most_optimizations", False)  # as users compile
    names, eps = ("in",), float(np.finfo(np.float32).eps)
    for norm, temperature in ((1.0, 0.01), (100.0, 0.1)):
        z = np.float32(norm) * embeddings(2, dtype=np.float32)
        found = both(z, LABELS, np.float32(temperature), names)[0]
        exact = both(z.astype(np.float64), LABELS, float(temperature))[1]
        of_logit = 8 * eps * norm**2 / temperature
        for name, (values, by_z, _) in found.items():
            assert values.dtype == jnp.float32
            wanted, wanted_by_z, _ = exact[name]
            np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=of_logit, err_msg=name)
            atol = (1e-5 + 4 * min(of_logit, 1.0)) * np.abs(wanted_by_z).max()
            np.testing.assert_allclose(by_z, wanted_by_z, rtol=0, atol=atol, err_msg=name)


EDGES = {
    "one class": np.zeros(N, int),
    "all unknown": np.full(N, -1),
    "each alone": np.arange(N),
    "two classes": np.arange(N) // (N - 1),
}


def test_edges_are_those_of_the_whole(x64):
    points = {"random": embeddings(3), "ones": np.ones((N, DIM)), "zeros": np.zeros((N, DIM))}
    points["duplicates"] = np.repeat(embeddings(3), 2, axis=0)[:N]
    points["one far away"] = embeddings(3) + 1e3 * (np.arange(N) == N - 1)[:, None]
    for edge, labels in EDGES.items():
        for point, z in points.items():
            tiles, dense = both(z, labels, 0.2)
            for name, (values, by_z, _) in dense.items():
                where = f"{name}, {edge}, {point}"
                assert np.isfinite(tiles[name][1]).all(), where
                np.testing.assert_allclose(
                    tiles[name][0], values, rtol=1e-8, atol=1e-8, err_msg=where
                )
                atol = 1e-8 * (1 + np.abs(by_z).max())
                np.testing.assert_allclose(tiles[name][1], by_z, atol=atol, err_msg=where)


@pytest.mark.slow
def test_several_views(x64):
    z = np.stack([embeddings(5), embeddings(6)], axis=1)
    tiles, dense = both(z, LABELS, 0.3, tuple(LOSSES))
    for name, parts in dense.items():
        for ours, theirs in zip(tiles[name], parts, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10, err_msg=name)


def test_auto_is_tiles_above_a_thousand_anchors(x64):
    n = 1100
    assert blocks.tile_side("auto", n) < n
    labels = np.random.default_rng(7).integers(-1, 9, n)
    loss = jax.jit(jax.value_and_grad(objectives.supcon_loss), static_argnames="block_size")
    z = embeddings(7, n)
    for ours, theirs in zip(*(loss(z, labels, block_size=b) for b in ("auto", None)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_nan_reaches_the_loss(x64):
    z = embeddings(8)
    z[2, 1] = np.nan
    for name, (values, _, _) in both(z, LABELS, 0.3)[0].items():
        assert np.isnan(values.sum()), name


@pytest.mark.parametrize("variant", ["out", pytest.param("in", marks=pytest.mark.slow)])
def test_memory(variant):
    """O(anchors · (dim + block)): no more pairs at a time than `block_size` rows have."""
    jax.config.update("jax_disable_most_optimizations", False)  # as users compile
    anchors, dim, block_size = 4096, 4, 16
    z = jax.ShapeDtypeStruct((anchors, dim), jnp.float32)
    labels = jax.ShapeDtypeStruct((anchors,), jnp.int32)
    loss = functools.partial(objectives.supcon_loss, variant=variant, block_size=block_size)
    compiled = jax.jit(jax.value_and_grad(loss)).lower(z, labels).compile()
    # As for the losses of the family, a dozen arrays.
    bound = 12 * 4 * anchors * (block_size + dim)
    assert compiled.memory_analysis().temp_size_in_bytes < bound < 4 * anchors**2 / 4


@pytest.mark.slow
def test_each_device_its_own_loss_in_a_checked_shard_map(x64):
    devices = 4
    mesh = jax.make_mesh((devices,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    z = np.stack([embeddings(seed) for seed in range(devices)]).reshape(-1, DIM)
    labels = np.tile(LABELS, devices)

    def losses(z, labels):
        found = [LOSSES[n](z, labels, 0.01, block_size=BLOCK) for n in ("in", "margin")]
        return jnp.stack(found)[None]

    mapped = jax.shard_map(losses, mesh=mesh, in_specs=P("batch"), out_specs=P("batch"))
    apart = lambda z, _: jax.vmap(lambda z: losses(z, LABELS)[0])(z.reshape(devices, N, DIM))  # noqa: E731
    found = []
    for function in (mapped, apart):
        total = lambda z, labels, f=function: (jnp.sum(f(z, labels)), f(z, labels))  # noqa: E731
        found.append(jax.jit(jax.grad(total, has_aux=True))(z, labels))
    for ours, theirs in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)
