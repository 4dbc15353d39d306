"""One nonlinear node: its energy and its local maxima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.nonlinear.activations import LINEAR, RELU, leaky_relu, monomial
from alphacl_jax.theory.nonlinear.local_maxima import (
    ascend,
    distinct_maxima,
    find_local_maxima,
    node_covariance,
    node_energy,
)
from alphacl_jax.theory.nonlinear.patterns import (
    NodeData,
)
from tests.theory.nonlinear.examples import easy_data, random_data


def brute_energy(w, data, h):
    """C_α[h(wᵀx)] by the double loop."""
    f, f_pos, alpha = h(data.x @ w), h(data.x_pos @ w), data.alpha
    total = 0.0
    for i in range(len(f)):
        for j in range(len(f)):
            if i != j:
                total += alpha[i, j] * ((f[i] - f[j]) ** 2 - (f[i] - f_pos[i]) ** 2)
    return total


@pytest.mark.parametrize("activation", [leaky_relu(0.2), monomial(3)])
def test_energy_is_degree_squared_times_the_covariance_of_the_node(activation, x64):
    data, w = random_data(), jnp.asarray([0.5, -1.2, 0.7])
    covariance = node_covariance(w, data, activation)
    expected = activation.degree**2 * brute_energy(
        np.asarray(w), NodeData(*map(np.asarray, data)), lambda u: np.asarray(activation.apply(u))
    )
    np.testing.assert_allclose(w @ covariance @ w, expected, rtol=1e-10)
    np.testing.assert_allclose(node_energy(w, data, activation), expected, rtol=1e-10)


@pytest.mark.parametrize(("activation", "both_views"), [(RELU, False), (monomial(3), True)])
def test_gradient_is_2p_a_w(activation, both_views, x64):
    data, w = random_data(both_views=both_views), jnp.asarray([0.5, -1.2, 0.7])
    gradient = jax.grad(node_energy)(w, data, activation)
    expected = 2 * activation.degree * node_covariance(w, data, activation) @ w
    np.testing.assert_allclose(gradient, expected, rtol=1e-9)


def test_linear_ascents_all_reach_the_top_eigenvector(x64):
    # α is random: this covariance is indefinite, and the power iteration would not do.
    data = random_data()
    data = data._replace(x_pos=3 * data.x_pos)
    values, vectors = np.linalg.eigh(node_covariance(jnp.ones(3), data, LINEAR))
    assert values[0] < 0
    assert abs(values[0]) > abs(values[-1])
    found = find_local_maxima(jax.random.key(1), data, LINEAR, num_starts=16)
    assert len(found.energies) == 1
    assert found.basins[0] == 1
    np.testing.assert_allclose(found.energies[0], values[-1], rtol=1e-9)
    np.testing.assert_allclose(abs(found.weights[0] @ vectors[:, -1]), 1, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("activation", [RELU, monomial(2)])
def test_nonlinear_maxima_are_the_patterns(activation, x64):
    patterns, data = easy_data()
    found = find_local_maxima(jax.random.key(1), data, activation, num_starts=8)
    cosines = np.abs(found.weights @ np.asarray(patterns).T)
    assert cosines.shape == (3, 3)
    assert set(cosines.argmax(axis=1)) == {0, 1, 2}
    assert (cosines.max(axis=1) > 0.97).all()
    assert (np.diff(found.energies) <= 0).all()
    expected = [node_energy(jnp.asarray(w), data, activation) for w in found.weights]
    np.testing.assert_allclose(found.energies, expected, rtol=1e-9)


def test_ascents_never_fall_and_more_steps_rise_more(x64):
    _, data = easy_data(cosine=0.0)
    starts = jax.random.normal(jax.random.key(2), (8, 3))
    unit = starts / jnp.linalg.norm(starts, axis=1, keepdims=True)
    before = jax.vmap(lambda w: node_energy(w, data, RELU))(unit)
    for steps in (1, 5, 300):
        ends = ascend(starts, data, RELU, max_steps=steps)
        assert (ends.energies >= before).all()
        np.testing.assert_allclose(jnp.linalg.norm(ends.weights, axis=1), 1, rtol=1e-12)
        before = ends.energies
    assert (before > 0.01).any()


def test_distinct_maxima_merge_by_angle_and_sign():
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [np.cos(0.05), np.sin(0.05)], [0, -1]])
    energies = np.array([2.0, 1.0, 3.0, 2.5, 0.0])
    found = distinct_maxima(weights, energies, sign_symmetric=False)
    np.testing.assert_array_equal(found.energies, [3.0, 2.5, 1.0])
    np.testing.assert_array_equal(found.labels, [1, 2, 0, 1, -1])
    np.testing.assert_allclose(found.basins, [0.2, 0.4, 0.2])
    merged = distinct_maxima(weights, energies, sign_symmetric=True)
    np.testing.assert_array_equal(merged.labels, [0, 1, 0, 0, -1])
    with pytest.raises(ValueError, match=r"angle=0 is out of range; it must be in \(0, π/2\)"):
        distinct_maxima(weights, energies, sign_symmetric=True, angle=0)


def test_what_is_not_finite_is_no_maximum():
    weights = np.eye(3)
    for value in (np.nan, np.inf):
        energies = np.array([1.0, value, 0.5])
        with pytest.raises(ValueError, match="1 of 3 entries of the energies are not finite"):
            distinct_maxima(weights, energies, sign_symmetric=False)
    weights[0, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 9 entries of the weights are not finite"):
        distinct_maxima(weights, np.ones(3), sign_symmetric=False)
    data = random_data()
    data = data._replace(x=data.x.at[0, 0].set(jnp.nan))
    with pytest.raises(ValueError, match="are not finite; look for NaN"):
        find_local_maxima(jax.random.key(1), data, LINEAR, num_starts=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: find_local_maxima(jax.random.key(0), random_data(), LINEAR, num_starts=0),
            "num_starts=0 is out of range",
        ),
    ],
)
def test_what_is_out_of_range_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
