"""Blocks of embeddings passed around the devices: value and gradient are those of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import alphacl_jax as acl
from tests.cases import smooth_family, views

AXIS, DIM, BLOCK = "batch", 3, 4
SLOW = pytest.mark.slow
# An odd number of devices, and even ones, whose last meeting is of the same two on both of them.
COUNTS = (3, 4, pytest.param(2, marks=SLOW), pytest.param(8, marks=SLOW))
# Samples of a device: in blocks of which the last is filled up, in full ones, and too few for two.
LOCAL = 5
SIZES = (LOCAL, pytest.param(4, marks=SLOW), pytest.param(1, marks=SLOW))


def losses(z, z_pos, temperature, labels=None, **options):
    """One of each kind: one sum of exponentials, two sums, and none of exponentials."""
    direct, options = acl.rules.direct(temperature, 4.0), {"labels": labels, **options}
    return jnp.stack(
        [
            acl.contrastive_loss(z, z_pos, acl.families.info_nce(temperature), **options),
            acl.alpha_cl_loss(z, z_pos, direct, stop_gradient=False, **options),
            acl.contrastive_loss(z, z_pos, smooth_family(), negatives="same_view", **options),
        ]
    )


def with_gradients(function):
    def combined(z, z_pos, temperature, labels):
        values = function(z, z_pos, temperature, labels)
        return jnp.dot(values, jnp.asarray([1.0, -0.7, 0.4])), values

    return jax.jit(jax.value_and_grad(combined, argnums=(0, 1, 2), has_aux=True))


def over(devices, kind):
    """`losses` in tiles over so many devices."""
    local = functools.partial(losses, axis_name=AXIS, block_size=BLOCK)
    if kind in ("checked", "unchecked"):
        mesh = jax.make_mesh((devices,), (AXIS,), (AxisType.Auto,), devices=jax.devices()[:devices])
        spread = P(AXIS)
        return jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(spread, spread, P(), spread),
            out_specs=P(),
            check_vma=kind == "checked",
        )

    def call(z, z_pos, temperature, labels):
        parts = [v.reshape(devices, -1, *v.shape[1:]) for v in (z, z_pos, labels)]
        mapped = (jax.pmap if kind == "pmap" else jax.vmap)(
            lambda z, z_pos, labels, temperature: local(z, z_pos, temperature, labels),
            in_axes=(0, 0, 0, None),
            axis_name=AXIS,
        )
        return mapped(*parts, temperature)[-1]

    return call


def arguments(devices, samples, scale=1.0):
    total = devices * samples
    labels = np.random.default_rng(1).integers(-1, 3, total)
    z, z_pos = (scale * v for v in views(0, total, DIM))
    return tuple(map(jnp.asarray, (z, z_pos, 0.4 * scale, labels)))


def check(kind, devices, samples, scale=1.0):
    given = arguments(devices, samples, scale)
    got, want = with_gradients(over(devices, kind))(*given), with_gradients(losses)(*given)
    for gradient in jax.tree.leaves(want[1]):
        assert np.abs(gradient).max() > 1e-6
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        atol = 1e-10 * np.abs(theirs).max()
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-10, atol=atol)


@pytest.mark.parametrize("samples", SIZES)
@pytest.mark.parametrize("devices", COUNTS)
def test_value_and_gradients_are_those_of_one_device(devices, samples, x64):
    check("checked", devices, samples)


@pytest.mark.parametrize("kind", ["vmap", pytest.param("unchecked", marks=SLOW), "pmap"])
def test_every_map(kind, x64):
    check(kind, 4, LOCAL)


@SLOW
@pytest.mark.parametrize("devices", [3, 4])
def test_shifts_of_each_row_where_exponentials_are_out_of_range(devices, x64):
    check("vmap", devices, LOCAL, scale=300.0)
