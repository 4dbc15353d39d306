"""Over eight devices, value and gradient are those of one device."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import alphacl_jax as acl
from tests.cases import family, objectives, rule, views

DEVICES, N, DIM = 8, 16, 3
MAPS = ("pmap", "shard_map", "vmap")
SLOW = pytest.mark.slow
FAST_MAPS = ("shard_map", pytest.param("pmap", marks=SLOW), pytest.param("vmap", marks=SLOW))
AXIS = "batch"
# Backprop α has the same collectives as the loss with α stopped: the solved rules stand for it.
LOSSES = {
    name: loss
    for name, loss in objectives().items()
    if not name.startswith("backprop") or name in ("backprop_inverse", "backprop_direct")
}
# One of each kind: in the log domain, by (φ, ψ) as given, a softmax, a solve, a user's solve.
KINDS = ("info_nce", "triplet", "alpha_direct", "backprop_inverse", "alpha_regularized")
WEIGHTS = np.random.default_rng(0).normal(size=len(LOSSES))


def per_device(x):
    return x.reshape(DEVICES, -1, *x.shape[1:])


def mesh():
    return jax.make_mesh((DEVICES,), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))


def over_devices(function, kind, gathered=False):
    """`function(z, z_pos)`, its arguments spread over devices; results once, or stacked by device.

    A result that is the same on all devices is returned once (pmap and vmap: the last device's);
    with `gathered` the local results come back as `[devices, ...]`.
    """
    if kind == "shard_map":

        def local(z, z_pos):
            out = function(z, z_pos)
            return jax.tree.map(lambda x: x[None], out) if gathered else out

        out_specs = P(AXIS) if gathered else P()
        return jax.jit(
            jax.shard_map(local, mesh=mesh(), in_specs=(P(AXIS), P(AXIS)), out_specs=out_specs)
        )
    mapped = (jax.pmap if kind == "pmap" else jax.vmap)(function, axis_name=AXIS)

    def call(z, z_pos):
        out = mapped(per_device(z), per_device(z_pos))
        return out if gathered else jax.tree.map(lambda x: x[-1], out)

    return call if kind == "pmap" else jax.jit(call)


def losses_of(names):
    return lambda z, z_pos, **options: jnp.stack([LOSSES[n](z, z_pos, **options) for n in names])


def value_and_grad(function):
    """Values `[losses]`, and the gradient of a random combination of them."""

    def combined(z, z_pos):
        values = function(z, z_pos)
        return jnp.dot(values, WEIGHTS[: len(values)]), values

    return jax.value_and_grad(combined, argnums=(0, 1), has_aux=True)


@functools.cache
def single(names):
    return jax.device_get(jax.jit(value_and_grad(losses_of(names)))(*views(0, N, DIM)))


def check_against_one_device(names, kind, block_size=None):
    z, z_pos = views(0, N, DIM)
    (_, want), want_gradients = single(names)
    local = functools.partial(losses_of(names), axis_name=AXIS, block_size=block_size)
    (_, values), gradients = jax.jit(value_and_grad(over_devices(local, kind)))(z, z_pos)
    for name, value, target in zip(names, values, want, strict=True):
        np.testing.assert_allclose(value, target, rtol=1e-10, err_msg=name)
    for ours, theirs in zip(gradients, want_gradients, strict=True):
        assert np.abs(theirs).min() > 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", FAST_MAPS)
def test_each_kind_of_loss_and_rule(kind, x64):
    check_against_one_device(KINDS, kind)


@pytest.mark.slow
def test_each_kind_of_loss_and_rule_in_blocks(x64):
    check_against_one_device(KINDS, "shard_map", block_size=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAPS)
def test_every_loss_and_rule_in_every_map(kind, x64):
    check_against_one_device(tuple(LOSSES), kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAPS)
def test_every_loss_and_rule_in_blocks_in_every_map(kind, x64):
    check_against_one_device(tuple(LOSSES), kind, block_size=3)


def chosen_losses(z, z_pos, **options):
    return losses_of(("info_nce", "alpha_direct"))(z, z_pos, **options)


def test_several_seeds_around_a_shard_map_in_blocks(x64):
    seeds = [jnp.stack(v) for v in zip(views(20, N, DIM), views(21, N, DIM), strict=True)]
    mapped = over_devices(
        functools.partial(chosen_losses, axis_name=AXIS, block_size=3), "shard_map"
    )
    got = jax.jit(jax.vmap(value_and_grad(mapped)))(*seeds)
    want = jax.jit(jax.vmap(value_and_grad(chosen_losses)))(*seeds)
    chex.assert_trees_all_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["shard_map", *(pytest.param(k, marks=pytest.mark.slow) for k in ("pmap", "vmap"))]
)
def test_an_axis_of_one_device_in_blocks(kind, x64):
    """All candidates are local then, so that each pair is visited once."""
    z, z_pos = views(22, 5, DIM)
    local = functools.partial(chosen_losses, axis_name=AXIS, block_size=1)
    if kind == "shard_map":
        one = jax.make_mesh(
            (1,), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1]
        )
        mapped = jax.shard_map(local, mesh=one, in_specs=(P(AXIS), P(AXIS)), out_specs=P())
    else:
        mapped = jax.pmap if kind == "pmap" else jax.vmap
        mapped = functools.partial(
            lambda f, z, p: f(z[None], p[None])[0], mapped(local, axis_name=AXIS)
        )
    got = jax.jit(value_and_grad(mapped))(z, z_pos)
    want = jax.jit(value_and_grad(chosen_losses))(z, z_pos)
    chex.assert_trees_all_close(
        jax.tree.map(np.asarray, got), jax.tree.map(np.asarray, want), rtol=1e-9, atol=1e-12
    )


def other_layouts(z, z_pos, array, mask, **options):
    """A loss in each of the other layouts, two of them as sums, two of them in blocks."""
    info_nce, direct = family("info_nce"), rule("direct")
    return jnp.stack(
        [
            acl.contrastive_loss(
                z, z_pos, info_nce, negatives="same_view", reduction="sum", **options
            ),
            acl.alpha_cl_loss(z, z_pos, direct, negatives="cross_view", block_size=1, **options),
            acl.alpha_cl_loss(z, z_pos, direct, negatives=array, reduction="sum", **options),
            acl.contrastive_loss(
                z, z_pos, info_nce, negatives=(array, mask), block_size=1, **options
            ),
        ]
    )


@functools.cache
def other_layouts_on_one_device():
    function = functools.partial(other_layouts, array=ARRAY, mask=MASK)
    return jax.device_get(jax.jit(value_and_grad(function))(*views(1, N, DIM)))


ARRAY = views(2, 5, DIM)[0]
MASK = np.random.default_rng(3).random((N, 5)) < 0.7


@pytest.mark.parametrize("kind", FAST_MAPS)
def test_other_layouts_sum_and_blocks(kind, x64):
    z, z_pos = views(1, N, DIM)
    (_, want), want_gradients = other_layouts_on_one_device()

    def local(z, z_pos):
        first = jax.lax.axis_index(AXIS) * z.shape[0]
        part = jax.lax.dynamic_slice_in_dim(jnp.asarray(MASK), first, z.shape[0])
        return other_layouts(z, z_pos, ARRAY, part, axis_name=AXIS)

    (_, values), gradients = jax.jit(value_and_grad(over_devices(local, kind)))(z, z_pos)
    np.testing.assert_allclose(values, want, rtol=1e-10)
    for ours, theirs in zip(gradients, want_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", FAST_MAPS)
def test_local_rows_and_statistics(kind, x64):
    """`"none"` and α give the local anchors, both views of them; statistics are global."""
    z, z_pos = views(4, N, DIM)

    def everything(z, z_pos, **options):
        chosen = rule("direct")
        return {
            "values": acl.alpha_cl_loss(z, z_pos, chosen, reduction="none", **options),
            "alpha": acl.pairwise_importance(z, z_pos, chosen, **options),
            "losses": acl.contrastive_loss(
                z, z_pos, family("triplet"), reduction="none", negatives="same_view", **options
            ),
            "statistics": acl.statistics(z, z_pos, family("mine"), **options),
        }

    want = jax.jit(everything)(z, z_pos)
    got = over_devices(functools.partial(everything, axis_name=AXIS), kind, gathered=True)(z, z_pos)
    local = N // DEVICES
    chex.assert_shape(got["alpha"], (DEVICES, 2 * local, 2 * N))
    for name in ("values", "alpha"):
        # [devices, (view, local sample), ...] -> [(view, device, local sample), ...]
        rows = np.asarray(got[name]).reshape(DEVICES, 2, local, -1)
        rows = rows.swapaxes(0, 1).reshape(np.shape(want[name]))
        np.testing.assert_allclose(rows, want[name], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got["losses"].reshape(-1), want["losses"], rtol=1e-9, atol=1e-12)
    for name, target in want["statistics"].items():
        np.testing.assert_allclose(
            got["statistics"][name], np.full(DEVICES, target), rtol=1e-10, err_msg=name
        )


def embed(parameters, x):
    return acl.l2_normalize(jnp.tanh(x @ parameters))


def loss_of(parameters, x, x_pos, **options):
    return acl.alpha_cl_loss(
        embed(parameters, x), embed(parameters, x_pos), rule("direct"), **options
    )


@pytest.mark.parametrize("kind", ["pmap", "vmap"])
def test_gradient_inside_the_map(kind, x64):
    """The documented pattern, pmean(grad(global loss)) by parameters that all devices have."""
    x, x_pos = views(5, N, DIM)
    parameters = np.random.default_rng(6).normal(size=(DIM, 2))
    want = jax.jit(jax.grad(loss_of))(parameters, x, x_pos)

    def local(x, x_pos):
        gradient = jax.grad(functools.partial(loss_of, axis_name=AXIS))(parameters, x, x_pos)
        return jax.lax.pmean(gradient, AXIS)

    got = over_devices(local, kind)(x, x_pos)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("checked", [True, False])
def test_gradient_inside_a_shard_map_by_replicated_parameters(checked, x64):
    """The same pattern, where shard_map is told by P() that the parameters are replicated."""
    x, x_pos = views(5, N, DIM)
    parameters = np.random.default_rng(6).normal(size=(DIM, 2))

    def local(parameters, x, x_pos):
        gradient = jax.grad(functools.partial(loss_of, axis_name=AXIS))(parameters, x, x_pos)
        return jax.lax.pmean(gradient, AXIS)

    mapped = jax.shard_map(
        local, mesh=mesh(), in_specs=(P(), P(AXIS), P(AXIS)), out_specs=P(), check_vma=checked
    )
    got = jax.jit(mapped)(parameters, x, x_pos)
    want = jax.jit(jax.grad(loss_of))(parameters, x, x_pos)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_two_mapped_axes(x64):
    z, z_pos = views(7, N, DIM)
    chosen = rule("direct")
    grid = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spread = P(("a", "b"))
    mapped = jax.shard_map(
        lambda z, z_pos: acl.alpha_cl_loss(z, z_pos, chosen, axis_name=("a", "b")),
        mesh=grid,
        in_specs=(spread, spread),
        out_specs=P(),
    )
    got = jax.jit(jax.value_and_grad(mapped))(z, z_pos)
    want = jax.jit(jax.value_and_grad(lambda z, p: acl.alpha_cl_loss(z, p, chosen)))(z, z_pos)
    chex.assert_trees_all_close(got, want, rtol=1e-9, atol=1e-12)


def test_one_sample_on_each_device_has_the_other_devices_as_negatives(x64):
    z, z_pos = views(8, DEVICES, DIM)
    want = jax.jit(value_and_grad(chosen_losses))(z, z_pos)
    for block_size in (None, 1):
        local = functools.partial(chosen_losses, axis_name=AXIS, block_size=block_size)
        got = jax.jit(value_and_grad(over_devices(local, "vmap")))(z, z_pos)
        chex.assert_trees_all_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("block_size", [None, 1])
@pytest.mark.parametrize("function", [acl.contrastive_loss, acl.alpha_cl_loss, acl.statistics])
def test_an_axis_that_does_not_exist_is_named(function, block_size):
    chosen = rule("direct") if function is acl.alpha_cl_loss else family("mine")
    z, z_pos = views(8, 3, DIM, np.float32)
    with pytest.raises(NameError, match="devices"):
        function(z, z_pos, chosen, axis_name="devices", block_size=block_size)


def test_a_batch_that_the_devices_do_not_divide_is_refused_with_the_numbers():
    local = functools.partial(chosen_losses, axis_name=AXIS, block_size=1)
    with pytest.raises(ValueError, match=r"(?s)15.*evenly divisible.*8|8.*evenly.*15"):
        over_devices(local, "shard_map")(*views(8, 15, DIM, np.float32))


def test_views_that_differ_in_shape_are_named():
    with pytest.raises(AssertionError, match=r"z has shape \(2, 3\), z_pos has shape \(1, 3\)"):
        jax.vmap(
            lambda z, z_pos: acl.contrastive_loss(z, z_pos, family("mine"), axis_name=AXIS),
            axis_name=AXIS,
        )(np.ones((2, 2, 3)), np.ones((2, 1, 3)))
