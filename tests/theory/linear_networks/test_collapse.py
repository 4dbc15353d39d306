"""Dimensional collapse: the flows against autodiff, their solutions, rates and invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import alphacl_jax as acl
from alphacl_jax.theory.linear_networks import collapse, pca


def matrix(eigenvalues, seed=0):
    size = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    return jnp.asarray(basis * np.asarray(eigenvalues) @ basis.T), basis


@pytest.mark.parametrize(
    ("velocity", "widths"),
    [(collapse.one_layer_velocity, (5, 3)), (collapse.two_layer_velocity, (5, 4, 3))],
)
def test_velocities_are_half_the_gradient_of_the_energy_and_the_descent_of_the_loss(
    x64, velocity, widths
):
    x, x_pos = pca.gaussian_views(jax.random.key(0), jnp.ones(5), jnp.full(5, 0.3), 10)
    layers = pca.gaussian_layers(jax.random.key(1), widths)
    family = acl.families.info_nce(0.7)

    def loss(layers):
        w = pca.end_to_end(layers)
        return acl.contrastive_loss(x @ w.T, x_pos @ w.T, family, negatives="same_view")

    @jax.jit
    def compute(layers):
        # α of the loss at these weights, not at the inputs.
        w = pca.end_to_end(layers)
        alpha = acl.pairwise_importance(x @ w.T, x_pos @ w.T, family, negatives="same_view") / 10
        x_alpha = acl.contrastive_covariance(x, x_pos, alpha)
        of_energy = jax.grad(pca.linear_energy)(layers, x_alpha)
        return velocity(layers, x_alpha), of_energy, jax.grad(loss)(layers)

    for ours, energy, descent in zip(*compute(layers), strict=True):
        np.testing.assert_allclose(ours, 0.5 * energy, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(ours, -descent, rtol=1e-9, atol=1e-12)


def test_one_layer_solution_is_the_matrix_exponential_and_what_the_solver_finds(x64):
    x_alpha, _ = matrix([1.0, 0.3, -0.5, -2.0])
    (w,) = pca.gaussian_layers(jax.random.key(0), (4, 3))
    times = jnp.array([0.0, 0.7, 2.0])
    closed = collapse.one_layer_solution(w, x_alpha, times)
    for t, found in zip(times, closed, strict=True):
        np.testing.assert_allclose(found, w @ expm(float(t) * np.asarray(x_alpha)), rtol=1e-10)
    (solved,) = collapse.flow(collapse.one_layer_velocity, (w,), x_alpha, times)
    np.testing.assert_allclose(solved, closed, atol=1e-7)


def test_one_layer_loses_as_many_ranks_as_x_has_negative_eigenvalues(x64):
    x_alpha, _ = matrix([1.0, 0.5, 0.2, -0.5, -1.0])
    (w,) = pca.gaussian_layers(jax.random.key(0), (5, 5))
    w_end = collapse.one_layer_solution(w, x_alpha, jnp.array([20.0]))[0]
    sigma = np.linalg.svd(w_end, compute_uv=False)
    # The weights read nothing along the eigenvectors with negative eigenvalues, but for rounding
    # of the ones that grew.
    values, vectors = np.linalg.eigh(x_alpha)
    assert np.linalg.norm(w_end @ vectors[:, values < 0]) < 1e-3
    assert sigma[2] > 10.0


def test_aligned_layers_follow_the_closed_form(x64):
    rates = jnp.array([1.5, 0.8, -0.6])
    x_alpha, basis = matrix(rates)
    sigma = jnp.array([0.4, 0.5, 0.6])
    mix = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (3, 3)))[0]
    layers = (mix @ (sigma[:, None] * basis.T), sigma[:, None] * mix.T)
    times = jnp.linspace(0.0, 1.2, 7)
    w1, w2 = collapse.flow(collapse.two_layer_velocity, layers, x_alpha, times)
    expected = np.sort(collapse.aligned_singular_values(sigma, rates, times), axis=1)[:, ::-1]
    for path in (w1, w2):
        np.testing.assert_allclose(jnp.linalg.svd(path, compute_uv=False), expected, rtol=1e-7)
    # By the other clock the same curve is passed through, at the times that it tells.
    arc = jnp.linspace(0.0, 0.3, 5)
    when, (v1, _) = collapse.relative_flow(collapse.two_layer_velocity, layers, x_alpha, arc)
    expected = np.sort(collapse.aligned_singular_values(sigma, rates, when), axis=1)[:, ::-1]
    np.testing.assert_allclose(jnp.linalg.svd(v1, compute_uv=False), expected, rtol=1e-6)
    change = np.diff(when)
    assert np.all(change > 0)


@pytest.mark.slow
def test_growing_layers_align_and_then_grow_at_the_closed_form_rates(x64):
    x_alpha, _ = matrix([1.0, 0.9, 0.05, 0.02])
    layers = pca.gaussian_layers(jax.random.key(3), (4, 4, 4))
    layers = jax.tree.map(lambda w: 0.1 * w, layers)
    arc = jnp.linspace(0.0, 6.0, 13)
    _, path = collapse.relative_flow(collapse.two_layer_velocity, layers, x_alpha, arc)
    w1, w2 = path
    invariant = w1 @ w1.mT - w2.mT @ w2
    np.testing.assert_allclose(invariant, np.broadcast_to(invariant[0], (13, 4, 4)), atol=1e-6)
    end = jax.tree.map(lambda p: p[-1], path)
    before, after = (
        float(collapse.alignment_matrix(*jax.tree.map(lambda p, i=i: p[i], path))[0, 0])
        for i in (0, -1)
    )
    assert after > 0.9999 > 0.99 > before
    # σ̇ is the derivative of the singular values along the velocity.
    moves = collapse.two_layer_velocity(end, x_alpha)
    predicted = collapse.closed_form_rates(*end, x_alpha)
    for w, move, rates in zip(end, moves, predicted, strict=True):
        _, derivative = jax.jvp(lambda v: jnp.linalg.svd(v, compute_uv=False), (w,), (move,))
        np.testing.assert_allclose(derivative[0], rates[0], rtol=1e-3)


def test_alignment_and_rates_of_hand_made_layers(x64):
    w1 = jnp.diag(jnp.array([3.0, 2.0, 1.0]))
    w2 = jnp.diag(jnp.array([1.0, 4.0, 2.0]))  # its first right vector is the second axis
    np.testing.assert_allclose(
        collapse.alignment_matrix(w1, w2), [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-12
    )
    first, second = collapse.closed_form_rates(w1, w2, jnp.diag(jnp.array([0.5, 1.0, 2.0])))
    np.testing.assert_allclose(first, [3 * 16 * 0.5, 2 * 4 * 1.0, 1 * 1 * 2.0])
    np.testing.assert_allclose(second, [4 * 9 * 0.5, 2 * 4 * 1.0, 1 * 1 * 2.0])
    assert collapse.alignment_matrix(jnp.ones((4, 3)), jnp.ones((2, 4))).shape == (2, 2)


@pytest.mark.slow
def test_training_is_gradient_descent_on_the_loss(x64):
    x, x_pos = pca.gaussian_views(jax.random.key(0), jnp.ones(3), jnp.full(3, 0.1), 6)
    layers = pca.gaussian_layers(jax.random.key(1), (3, 3, 2))
    family = acl.families.info_nce()
    path, losses = collapse.train(layers, x, x_pos, family, 0.1, 4, 2)
    assert losses.shape == (3,)
    assert [p.shape for p in path] == [(3, 3, 3), (3, 2, 3)]

    def loss(layers):
        z, z_pos = (v @ layers[0].T @ layers[1].T for v in (x, x_pos))
        return acl.contrastive_loss(z, z_pos, family, negatives="same_view")

    by_hand, slope = layers, jax.jit(jax.grad(loss))
    for _ in range(4):
        gradient = slope(by_hand)
        by_hand = jax.tree.map(lambda w, g: w - 0.1 * g, by_hand, gradient)
    for ours, expected in zip(path, by_hand, strict=True):
        np.testing.assert_allclose(ours[-1], expected, rtol=1e-10)
    np.testing.assert_allclose(losses[-1], jax.jit(loss)(by_hand), rtol=1e-10)


def test_steps_that_do_not_divide_are_named():
    x = jnp.ones((4, 3))
    layers = pca.gaussian_layers(jax.random.key(0), (3, 2))
    with pytest.raises(ValueError, match="steps=5 must be a positive multiple of records=2"):
        collapse.train(layers, x, x, acl.families.info_nce(), 0.1, 5, 2)
