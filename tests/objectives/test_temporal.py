"""InfoNCE of moments: the formula, derivatives, blocks and devices, inputs that are refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

import alphacl_jax as acl
from alphacl_jax import objectives
from tests.objectives import loops

DEVICES, N, M, DIM, TAU = 4, 8, 12, 3, 0.4
AXIS = "batch"
MAPS = ("shard_map", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("pmap", "vmap")))
similarities = pytest.mark.parametrize("similarity", ["cosine", "euclidean"])


def moments(seed=0, dtype=np.float64):
    """References, positives near them, negatives, of different norms."""
    rng = np.random.default_rng(seed)
    r, y = rng.normal(size=(N, DIM)), rng.normal(size=(M, DIM))
    return [jnp.asarray(x, dtype) for x in (r, r + 0.3 * rng.normal(size=(N, DIM)), y)]


@functools.partial(jax.jit, static_argnames=("similarity", "reduction", "block_size"))
def loss_of(*arguments, **options):
    return objectives.temporal_loss(*arguments, **options)


def by_everything(function):
    """Value, and gradients by the three arrays and the temperature."""
    return jax.jit(jax.value_and_grad(function, argnums=(0, 1, 2, 3)))


def assert_same(found, wanted):
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert np.abs(theirs).max() > 1e-4
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@similarities
def test_value_as_the_loops(similarity, x64):
    for tau in (TAU, 1.0):
        want = loops.temporal(*map(np.asarray, moments()), tau, similarity)
        found = loss_of(*moments(), tau, similarity=similarity, reduction="none")
        np.testing.assert_allclose(found, want, rtol=1e-10)
        mean, total = (
            loss_of(*moments(), tau, similarity=similarity, reduction=how)
            for how in ("mean", "sum")
        )
        np.testing.assert_allclose([mean, total], [want.mean(), want.sum()], rtol=1e-10)


@similarities
def test_derivatives(similarity, x64):
    loss = functools.partial(loss_of, similarity=similarity)
    check_grads(loss, (*moments(1), jnp.asarray(TAU)), order=1, modes=("fwd", "rev"), rtol=1e-6)


@similarities
def test_the_order_of_negatives_does_not_matter_and_their_number_does(similarity, x64):
    r, p, y = moments(2)
    order = np.random.default_rng(0).permutation(M)
    by = by_everything(functools.partial(loss_of, similarity=similarity))
    value, (by_r, by_p, by_y, by_tau) = by(r, p, y, TAU)
    mixed_value, (mixed_r, mixed_p, mixed_y, mixed_tau) = by(r, p, y[order], TAU)
    assert_same((mixed_value, mixed_r, mixed_p, mixed_tau), (value, by_r, by_p, by_tau))
    np.testing.assert_allclose(mixed_y, by_y[order], rtol=1e-9, atol=1e-12)
    twice = loss_of(r, p, jnp.concatenate([y, y]), TAU, similarity=similarity)
    np.testing.assert_allclose(twice, value + np.log(2), rtol=1e-10)


def test_cosines_are_those_of_directions_and_distances_are_of_embeddings_as_given(x64):
    r, p, y = moments(3)
    for similarity, alike in (("cosine", True), ("euclidean", False)):
        plain = loss_of(r, p, y, TAU, similarity=similarity)
        scaled = loss_of(3.0 * r, 0.5 * p, 2.0 * y, TAU, similarity=similarity)
        assert np.isclose(scaled, plain, rtol=1e-10) == alike
        shifted = loss_of(r + 1.0, p + 1.0, y + 1.0, TAU, similarity=similarity)
        assert np.isclose(shifted, plain, rtol=1e-10) != alike


@similarities
@pytest.mark.parametrize("block_size", [1, 3])
def test_blocks_have_the_value_and_the_gradient_of_the_whole(similarity, block_size, x64):
    whole, blocked = (
        by_everything(functools.partial(loss_of, similarity=similarity, block_size=size))
        for size in (None, block_size)
    )
    assert_same(blocked(*moments(4), TAU), whole(*moments(4), TAU))


def over_devices(kind, similarity, block_size=None):
    """The loss where references and negatives are spread over the devices."""

    def local(r, p, y, tau):
        options = {"similarity": similarity, "block_size": block_size, "axis_name": AXIS}
        return objectives.temporal_loss(r, p, y, tau, **options)

    if kind == "shard_map":
        mesh = jax.make_mesh((DEVICES,), (AXIS,), (AxisType.Auto,), devices=jax.devices()[:DEVICES])
        spread = (P(AXIS), P(AXIS), P(AXIS), P())
        return jax.shard_map(local, mesh=mesh, in_specs=spread, out_specs=P())
    mapped = (jax.pmap if kind == "pmap" else jax.vmap)(
        local, axis_name=AXIS, in_axes=(0, 0, 0, None)
    )

    def call(r, p, y, tau):
        split = (x.reshape(DEVICES, -1, DIM) for x in (r, p, y))
        return mapped(*split, tau)[-1]

    return call


@similarities
@pytest.mark.parametrize("kind", MAPS)
def test_four_devices_as_one(kind, similarity, x64):
    whole = by_everything(functools.partial(loss_of, similarity=similarity))(*moments(5), TAU)
    for block_size in (None, 1):
        spread = by_everything(over_devices(kind, similarity, block_size))
        assert_same(spread(*moments(5), TAU), whole)


def test_explicitly_sharded_embeddings(x64):
    mesh = jax.make_mesh((DEVICES,), (AXIS,), (AxisType.Explicit,), devices=jax.devices()[:DEVICES])
    loss = functools.partial(objectives.temporal_loss, reduction="none")
    want = loss(*moments(6), TAU)
    with jax.set_mesh(mesh):
        found = jax.jit(loss)(*(jax.device_put(x, P(AXIS)) for x in moments(6)), TAU)
    assert found.sharding.spec == P(AXIS)
    np.testing.assert_allclose(found, want, rtol=1e-10)


@similarities
def test_half_precision_is_compared_in_single(similarity):
    by = by_everything(functools.partial(loss_of, similarity=similarity))
    for dtype in (jnp.float16, jnp.bfloat16):
        given = moments(7, dtype)
        with jax.numpy_dtype_promotion("strict"):
            value, gradients = by(*given, jnp.float32(TAU))
        assert value.dtype == jnp.float32
        wanted, wanted_gradients = by(*(x.astype(jnp.float32) for x in given), jnp.float32(TAU))
        np.testing.assert_allclose(value, wanted, rtol=1e-6)
        for ours, theirs in zip(gradients[:3], wanted_gradients[:3], strict=True):
            assert ours.dtype == dtype
            atol = 2 * float(jnp.finfo(dtype).eps) * np.abs(theirs).max()
            np.testing.assert_allclose(ours.astype(jnp.float32), theirs, atol=atol)


def test_a_wider_temperature_does_not_widen_the_loss(x64):
    value = loss_of(*moments(8, np.float32), jnp.asarray(TAU, jnp.float64))
    assert value.dtype == jnp.float32


@similarities
def test_edges_are_finite(similarity):
    r, p, y = moments(9, np.float32)
    by = by_everything(functools.partial(loss_of, similarity=similarity))
    same, zeros = jnp.ones_like(r), jnp.zeros_like(r)
    for given in (
        (same, same, same),
        (zeros, zeros, zeros),
        (r, r, r),
        (zeros, p, y),
        (r, zeros, y),
    ):
        for tau in (1e-3, 1e4):
            value, gradients = by(*given, tau)
            assert np.isfinite(value)
            assert all(np.isfinite(each).all() for each in gradients)
    value, gradients = by(1e4 * r, 1e4 * p, 1e4 * y, TAU)
    assert np.isfinite(value)
    assert all(np.isfinite(each).all() for each in gradients)


@similarities
def test_nan_reaches_the_loss(similarity):
    for which in range(3):
        given = moments(10, np.float32)
        given[which] = given[which].at[1, 1].set(jnp.nan)
        assert np.isnan(loss_of(*given, TAU, similarity=similarity))


def test_a_temperature_out_of_its_range_gives_nan_where_it_is_traced(x64):
    value, gradients = by_everything(loss_of)(*moments(11), -TAU)
    assert np.isnan(value)
    assert np.isnan(gradients[0]).all()


def test_a_temperature_that_is_learned(x64):
    """By the logarithm of 1/τ; below the floor with the gradient of a clamp, or without."""

    def loss(s, stop):
        tau = acl.learned_temperature(-s, minimum=0.25, stop_at_minimum=stop)
        return loss_of(*moments(12), tau)

    slope = jax.grad(loss)
    h = 1e-6
    by_differences = (loss(0.5 + h, True) - loss(0.5 - h, True)) / (2 * h)
    np.testing.assert_allclose(slope(0.5, True), by_differences, rtol=1e-6)
    np.testing.assert_allclose(slope(0.5, False), by_differences, rtol=1e-6)
    np.testing.assert_allclose(loss(3.0, True), loss_of(*moments(12), 0.25), rtol=1e-12)
    assert slope(3.0, True) == 0
    assert abs(slope(3.0, False)) > 1e-3


def test_goodness_of_fit_counts_bits():
    alike = jnp.ones((N, DIM))
    for similarity in ("cosine", "euclidean"):
        loss = loss_of(alike, alike, jnp.ones((M, DIM)), TAU, similarity=similarity)
        np.testing.assert_allclose(objectives.goodness_of_fit(loss, M), 0.0, atol=1e-6)
    bits = objectives.goodness_of_fit(jnp.array([0.0, np.log(2.0)]), 8)
    np.testing.assert_allclose(bits, [3.0, 2.0], rtol=1e-6)
    assert objectives.goodness_of_fit(jnp.float32(1), np.int64(8)).dtype == jnp.float32


def refused(error, message, *changes, **options):
    """The call with arguments replaced by position."""
    given = [*moments(0, np.float32), TAU]
    for position, value in changes:
        given[position] = value
    with pytest.raises(error, match=message):
        objectives.temporal_loss(*given, **options)


def test_what_is_refused():
    r, p, y = moments(0, np.float32)
    shapes = functools.partial(refused, AssertionError)
    shapes(r"reference has shape \(3,\), positive has shape \(8, 3\); both must", (0, r[0]))
    shapes(r"reference has shape \(8, 3\), positive has shape \(7, 3\)", (1, p[1:]))
    shapes(r"reference has shape \(8, 3\), negative has shape \(12, 2\);.*\[m, 3\]", (2, y[:, 1:]))
    shapes(r"negative has shape \(3,\); negative must be \[m, 3\]", (2, y[0]))
    shapes(r"reference has type int32 and shape \(8, 3\); it must be", (0, r.astype(int)))
    shapes(r"positive has type int32", (1, p.astype(int)))
    shapes(r"negative has type int32 and shape \(12, 3\); it must be", (2, y.astype(int)))
    values = functools.partial(refused, ValueError)
    values(r"negative has shape \(0, 3\); the loss needs a reference and a neg", (2, y[:0]))
    values(r"reference has shape \(0, 3\).*needs a reference", (0, r[:0]), (1, p[:0]))
    for similarity in ("cosine", "euclidean"):
        values("temperature=-0.5 is out of range.*> 0", (3, -0.5), similarity=similarity)
    values("temperature=nan is out of range", (3, np.nan))
    values("temperature='1' must be a number", (3, "1"))
    values("similarity='dot' must be one of cosine, euclidean", similarity="dot")
    values("reduction='all' is unknown", reduction="all")
    values("block_size=0 must be a whole number", block_size=0)
    with pytest.raises(NameError, match="devices"):
        objectives.temporal_loss(r, p, y, TAU, axis_name="devices")
    for negatives in (0, 1.5, True, "8"):
        with pytest.raises(ValueError, match=r"negatives=.* must be a whole number >= 1"):
            objectives.goodness_of_fit(1.0, negatives)
