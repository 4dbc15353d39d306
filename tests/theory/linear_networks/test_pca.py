"""Linear networks: the energy is PCA's, and its maximisers are what the theorems say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax.theory.linear_networks import pca

# One dimension whose eigenvalue is largest in size and negative.
EIGENVALUES = np.array([2.0, 1.2, 0.7, 0.1, -0.4, -2.5])


def symmetric(eigenvalues=EIGENVALUES, seed=0):
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    return jnp.asarray(basis * eigenvalues @ basis.T), basis


def test_the_energy_of_the_weights_is_that_of_the_embeddings(x64):
    x, x_pos = pca.gaussian_views(jax.random.key(0), jnp.ones(5), jnp.full(5, 0.3), 12)
    rule = acl.rules.entropy(0.7)
    layers = pca.gaussian_layers(jax.random.key(1), (5, 4, 3))

    @jax.jit
    def compute(x, x_pos):
        w = layers[1] @ layers[0]
        alpha = acl.pairwise_importance(x, x_pos, rule, negatives="same_view") / 12
        return pca.input_covariance(x, x_pos, rule), acl.energy(x @ w.T, x_pos @ w.T, alpha)

    x_alpha, expected = compute(x, x_pos)
    np.testing.assert_allclose(pca.linear_energy(layers, x_alpha), expected, rtol=1e-12)
    np.testing.assert_array_equal(x_alpha, x_alpha.T)


def test_views_have_the_variances_asked_for(x64):
    variances, noise = jnp.array([4.0, 1.0]), jnp.array([0.0, 2.0])
    x, x_pos = pca.gaussian_views(jax.random.key(0), variances, noise, 20_000)
    np.testing.assert_array_equal(x[:, 0], x_pos[:, 0])
    np.testing.assert_allclose(jnp.var(x, axis=0), variances + noise, rtol=0.05)
    np.testing.assert_allclose(jnp.var(x - x_pos, axis=0), 2 * noise, rtol=0.05)


def test_uniform_alpha_of_many_samples_is_twice_the_covariance(x64):
    variances = jnp.array([4.0, 1.0, 0.25])
    x, x_pos = pca.gaussian_views(jax.random.key(0), variances, jnp.full(3, 0.5), 2000)
    x_alpha = jax.jit(pca.input_covariance, static_argnums=2)(x, x_pos, acl.rules.uniform())
    np.testing.assert_allclose(x_alpha, 2 * np.diag(variances), atol=0.3)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_one_orthonormal_layer_finds_the_top_k_even_where_they_are_negative(x64, k):
    x_alpha, basis = symmetric()
    keys = jax.random.split(jax.random.key(0), 4)
    starts = jax.vmap(lambda key: jax.random.normal(key, (k, 6)))(keys)
    last, energies = jax.vmap(pca.ascend_orthonormal, (0, None, None, None))(
        starts, x_alpha, 0.2, 800
    )
    np.testing.assert_allclose(energies[:, -1], EIGENVALUES[:k].sum(), atol=1e-10)
    np.testing.assert_allclose(last @ last.mT, np.broadcast_to(np.eye(k), (4, k, k)), atol=1e-12)
    angles = jax.vmap(pca.largest_angle, (0, None))(last, jnp.asarray(basis.T[:k]))
    assert np.max(angles) < 1e-6
    assert np.all(np.diff(energies, axis=1) > -1e-12)
    assert np.min(energies[:, -1] - energies[:, 0]) > 1e-3


def test_the_step_is_half_the_tangent_gradient(x64):
    x_alpha, _ = symmetric()
    w = pca.orthonormalize(jax.random.normal(jax.random.key(0), (2, 6)))
    after, _ = pca.ascend_orthonormal(w, x_alpha, 1e-6, 1)
    gradient = 0.5 * jax.grad(lambda v: pca.linear_energy((v,), x_alpha))(w)
    tangent = gradient - gradient @ w.T @ w
    # QR is free in the sign of each row.
    signs = jnp.sign(jnp.sum(after * w, axis=1, keepdims=True))
    np.testing.assert_allclose((signs * after - w) / 1e-6, tangent, atol=1e-4)


@jax.jit
def deep(layers, x_alpha, top, per_filter, scale_free):
    """Many starts, with all that is measured of the last layers: compiled once for every case."""

    def one(layers):
        last, energies = pca.ascend_deep(
            layers, x_alpha, 0.2, 2000, per_filter=per_filter, scale_free=scale_free
        )
        alignments = pca.top_alignments(last, top)
        return (
            last,
            energies,
            pca.rank_one_residuals(last),
            alignments,
            pca.sign_deviations(last),
        )

    return jax.vmap(one)(layers)


@pytest.mark.slow
@pytest.mark.parametrize("scale_free", [True, False])
@pytest.mark.parametrize("per_filter", [False, True])
def test_deep_networks_become_rank_one_and_aligned(x64, per_filter, scale_free):
    x_alpha, basis = symmetric(np.array([2.0, 1.2, 0.7, 0.3, 0.2, 0.1]))
    keys = jax.random.split(jax.random.key(0), 4)
    layers = jax.vmap(lambda key: pca.gaussian_layers(key, (6, 4, 3, 2)))(keys)
    last, energies, residuals, alignments, deviations = deep(
        layers, x_alpha, jnp.asarray(basis[:, 0]), per_filter, scale_free
    )
    np.testing.assert_allclose(energies[:, -1], 2.0, rtol=1e-9)
    assert np.max(residuals) < 1e-5
    np.testing.assert_allclose(alignments, 1.0, atol=1e-9)
    assert np.max(deviations) < 1e-6 if per_filter else np.min(deviations) > 1e-3
    for w in last:
        np.testing.assert_allclose(jnp.linalg.norm(w, axis=(1, 2)), 1.0, rtol=1e-12)


def test_measures_against_hand_made_layers(x64):
    v0, v1, v2 = np.array([1.0, 0.0, 0.0]), np.array([0.6, 0.8]), np.array([0.0, 1.0])
    layers = (jnp.asarray(np.outer(v1, v0)), jnp.asarray(np.outer(v2, v1)))
    np.testing.assert_allclose(pca.rank_one_residuals(layers), 0.0, atol=1e-12)
    np.testing.assert_allclose(pca.top_alignments(layers, jnp.asarray(v0)), 1.0)
    np.testing.assert_allclose(pca.sign_deviations(layers), 1 - 0.6 * np.sqrt(2))
    crossed = (layers[0], jnp.asarray(np.outer(v2, [0.8, -0.6])))
    np.testing.assert_allclose(pca.top_alignments(crossed, jnp.asarray(v0)), [1, 0], atol=1e-12)
    np.testing.assert_allclose(pca.rank_one_residuals((jnp.diag(jnp.array([4.0, 3.0])),)), [0.6])
    tilted = jnp.asarray([[np.cos(1e-5), np.sin(1e-5), 0.0]])
    np.testing.assert_allclose(pca.largest_angle(tilted, jnp.eye(3)[:1]), 1e-5, rtol=1e-9)


def test_a_layer_without_gradient_stays_finite(x64):
    x_alpha, _ = symmetric()
    layers = (jnp.eye(6)[:2], jnp.eye(2)[::-1] * jnp.array([[0.0], [1.0]]))
    dead = (layers[0], layers[1], jnp.array([[1.0, 0.0]]))  # W_3 W_2 = 0
    last, energies = pca.ascend_deep(dead, x_alpha, 0.1, 3)
    assert np.all(np.isfinite(energies))
    assert all(np.all(np.isfinite(w)) for w in last)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: pca.top_eigenvectors(x, 7), "k=7 must be between 1 and the dimension, 6"),
        (lambda x: pca.top_eigenvectors(x, 0), "k=0"),
        (lambda x: pca.orthonormalize(jnp.ones((7, 6))), "7 rows cannot be orthonormal in 6"),
        (lambda x: pca.gaussian_layers(jax.random.key(0), (6,)), "must name input and output"),
        (lambda x: pca.gaussian_layers(jax.random.key(0), (6, 0)), "each at least 1"),
        (lambda x: pca.sign_deviations((x,)), "one layer has no inner layers"),
        (
            lambda x: pca.gaussian_views(jax.random.key(0), jnp.ones(2), jnp.ones(2), 1),
            "samples=1 leaves no negative",
        ),
    ],
)
def test_impossible_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.eye(6))


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(AssertionError):
        pca.linear_energy((jnp.ones((2, 5)),), jnp.eye(6))
    with pytest.raises(AssertionError):
        pca.ascend_orthonormal(jnp.ones((2, 5)), jnp.eye(6), 0.1, 1)
    with pytest.raises(AssertionError):
        pca.gaussian_views(jax.random.key(0), jnp.ones(2), jnp.ones(3), 4)
