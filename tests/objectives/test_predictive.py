"""CPC's loss of one step ahead: the policies of negatives, accuracy, blocks and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from alphacl_jax import objectives
from tests.objectives import loops

DEVICES, N, DIM, TAU = 4, 12, 3, 0.7
AXIS = "batch"
MAPS = ("shard_map", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("pmap", "vmap")))
POLICIES = ("mixed", "mixed_excluded", "same", "same_excluded", "current")
policies = pytest.mark.parametrize("negatives", POLICIES)
# The fourth group has one recording only, the recording 4 one row only, and some are unknown.
RECORDINGS = np.array([0, 1, 2, 0, -1, 3, 3, 1, 2, 4, -1, 0])
GROUPS = np.array([0, 0, 1, 0, -1, 3, 3, 0, 1, 1, 1, 0])


def embeddings(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(N, DIM))
    return [jnp.asarray(x, dtype) for x in (z + 0.8 * rng.normal(size=(N, DIM)), z)]


def both(prediction, z, tau, recordings, groups, **options):
    """A loss, and the accuracy beside it."""
    given = (prediction, z, tau)
    options |= {"recordings": recordings, "groups": groups}
    loss = objectives.predictive_loss(*given, **options)
    return loss, objectives.predictive_accuracy(*given, **options)


def by_everything(function, **options):
    """((loss, accuracy), gradients of the loss by predictions, embeddings and temperature)."""
    chosen = functools.partial(function, **options)
    return jax.jit(jax.value_and_grad(chosen, argnums=(0, 1, 2), has_aux=True))


def assert_same(found, wanted):
    assert all(np.abs(by).max() > 1e-4 for by in wanted[1])
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@policies
def test_value_and_accuracy_as_the_loops(negatives, x64):
    p, z = embeddings()
    oracle = loops.predictive(np.asarray(p), np.asarray(z), TAU, negatives, RECORDINGS, GROUPS)
    want, counted, hits = oracle
    assert 0 < hits.sum() < counted.sum()
    assert counted.all() == negatives.startswith("mixed")
    call = jax.jit(functools.partial(both, negatives=negatives), static_argnames="reduction")
    values, right = call(p, z, TAU, RECORDINGS, GROUPS, reduction="none")
    np.testing.assert_allclose(values, want, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(right, hits)
    means = call(p, z, TAU, RECORDINGS, GROUPS, reduction="mean")
    np.testing.assert_allclose(means, [want[counted].mean(), hits[counted].mean()], rtol=1e-10)
    totals = call(p, z, TAU, RECORDINGS, GROUPS, reduction="sum")
    np.testing.assert_allclose(totals, [want.sum(), hits.sum()], rtol=1e-10)


@pytest.mark.parametrize("negatives", ["mixed", "same_excluded"])
def test_derivatives(negatives, x64):
    loss = jax.jit(
        functools.partial(
            objectives.predictive_loss, negatives=negatives, recordings=RECORDINGS, groups=GROUPS
        )
    )
    check_grads(loss, (*embeddings(1), jnp.asarray(TAU)), order=1, modes=("fwd", "rev"), rtol=1e-6)


@policies
def test_the_order_of_rows_does_not_matter(negatives, x64):
    p, z = embeddings(2)
    order = np.random.default_rng(0).permutation(N)
    by = by_everything(both, negatives=negatives)
    plain, (by_p, by_z, by_tau) = by(p, z, TAU, RECORDINGS, GROUPS)
    mixed = by(p[order], z[order], TAU, RECORDINGS[order], GROUPS[order])
    assert_same(mixed, (plain, (by_p[order], by_z[order], by_tau)))


def test_rows_without_negatives_do_not_count(x64):
    p, z = embeddings(3)
    alone = np.arange(N)
    by = by_everything(both, negatives="current")
    (loss, accuracy), gradients = by(p, z, TAU, alone, alone)
    assert loss == accuracy == 0
    assert not any(by.any() for by in gradients)
    pair = np.where(alone < 2, 0, alone)
    found, _ = by(p, z, TAU, pair, alone)
    wanted, _ = by_everything(both)(p[:2], z[:2], TAU, pair[:2], alone[:2])
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    # One row, and nothing beside it.
    assert both(p[:1], z[:1], TAU, None, None) == (0, 0)


def test_a_tie_is_no_hit_and_no_score_is_none():
    same = jnp.ones((4, DIM))
    loss, accuracy = both(same, same, 1.0, None, None)
    np.testing.assert_allclose(loss, np.log(4), rtol=1e-6)
    assert accuracy == 0
    # Two equal embeddings of any value, and others behind.
    p, z = embeddings(4, np.float32)
    z = 10 * z.at[1].set(z[0])
    hits = both(z, z, 1.0, None, None, reduction="none")[1]
    assert not hits[:2].any()
    assert hits[2:].any()
    assert both(p, z.at[3].set(jnp.nan), 1.0, None, None)[1] == 0


BLOCKED = ("mixed", "same_excluded", "current")


@pytest.mark.parametrize("negatives", BLOCKED)
def test_blocks_have_the_value_and_the_gradient_of_the_whole(negatives, x64):
    given = (*embeddings(5), TAU, RECORDINGS, GROUPS)
    whole = by_everything(both, negatives=negatives)(*given)
    for block_size in (1, 5, "auto"):
        assert_same(by_everything(both, negatives=negatives, block_size=block_size)(*given), whole)


def over_devices(kind, **options):
    """The loss and the accuracy where rows are spread over the devices."""
    local = functools.partial(both, axis_name=AXIS, **options)
    if kind == "shard_map":
        mesh = jax.make_mesh((DEVICES,), (AXIS,), (AxisType.Auto,), devices=jax.devices()[:DEVICES])
        spread = (P(AXIS), P(AXIS), P(), P(AXIS), P(AXIS))
        return jax.shard_map(local, mesh=mesh, in_specs=spread, out_specs=P())
    mapped = (jax.pmap if kind == "pmap" else jax.vmap)(
        local, axis_name=AXIS, in_axes=(0, 0, None, 0, 0)
    )

    def call(p, z, tau, recordings, groups):
        split = lambda x: jnp.asarray(x).reshape(DEVICES, -1, *x.shape[1:])  # noqa: E731
        found = mapped(split(p), split(z), tau, split(recordings), split(groups))
        return tuple(x[-1] for x in found)

    return call


@pytest.mark.parametrize("negatives", BLOCKED)
@pytest.mark.parametrize("kind", MAPS)
def test_four_devices_as_one(kind, negatives, x64):
    given = (*embeddings(6), TAU, RECORDINGS, GROUPS)
    whole = by_everything(both, negatives=negatives)(*given)
    for block_size in (None, 2):
        call = over_devices(kind, negatives=negatives, block_size=block_size)
        assert_same(by_everything(call)(*given), whole)


def test_explicitly_sharded_embeddings(x64):
    mesh = jax.make_mesh((DEVICES,), (AXIS,), (AxisType.Explicit,), devices=jax.devices()[:DEVICES])

    def call(p, z, recordings):
        return both(p, z, TAU, recordings, None, negatives="current", reduction="none")

    given = (*embeddings(7), jnp.asarray(RECORDINGS))
    want = call(*given)
    with jax.set_mesh(mesh):
        found = jax.jit(call)(*(jax.device_put(x, P(AXIS)) for x in given))
    assert all(x.sharding.spec == P(AXIS) for x in found)
    for ours, theirs in zip(found, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_half_precision_is_compared_in_single():
    by = by_everything(both, negatives="same")
    for dtype in (jnp.float16, jnp.bfloat16):
        p, z = embeddings(8, dtype)
        with jax.numpy_dtype_promotion("strict"):
            found, gradients = by(p, z, jnp.float32(TAU), RECORDINGS, GROUPS)
        assert {x.dtype for x in found} == {jnp.dtype("float32")}
        single = (x.astype(jnp.float32) for x in (p, z))
        wanted, wanted_gradients = by(*single, jnp.float32(TAU), RECORDINGS, GROUPS)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        for ours, theirs in zip(gradients[:2], wanted_gradients[:2], strict=True):
            assert ours.dtype == dtype
            atol = 2 * float(jnp.finfo(dtype).eps) * np.abs(theirs).max()
            np.testing.assert_allclose(ours.astype(jnp.float32), theirs, atol=atol)


def test_large_norms_and_small_temperatures_are_finite():
    by = by_everything(both)
    for scale, tau in ((0.0, 1.0), (1.0, 1e-3), (1e4, 0.1)):
        p, z = (scale * x for x in embeddings(9, np.float32))
        found, gradients = by(p, z, tau, None, None)
        assert np.isfinite(found).all()
        assert all(np.isfinite(each).all() for each in gradients)


def test_a_temperature_out_of_its_range_gives_nan_where_it_is_traced():
    (loss, _), gradients = by_everything(both)(*embeddings(10, np.float32), -TAU, None, None)
    assert np.isnan(loss)
    assert np.isnan(gradients[0]).all()


@pytest.mark.parametrize("function", [objectives.predictive_loss, objectives.predictive_accuracy])
def test_what_is_refused(function):
    p, z = embeddings(0, np.float32)

    def refused(error, message, p=p, z=z, temperature=1.0, **options):
        with pytest.raises(error, match=message):
            function(p, z, temperature, **options)

    shapes = functools.partial(refused, AssertionError)
    shapes(r"prediction has shape \(3,\), z has shape \(12, 3\); both must be \[batch, dim\]", p[0])
    shapes(r"prediction has shape \(12, 3\), z has shape \(11, 3\)", z=z[1:])
    shapes(r"prediction has type int32 and shape \(12, 3\); it must be floating", p.astype(int))
    shapes(
        r"recordings has shape \(11,\), not \[n\] = \(12,\)",
        negatives="current",
        recordings=RECORDINGS[1:],
    )
    shapes(
        "groups has type float32; they must be whole numbers",
        negatives="same",
        groups=np.float32(GROUPS),
    )
    values = functools.partial(refused, ValueError)
    values(r"z has shape \(0, 3\); a loss needs an embedding", p[:0], z[:0])
    values("temperature=0 is out of range.*> 0", temperature=0.0)
    values("negatives='other' is unknown; it must be one of mixed, mixed_exc", negatives="other")
    values("recordings=None is what negatives='current' are told by", negatives="current")
    values(
        "groups=None is what negatives='same_excluded' are told by; give",
        negatives="same_excluded",
        recordings=RECORDINGS,
    )
    values("reduction='all' is unknown", reduction="all")
    values("block_size=0 must be a whole number", block_size=0)
    with pytest.raises(NameError, match="devices"):
        function(p, z, axis_name="devices")
