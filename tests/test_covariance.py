import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import alphacl_jax as acl
from tests import oracle
from tests.cases import FAMILIES, family, smooth_family, views

energy_of = jax.jit(acl.energy)
covariance_of = jax.jit(acl.contrastive_covariance)

# x64 is set for the whole of a test, so hypothesis may run many examples under it.
SETTINGS = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SEEDS = st.integers(0, 2**31)


def random_alpha(seed, size):
    """Positive, and not 0 where it has to be ignored."""
    return np.random.default_rng(seed).uniform(0.1, 1.0, (size, size))


@pytest.mark.parametrize("views_of_alpha", [1, 2])
def test_covariance_of_two_signals(views_of_alpha, x64):
    (x, x_pos), (y, y_pos) = views(0, 5, 3), views(1, 5, 2)
    alpha = random_alpha(2, views_of_alpha * 5)
    got = covariance_of(x, x_pos, alpha, y, y_pos)
    assert got.shape == (3, 2)
    want = oracle.covariance(x, x_pos, alpha, y, y_pos)
    np.testing.assert_allclose(got, want, rtol=1e-10)
    got = covariance_of(x, x_pos, alpha)
    np.testing.assert_allclose(got, oracle.covariance(x, x_pos, alpha, x, x_pos), rtol=1e-10)
    np.testing.assert_allclose(got, got.T, rtol=1e-10)


@pytest.mark.parametrize("views_of_alpha", [1, 2])
def test_trace_of_the_covariance_is_the_energy(views_of_alpha, x64):
    z, z_pos = views(3, 5, 3)
    alpha = random_alpha(4, views_of_alpha * 5)
    energy = energy_of(z, z_pos, alpha)
    np.testing.assert_allclose(np.trace(covariance_of(z, z_pos, alpha)), energy, rtol=1e-12)
    layout = "same_view" if views_of_alpha == 1 else "both_views"
    d_pos, d_neg, _ = oracle.distances(z, z_pos, layout)
    want = 2 * sum(
        alpha[i, j] * (d - d_pos[i]) for i, row in enumerate(d_neg) for j, d in row.items()
    )
    np.testing.assert_allclose(energy, want, rtol=1e-12)


def test_entries_at_non_negatives_are_ignored(x64):
    z, z_pos = views(5, 4, 3)
    for size, none in ((4, np.eye(4)), (8, np.tile(np.eye(4), (2, 2)))):
        alpha = random_alpha(6, size)
        spoiled = np.where(none, np.nan, alpha)
        for function in (energy_of, covariance_of):
            want = function(z, z_pos, alpha)
            np.testing.assert_array_equal(function(z, z_pos, spoiled), want)
            np.testing.assert_array_equal(function(z, z_pos, np.where(none, 0, alpha)), want)
        gradient = jax.jit(jax.grad(acl.energy))(z, z_pos, spoiled)
        chex.assert_tree_all_finite(gradient)


class VariantsTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_energy(self):
        z, z_pos = views(7, 4, 3, np.float32)
        alpha = random_alpha(8, 8).astype(np.float32)
        got = self.variant(acl.energy)(z, z_pos, alpha)
        covariance = self.variant(acl.contrastive_covariance)(z, z_pos, alpha)
        want = np.trace(oracle.covariance(z, z_pos, alpha, z, z_pos))
        np.testing.assert_allclose([got, np.trace(covariance)], want, rtol=1e-4)
        assert got.dtype == covariance.dtype == jnp.float32


@functools.partial(jax.jit, static_argnames="layout")
def losses_and_energies(z, z_pos, scale, layout):
    """∇L, and −½∇E at the frozen α, of every family: one compilation per shape."""
    both = {}
    for name, parameters in [*FAMILIES.items(), ("user", None)]:
        if parameters is None:
            chosen = smooth_family()
        else:
            chosen = family(name, *(scale * p for p in parameters))

        def loss(z, z_pos, chosen=chosen):
            return acl.contrastive_loss(z, z_pos, chosen, negatives=layout, reduction="sum")

        def negative_half_energy(z, z_pos, chosen=chosen):
            alpha = acl.pairwise_importance(z, z_pos, chosen, negatives=layout)
            return -0.5 * acl.energy(z, z_pos, jax.lax.stop_gradient(alpha))

        both[name] = tuple(
            jax.grad(f, argnums=(0, 1))(z, z_pos) for f in (loss, negative_half_energy)
        )
    return both


def check_theorem(layout, n, dim, seed, scale):
    z, z_pos = views(seed, n, dim)
    for name, (of_loss, of_energy) in losses_and_energies(z, z_pos, scale, layout).items():
        size = 1 + max(np.abs(g).max() for g in of_loss)
        for ours, theirs in zip(of_loss, of_energy, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * size, err_msg=name)


