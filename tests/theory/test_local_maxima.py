"""One nonlinear node: its energy, its local maxima and their stability."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.activations import LINEAR, RELU, leaky_relu, monomial
from alphacl_jax.theory.local_maxima import (
    ascend,
    distinct_maxima,
    find_local_maxima,
    node_covariance,
    node_energy,
)
from alphacl_jax.theory.node_layers import train_layers
from alphacl_jax.theory.patterns import (
    NodeData,
    equiangular_patterns,
    expected_patterns,
    pattern_data,
    prediction_error,
)
from alphacl_jax.theory.stability import stability

ACTIVATIONS = [LINEAR, RELU, leaky_relu(0.2), monomial(2), monomial(3)]


def random_data(n=7, dim=3, both_views=False):
    """Random views with a random α that is not symmetric."""
    generator = np.random.default_rng(0)
    x, x_pos = generator.normal(size=(2, n, dim))
    m = 2 * n if both_views else n
    return NodeData(*(jnp.asarray(v) for v in (x, x_pos, generator.uniform(size=(m, m)))))


def easy_data(cosine=-0.3, noise=0.2):
    patterns = equiangular_patterns(3, 3, cosine)
    frequencies = jnp.asarray([0.45, 0.3, 0.25])
    return patterns, pattern_data(
        jax.random.key(0), patterns, frequencies, num_samples=48, noise=noise
    )


def brute_energy(w, data, h):
    """C_α[h(wᵀx)] by the double loop."""
    f, f_pos, alpha = h(data.x @ w), h(data.x_pos @ w), data.alpha
    total = 0.0
    for i in range(len(f)):
        for j in range(len(f)):
            if i != j:
                total += alpha[i, j] * ((f[i] - f[j]) ** 2 - (f[i] - f_pos[i]) ** 2)
    return total


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_homogeneous_and_derivatives_are_those_of_autodiff(activation, x64):
    u = jnp.asarray([-2.0, -0.3, 0.1, 1.7])
    derivative = activation.derivative(u)
    np.testing.assert_allclose(derivative * u, activation.degree * activation.apply(u), rtol=1e-12)
    np.testing.assert_allclose(derivative, jax.vmap(jax.grad(activation.apply))(u), rtol=1e-12)
    flipped = np.abs(activation.apply(-u)), np.abs(activation.apply(u))
    assert np.allclose(*flipped) == activation.sign_symmetric


def test_equal_activations_are_one_object():
    assert leaky_relu(0.2) is leaky_relu(0.2)
    assert monomial(3) is monomial(3)


@pytest.mark.parametrize(
    ("make", "value", "message"),
    [
        (leaky_relu, 1.0, r"slope=1.0 is out of range; it must be in \(0, 1\)"),
        (leaky_relu, 0.0, "slope=0.0 is out of range"),
        (monomial, 1, "power=1 is out of range; it must be an integer of at least 2"),
        (monomial, 2.5, "power=2.5 is out of range"),
    ],
)
def test_activations_out_of_range(make, value, message):
    with pytest.raises(ValueError, match=message):
        make(value)


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


def test_stability_of_a_linear_node(x64):
    """A is constant: L = 0, and the gaps are those of its eigenvalues."""
    data = random_data()
    values, vectors = np.linalg.eigh(node_covariance(jnp.ones(3), data, LINEAR))
    for k, w in enumerate(vectors.T):
        at = stability(jax.random.key(0), jnp.asarray(w), data, LINEAR)
        rest = np.delete(values, k).max()
        np.testing.assert_allclose(at.gap, values[k] - rest, rtol=1e-9)
        np.testing.assert_allclose(at.eigenvalue, values[k], rtol=1e-9)
        np.testing.assert_allclose([at.residual, at.lipschitz], 0, atol=1e-10)
        assert bool(at.is_stable) == (k == 2)


def test_lipschitz_constant_of_a_square(x64):
    """One pair of points on one axis: A(w) = 4 w₁² e₁e₁ᵀ · C[x₁²] has |dA| = 8 |w₁||dw₁| C."""
    x = jnp.asarray([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    data = NodeData(x, x, jnp.asarray([[0.0, 0.5], [0.5, 0.0]]))
    # x̃ = 2 w₁ x₁² e₁ = 8 w₁ e₁ at the one point: A = 64 w₁² e₁e₁ᵀ, steepest in w₁.
    w = jnp.asarray([0.8, 0.6, 0.0])
    at = stability(jax.random.key(0), w, data, monomial(2), radius=1e-3, num_samples=2000)
    # The steepest tangent direction changes w₁ by √(1 − w₁²) = 0.6 for each unit.
    np.testing.assert_allclose(at.lipschitz, 64 * 2 * 0.8 * 0.6, rtol=0.01)
    np.testing.assert_allclose(at.eigenvalue, 64 * 0.8**4, rtol=1e-9)


def test_layers_ascend_the_sum_over_their_nodes(x64):
    """Against the projected gradient of Σ_k E(w_k) by all nodes at once, by autodiff."""
    _, data = easy_data()
    activation = monomial(2)
    size = {"num_layers": 2, "num_nodes": 4}
    key = jax.random.key(5)
    starts = train_layers(key, data, activation, **size, max_steps=0).weights
    assert starts.shape == (2, 4, 3)
    assert len(np.unique(np.round(starts.reshape(8, 3), 6), axis=0)) == 8

    @jax.jit
    def joint_step(_, w):
        total = jax.grad(lambda w: sum(node_energy(v, data, activation) for v in w))(w)
        w = w + 0.2 * total
        return w / jnp.linalg.norm(w, axis=1, keepdims=True)

    expected = jnp.stack([jax.lax.fori_loop(0, 1000, joint_step, w) for w in starts])
    ends = train_layers(key, data, activation, **size)
    np.testing.assert_allclose(ends.weights, expected, atol=1e-5)
    energies = jax.vmap(jax.vmap(lambda w: node_energy(w, data, activation)))(expected)
    np.testing.assert_allclose(ends.energies, energies, rtol=1e-8)
    assert ends.residuals.shape == (2, 4)


@pytest.mark.parametrize(
    ("basins", "num_nodes"), [([0.5, 0.5], 1), ([0.5, 0.3, 0.2], 4), ([0.1, 0.0, 0.6], 3)]
)
def test_expected_patterns_against_every_outcome(basins, num_nodes):
    none = 1 - sum(basins)
    found, weight = [], []
    for nodes in product(range(len(basins) + 1), repeat=num_nodes):
        found.append(len(set(nodes) - {len(basins)}))
        weight.append(np.prod([[*basins, none][node] for node in nodes]))
    mean = np.dot(weight, found)
    count = expected_patterns(np.array(basins), num_nodes)
    np.testing.assert_allclose(count.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(count.variance, np.dot(weight, (found - mean) ** 2), atol=1e-12)


def test_prediction_error_is_that_of_repeated_experiments():
    basins, starts, nodes, layers = np.array([0.5, 0.3, 0.15]), 400, 6, 20
    shares = [*basins, 1 - basins.sum()]
    generator = np.random.default_rng(0)
    differences = []
    for _ in range(2000):
        measured = generator.multinomial(starts, shares)[:-1] / starts
        drawn = generator.multinomial(nodes, shares, size=layers)[:, :-1]
        differences.append((drawn > 0).sum() / layers - expected_patterns(measured, nodes).mean)
    error = prediction_error(basins * starts, starts, num_nodes=nodes, num_layers=layers)
    np.testing.assert_allclose(error, np.std(differences), rtol=0.08)
    # A basin that no start met may still be found: the error says so.
    assert prediction_error(np.zeros(2), 50, num_nodes=32, num_layers=10**6) > 0.05


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


def test_traced_settings_are_taken_at_their_word(x64):
    patterns, probabilities = jnp.eye(2), jnp.asarray([0.75, 0.25])

    def make(probabilities, noise):
        return pattern_data(jax.random.key(0), patterns, probabilities, num_samples=4, noise=noise)

    np.testing.assert_allclose(
        jax.jit(make)(probabilities, 0.2).x, make(probabilities, 0.2).x, rtol=1e-12
    )
    assert bool(jnp.isnan(jax.jit(make)(probabilities, jnp.nan).x).all())
    of_norm = jax.vmap(lambda w: stability(jax.random.key(0), w, random_data(), LINEAR).eigenvalue)
    assert of_norm(jnp.ones((1, 3))).shape == (1,)


def test_patterns_have_the_cosine(x64):
    for cosine in (-0.5, 0.0, 0.4):
        patterns = equiangular_patterns(3, 5, cosine)
        expected = np.full((3, 3), cosine) + (1 - cosine) * np.eye(3)
        np.testing.assert_allclose(patterns @ patterns.T, expected, atol=1e-12)


def test_pattern_data_has_alpha_of_one_half_and_noise_of_its_length(x64):
    patterns = equiangular_patterns(2, 4, 0.0)
    data = pattern_data(
        jax.random.key(0), patterns, jnp.asarray([0.75, 0.25]), num_samples=400, noise=0.2
    )
    np.testing.assert_allclose(jnp.sum(data.alpha), 0.5, rtol=1e-9)
    which = jnp.argmax(data.x, axis=1)
    assert abs(float(jnp.mean(which == 0)) - 0.75) < 0.08
    for view in data[:2]:
        length = jnp.sqrt(jnp.mean(jnp.sum((view - patterns[which]) ** 2, axis=1)))
        assert abs(float(length) - 0.2) < 0.02
    assert float(jnp.max(jnp.abs(data.x - data.x_pos))) > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: equiangular_patterns(1, 3, 0.0), "num_patterns=1 is out of range"),
        (lambda: equiangular_patterns(4, 3, 0.0), "dim=3 is out of range; 4 patterns need at"),
        (lambda: equiangular_patterns(3, 3, -0.6), r"cosine=-0.6 .* must be in \[-0.5, 1\)"),
        (
            lambda: pattern_data(
                jax.random.key(0), jnp.eye(2), jnp.ones(2) / 2, num_samples=1, noise=0.1
            ),
            "num_samples=1 is out of range",
        ),
        (
            lambda: pattern_data(
                jax.random.key(0), jnp.eye(2), jnp.ones(2) / 2, num_samples=4, noise=-1.0
            ),
            "noise=-1 is out of range",
        ),
        (
            lambda: pattern_data(
                jax.random.key(0), jnp.eye(2), jnp.ones(3) / 3, num_samples=4, noise=0.1
            ),
            "probabilities has 3 entries; it needs one for each of the 2 patterns",
        ),
        (
            lambda: find_local_maxima(jax.random.key(0), random_data(), LINEAR, num_starts=0),
            "num_starts=0 is out of range",
        ),
        (
            lambda: stability(jax.random.key(0), jnp.ones(3), random_data(), LINEAR, radius=0.0),
            "radius=0.0 is out of range",
        ),
        (
            lambda: stability(jax.random.key(0), jnp.ones(3), random_data(), LINEAR, num_samples=0),
            "num_samples=0 is out of range",
        ),
        (
            lambda: pattern_data(
                jax.random.key(0), jnp.eye(2), jnp.ones(2) / 2, num_samples=4, noise=jnp.nan
            ),
            "noise=nan is out of range; it must be a finite number >= 0",
        ),
        (
            lambda: pattern_data(
                jax.random.key(0), jnp.eye(2), jnp.ones(2) / 2, num_samples=4, noise=jnp.inf
            ),
            "noise=inf is out of range; it must be a finite number >= 0",
        ),
        (
            lambda: pattern_data(
                jax.random.key(0), jnp.eye(2), jnp.array([1.5, -0.5]), num_samples=4, noise=0.1
            ),
            r"probabilities=.* is out of range; each must be at least 0",
        ),
        (
            lambda: pattern_data(
                jax.random.key(0), jnp.eye(2), jnp.array([jnp.nan, 0.5]), num_samples=4, noise=0.1
            ),
            r"probabilities=.* is out of range",
        ),
        (
            lambda: pattern_data(
                jax.random.key(0), jnp.eye(2), jnp.array([0.5, 0.4]), num_samples=4, noise=0.1
            ),
            "probabilities sum to 0.9; they must sum to 1",
        ),
        (
            lambda: stability(jax.random.key(0), jnp.ones(3), random_data(), LINEAR),
            r"w has norm 1.73205; it must be 1",
        ),
        (
            lambda: stability(jax.random.key(0), jnp.full(3, jnp.nan), random_data(), LINEAR),
            "w has norm nan; it must be 1",
        ),
        (
            lambda: expected_patterns(np.array([0.6, 0.6]), 2),
            "must be shares: at least 0, with a sum of at most 1",
        ),
        (
            lambda: expected_patterns(np.array([-0.1, 0.6]), 2),
            "must be shares",
        ),
        (
            lambda: expected_patterns(np.array([0.5]), 0),
            "num_nodes=0 is out of range",
        ),
        (
            lambda: train_layers(
                jax.random.key(0), random_data(), LINEAR, **{"num_layers": 0, "num_nodes": 2}
            ),
            "num_layers=0 is out of range",
        ),
        (
            lambda: train_layers(
                jax.random.key(0), random_data(), LINEAR, **{"num_nodes": 0, "num_layers": 2}
            ),
            "num_nodes=0 is out of range",
        ),
    ],
)
def test_what_is_out_of_range_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
