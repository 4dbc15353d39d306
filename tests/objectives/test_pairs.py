"""Losses of two arrays, row by row: two towers, N-pairs, regression on a target."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax import objectives
from tests.cases import views

N, DIM, TAU = 8, 3, 0.2
LABELS = np.array([0, 1, 2, 0, -1, 3, -1, 2])


def clip_loops(x, y, tau):
    logits = x @ y.T / tau
    rows = [-np.log(np.exp(logits[i, i]) / np.exp(logits[i]).sum()) for i in range(len(x))]
    columns = [-np.log(np.exp(logits[i, i]) / np.exp(logits[:, i]).sum()) for i in range(len(x))]
    return (np.array(rows) + np.array(columns)) / 2


def n_pair_loops(z, z_pos, labels):
    values = []
    for i in range(len(z)):
        others = [
            j
            for j in range(len(z))
            if j != i and (labels is None or labels[i] < 0 or labels[j] != labels[i])
        ]
        gaps = [z[i] @ z_pos[j] - z[i] @ z_pos[i] for j in others]
        values.append(np.log1p(np.exp(gaps).sum()))
    return np.array(values)


@pytest.mark.parametrize("labels", [None, LABELS], ids=["alone", "labels"])
def test_n_pairs_as_the_loops(labels, x64):
    z, z_pos = views(0, N, DIM, np.float64)
    found = objectives.n_pair_loss(z, z_pos, labels, reduction="none")
    np.testing.assert_allclose(found, n_pair_loops(z, z_pos, labels), rtol=1e-10)


def test_two_towers_as_the_loops(x64):
    x, y = views(1, N, DIM, np.float64, unit=True)
    found = objectives.clip_loss(x, y, TAU, reduction="none")
    np.testing.assert_allclose(found, clip_loops(x, y, TAU), rtol=1e-10)
    np.testing.assert_allclose(objectives.clip_loss(x, y, TAU), found.mean(), rtol=1e-10)


@pytest.mark.parametrize("name", ["clip", "n_pair"])
def test_blocks_and_devices_have_the_value_and_the_gradient_of_the_whole(name, x64):
    z, z_pos = views(2, N, DIM, np.float64, unit=True)

    def total(z, split=False, **options):
        arrays = (z, jnp.asarray(z_pos), jnp.asarray(LABELS))

        def local(z, z_pos, labels):
            if name == "clip":
                return objectives.clip_loss(z, z_pos, TAU, **options)
            return objectives.n_pair_loss(z, z_pos, labels, **options)

        if not split:
            return local(*arrays)
        shards = [a.reshape(4, -1, *a.shape[1:]) for a in arrays]
        options["axis_name"] = "batch"
        return jax.vmap(local, axis_name="batch")(*shards)[1]

    plain = jax.jit(jax.value_and_grad(total))(z)
    for options in ({"block_size": 3}, {"split": True}, {"split": True, "block_size": 1}):
        found = jax.jit(jax.value_and_grad(functools.partial(total, **options)))(z)
        for ours, theirs in zip(found, plain, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_regression_is_twice_the_distance_of_directions_and_holds_its_target(x64):
    p, target = views(3, N, DIM, np.float64)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    want = 2 - 2 * np.sum(unit(p) * unit(target), axis=1)
    found = objectives.regression_loss(p, target, reduction="none")
    np.testing.assert_allclose(found, want, rtol=1e-10)
    np.testing.assert_allclose(objectives.regression_loss(p, target), want.mean(), rtol=1e-10)
    by_p, by_target = jax.grad(objectives.regression_loss, argnums=(0, 1))(p, target)
    assert np.abs(by_p).max() > 1e-3
    assert not by_target.any()
    through = jax.grad(functools.partial(objectives.regression_loss, stop_gradient=False), 1)
    by_p_of_swapped = jax.grad(objectives.regression_loss)(target, p)
    np.testing.assert_allclose(through(p, target), by_p_of_swapped, rtol=1e-10)
    # As a loss of distances its α is −2 between a row and its target.
    alpha = objectives.importance_of(lambda d: 2 * jnp.diagonal(d))(
        acl.squared_distances(p, target)
    )
    np.testing.assert_array_equal(alpha, -2 * np.eye(N))
    both = jnp.zeros((2, DIM)), jnp.ones((2, DIM))
    assert np.isfinite(jax.grad(objectives.regression_loss)(*both)).all()
