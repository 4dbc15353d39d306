"""What a mask leaves out cannot matter, in value and gradient, whatever it holds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from jax.sharding import PartitionSpec as P

import alphacl_jax as acl
from tests.cases import family, objectives, rule, views

N, DIM, PADDING = 4, 3, 2
FILLERS = (np.nan, np.inf, -np.inf, 3e38)
LOSSES = {k: v for k, v in objectives().items() if not k.startswith("alpha_")}
# By (φ, ψ) as given, in the log domain, a softmax, a solved row, and the α of a loss.
KINDS = ("user_family", "info_nce", "backprop_direct", "backprop_square", "backprop_from_family")


def padded(filler):
    """Embeddings of which the last anchor and the last negatives are padding, and the mask."""
    z, z_pos = views(0, N, DIM, np.float32)
    array = np.concatenate([views(1, N, DIM, np.float32)[0], np.zeros((PADDING, DIM), np.float32)])
    mask = np.random.default_rng(2).random((N, len(array))) < 0.6
    mask[:, 0] = True
    mask[:, -PADDING:] = mask[-1] = False
    z[-1] = z_pos[-1] = array[-PADDING:] = filler
    return z, z_pos, array, mask


@functools.partial(jax.jit, static_argnames=("names", "block_size"))
def values_and_gradients(z, z_pos, array, mask, weights, names, block_size=None):
    """name -> ((Σ_i w_i L_i, losses of the anchors), gradients by z, z_pos and the negatives)."""

    def one(name):
        def total(z, z_pos, array):
            losses = LOSSES[name](
                z, z_pos, negatives=(array, mask), reduction="none", block_size=block_size
            )
            return jnp.dot(weights, losses), losses

        return jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)

    return {name: one(name)(z, z_pos, array) for name in names}


WEIGHTS = np.random.default_rng(3).normal(size=N).astype(np.float32)


@pytest.mark.parametrize(
    ("names", "block_size"),
    [
        (KINDS, None),
        (("info_nce", "backprop_direct"), 3),
        pytest.param(tuple(LOSSES), None, marks=pytest.mark.slow),
        pytest.param(tuple(LOSSES), 1, marks=pytest.mark.slow),
    ],
)
def test_padding_may_hold_anything(names, block_size):
    want = values_and_gradients(*padded(0.25), WEIGHTS, names, block_size)
    for filler in FILLERS:
        got = values_and_gradients(*padded(filler), WEIGHTS, names, block_size)
        for name in names:
            where = f"{name}, {filler}"
            (_, losses), gradients = got[name]
            np.testing.assert_array_equal(losses, want[name][0][1], err_msg=where)
            assert losses[-1] == 0, where
            assert np.abs(gradients[0]).max() > 0, where
            for ours, theirs in zip(gradients, want[name][1], strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=where)
            assert not np.any(gradients[0][-1]), where
            assert not np.any(gradients[2][-PADDING:]), where


def test_an_anchor_that_masks_a_broken_negative_does_not_see_it():
    """Another anchor, for which it counts, is NaN."""
    z, z_pos, array, mask = padded(0.25)
    mask[:, 3] = [True, False, False, False]
    others = np.asarray([0.0, *WEIGHTS[1:]], np.float32)
    want = values_and_gradients(z, z_pos, array, mask, others, KINDS)
    for filler in (np.nan, np.inf):
        array[3] = filler
        got = values_and_gradients(z, z_pos, array, mask, others, KINDS)
        for name in KINDS:
            (_, losses), gradients = got[name]
            assert np.isnan(losses[0]), name
            np.testing.assert_array_equal(losses[1:], want[name][0][1][1:], err_msg=name)
            for ours, theirs in zip(gradients[:2], want[name][1][:2], strict=True):
                np.testing.assert_array_equal(ours[1:], theirs[1:], err_msg=name)


def test_a_broken_negative_that_counts_reaches_value_and_gradient():
    z, z_pos, array, mask = padded(0.25)
    array[0, 1] = np.nan
    found = values_and_gradients(z, z_pos, array, mask, np.abs(WEIGHTS), KINDS)
    for name, ((total, _), gradients) in found.items():
        assert np.isnan(total), name
        assert np.isnan(gradients[0][:-1]).all(), name


def test_importance_and_statistics():
    chosen = {"rule": rule("inverse"), "family": family("info_nce")}

    @jax.jit
    def everything(z, z_pos, array, mask):
        options = {"negatives": (array, mask)}
        return {
            name: (
                acl.pairwise_importance(z, z_pos, c, **options),
                acl.statistics(z, z_pos, c, **options),
            )
            for name, c in chosen.items()
        }

    want, got = everything(*padded(0.25)), everything(*padded(np.nan))
    for name, (alpha, measures) in got.items():
        np.testing.assert_array_equal(alpha, want[name][0])
        for measure, value in measures.items():
            # The positives of all anchors are looked at: no mask is theirs.
            of_positives = measure in ("positive_distance", "alignment")
            target = np.nan if of_positives else want[name][1][measure]
            np.testing.assert_array_equal(value, target, err_msg=measure)


def sharded_losses(kind, devices):
    def local(z, z_pos, array, mask):
        options = {"negatives": (array, mask), "axis_name": "batch", "block_size": 1}
        nt_xent = acl.contrastive_loss(z, z_pos, family("info_nce"), **options)
        return nt_xent + acl.alpha_cl_loss(z, z_pos, rule("square"), **options)

    if kind == "shard_map":
        mesh = jax.make_mesh((devices,), ("batch",), (jax.sharding.AxisType.Auto,))
        specs = (P("batch"), P("batch"), P(), P("batch"))
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P())
    mapped = jax.vmap(local, in_axes=(0, 0, None, 0), axis_name="batch")
    split = lambda x: x.reshape(devices, -1, *x.shape[1:])  # noqa: E731
    return lambda z, z_pos, array, mask: mapped(split(z), split(z_pos), array, split(mask))[0]


@pytest.mark.parametrize("kind", ["shard_map", pytest.param("vmap", marks=pytest.mark.slow)])
def test_padding_where_the_batch_is_spread(kind):
    gradient = jax.jit(jax.value_and_grad(sharded_losses(kind, 2), argnums=(0, 1, 2)))
    clean = padded(0.25)
    (want, targets), (got, found) = gradient(*clean), gradient(*padded(np.nan))
    np.testing.assert_array_equal(got, want)
    for ours, theirs in zip(found, targets, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    z, z_pos, array, mask = clean
    nt_xent = acl.contrastive_loss(z, z_pos, family("info_nce"), negatives=(array, mask))
    alone = nt_xent + acl.alpha_cl_loss(z, z_pos, rule("square"), negatives=(array, mask))
    np.testing.assert_allclose(got, alone, rtol=1e-5)


def test_padding_gives_searches_for_nan_nothing_to_find():
    def loss(z, z_pos, array, mask):
        return acl.contrastive_loss(z, z_pos, family("info_nce"), negatives=(array, mask))

    gradient = jax.value_and_grad(loss, argnums=(0, 1, 2))
    with jax.debug_nans(True):
        jax.jit(gradient)(*padded(np.nan))
    error, _ = jax.jit(checkify.checkify(gradient, errors=checkify.nan_checks))(*padded(np.nan))
    assert error.get() is None


def test_a_rule_of_ones_own_does_not_meet_what_is_no_negative():
    """An anchor's other view lies 1e-3 from it, where e^{1/d²} and its slope overflow."""
    steep = acl.Rule(lambda d_neg, d_pos, mask: jnp.where(mask, jnp.exp(1 / d_neg), 0.0))

    @jax.jit
    @jax.value_and_grad
    def loss(z):
        return acl.alpha_cl_loss(z, z + 1e-3, steep, stop_gradient=False)

    value, gradient = loss(views(4, N, DIM, np.float32)[0])
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("block_size", [None, 1])
def test_what_is_excluded_has_no_slope_in_the_log_domain(block_size):
    """An anchor's other view lies at distance 0 from it, where √ has an infinite slope."""
    log_psi = lambda x: -jnp.sqrt(-x)  # noqa: E731
    in_log = acl.Family(jnp.positive, lambda x: jnp.exp(log_psi(x)), jnp.exp, log_psi)
    plain = acl.Family(jnp.positive, lambda x: jnp.exp(log_psi(x)))
    z = views(4, N, DIM, np.float32, unit=True)[0]

    @jax.jit
    @jax.grad
    def total(z):
        rule = acl.Rule(lambda d, d_pos, mask: jnp.exp(-jnp.sqrt(d)), log_weight=lambda d: -d)
        losses = [acl.contrastive_loss(z, z, f, block_size=block_size) for f in (in_log, plain)]
        own = acl.alpha_cl_loss(z, z, rule, stop_gradient=False)
        return losses[0] - losses[1] + own

    found = total(z)
    assert np.isfinite(found).all()
    own = jax.jit(
        jax.grad(
            lambda z: acl.alpha_cl_loss(
                z, z, acl.Rule(lambda d, d_pos, mask: jnp.exp(-jnp.sqrt(d))), stop_gradient=False
            )
        )
    )(z)
    np.testing.assert_allclose(found, own, atol=1e-5)