@SETTINGS
@given(SEEDS, st.floats(0.1, 3.0))
def test_gradient_of_a_loss_is_that_of_the_energy_at_frozen_importance(x64, seed, scale):
    """The theorem: ∇L = −½ ∇E_sg(α), by every family."""
    check_theorem("both_views", 4, 3, seed, scale)


@pytest.mark.slow
@SETTINGS
@given(
    st.sampled_from(["both_views", "same_view"]),
    st.sampled_from([2, 3, 7]),
    st.sampled_from([1, 5]),
    SEEDS,
    st.floats(0.1, 3.0),
)
def test_the_same_over_shapes_and_layouts(x64, layout, n, dim, seed, scale):
    check_theorem(layout, n, dim, seed, scale)


@jax.jit
def invariants(z, z_pos):
    """Every family's loss per anchor and energy, both views."""
    return {
        name: (
            acl.contrastive_loss(z, z_pos, family(name), reduction="none"),
            acl.energy(z, z_pos, acl.pairwise_importance(z, z_pos, family(name))),
        )
        for name in FAMILIES
    }


@SETTINGS
@given(SEEDS)
def test_permutation_rotation_and_shift(x64, seed):
    n, dim = 4, 3
    z, z_pos = views(seed, n, dim)
    generator = np.random.default_rng(seed)
    order = generator.permutation(n)
    rotation = np.linalg.qr(generator.normal(size=(dim, dim)))[0]
    shift = generator.normal(size=(1, dim))
    both_orders = np.concatenate([order, order + n])
    plain = invariants(z, z_pos)
    permuted = invariants(z[order], z_pos[order])
    moved = invariants(z @ rotation + shift, z_pos @ rotation + shift)
    swapped = invariants(z_pos, z)
    for name, (losses, energy) in plain.items():
        options = {"rtol": 1e-9, "atol": 1e-11, "err_msg": name}
        np.testing.assert_allclose(permuted[name][0], losses[both_orders], **options)
        np.testing.assert_allclose(moved[name][0], losses, **options)
        np.testing.assert_allclose(swapped[name][0], np.roll(losses, n), **options)
        for other in (permuted, moved, swapped):
            np.testing.assert_allclose(other[name][1], energy, **options)


def test_half_precision_is_summed_in_float32():
    z, z_pos = views(9, 4, 3, np.float32)
    z, z_pos = jnp.asarray(z, jnp.bfloat16), jnp.asarray(z_pos, jnp.bfloat16)
    alpha = jnp.asarray(random_alpha(9, 4), jnp.bfloat16)
    exact = [np.asarray(v, np.float64) for v in (z, z_pos, alpha)]
    assert energy_of(z, z_pos, alpha).dtype == jnp.float32
    want = oracle.covariance(*exact, *exact[:2])
    np.testing.assert_allclose(covariance_of(z, z_pos, alpha), want, rtol=1e-4)


def test_the_widest_of_all_types_is_used(x64):
    x, x_pos = views(10, 4, 3, np.float32)
    y, y_pos = views(11, 4, 2)
    alpha = random_alpha(10, 4)
    got = covariance_of(x, x_pos, alpha.astype(np.float32), y, y_pos)
    assert got.dtype == jnp.float64


Z = np.zeros((3, 2), np.float32)
A = np.zeros((3, 3), np.float32)


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, (Z, Z, A[:2]), r"alpha has shape \(2, 3\).*\[3, 3\].*\[6, 6\]"),
        (ValueError, (Z[:1], Z[:1], A[:1, :1]), "a batch of 1 has no negatives"),
        (ValueError, (Z, Z, A, Z), "give both or neither"),
        (AssertionError, (Z, Z[:2], A), r"z has shape \(3, 2\), z_pos has shape \(2, 2\)"),
        (AssertionError, (Z, Z, A, Z[:2], Z[:2]), r"x has 3 samples, y has shape \(2, 2\)"),
        (AssertionError, (Z, Z, A, Z, Z[:2]), r"\(3, 2\).*\(2, 2\)"),
        (AssertionError, (Z, Z, A.astype(int)), "int"),
    ],
)
def test_covariance_rejects(error, arguments, message):
    with pytest.raises(error, match=message):
        acl.contrastive_covariance(*arguments)


def test_energy_rejects_an_importance_of_another_shape():
    with pytest.raises(ValueError, match=r"alpha has shape \(4, 4\)"):
        acl.energy(Z, Z, np.zeros((4, 4), np.float32))
