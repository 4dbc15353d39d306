"""The two-layer dynamics under a hidden binary variable, and Theorem 4."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.nonlinear.activations import LINEAR, RELU, leaky_relu, monomial
from alphacl_jax.theory.nonlinear.modulation import (
    Fields,
    across,
    gated_moments,
    integrate,
    modulated_field,
    network_gradient,
    population_energy,
    sample_fields,
    tilted_fields,
    top_layer,
    train_network,
)

# Each compiles its own programs; ReLU alone is what every run of the tests affords.
DEGREE_ONE = [
    RELU,
    pytest.param(LINEAR, marks=pytest.mark.slow),
    pytest.param(leaky_relu(0.2), marks=pytest.mark.slow),
]


def small_fields(prior=0.3):
    return tilted_fields(
        jax.random.key(0), num_fields=3, num_values=4, dim=2, prior=prior, tilt=1.5
    )


def unit_filters(*shape, seed=1):
    w = jax.random.normal(jax.random.key(seed), shape)
    return w / jnp.linalg.norm(w, axis=-1, keepdims=True)


def exact_samples():
    """Two fields of two values, and 32 samples in which P[x|z] is exactly a product.

    Given z each field shows its first value with probability 1/4 or 3/4: of 16 samples of each z.
    """
    values = jnp.asarray([[[1.0, 0.2], [-0.3, 1.1]], [[0.7, -0.6], [0.4, 0.9]]])
    first = np.array([[0.25, 0.75], [0.75, 0.5]])  # [z, field]
    probabilities = jnp.asarray(np.stack([first, 1 - first], axis=-1))
    rows = []
    for z in (0, 1):
        for a, b in itertools.product((0, 1), repeat=2):
            count = 16 * probabilities[z, 0, a] * probabilities[z, 1, b]
            rows += [jnp.stack([values[0, a], values[1, b]])] * round(float(count))
    return Fields(values, probabilities, jnp.asarray(0.5)), jnp.stack(rows)


@pytest.mark.parametrize("activation", DEGREE_ONE)
def test_field_is_half_the_gradient_of_the_top_eigenvalue(activation, x64):
    for seed, prior in ((1, 0.3), (2, 0.8)):
        fields, w = small_fields(prior), unit_filters(3, 2, seed=seed)
        half = 0.5 * jax.grad(population_energy)(w, fields, activation)
        np.testing.assert_allclose(modulated_field(w, fields, activation), half, atol=1e-12)


@pytest.mark.parametrize("activation", DEGREE_ONE)
def test_energy_and_top_layer_are_those_of_the_joint_distribution(activation, x64):
    """V[f] by enumeration of all values of all fields."""
    fields, w = small_fields(), unit_filters(3, 2)
    f, weight = [], []
    for z, prior in enumerate((1 - float(fields.prior), float(fields.prior))):
        for shown in itertools.product(range(4), repeat=3):
            x = [fields.values[k, v] for k, v in enumerate(shown)]
            f.append([float(activation.apply(w[k] @ x[k])) for k in range(3)])
            chances = [float(fields.probabilities[z, k, v]) for k, v in enumerate(shown)]
            weight.append(prior * np.prod(chances))
    variance = np.cov(np.array(f).T, aweights=weight, ddof=0)
    values, vectors = np.linalg.eigh(variance)
    top = top_layer(w, fields, activation)
    np.testing.assert_allclose(top.eigenvalue, values[-1], rtol=1e-10)
    np.testing.assert_allclose(population_energy(w, fields, activation), values[-1], rtol=1e-10)
    np.testing.assert_allclose(np.abs(top.s @ vectors[:, -1]), 1, rtol=1e-10)
    np.testing.assert_allclose(jnp.linalg.norm(top.s), 1, rtol=1e-10)
    # The step of the derivation in which p₀p₁ drops out.
    shared = fields.prior * (1 - fields.prior)
    np.testing.assert_allclose(shared * top.b @ top.s, 1 / top.z, rtol=1e-10)


@pytest.mark.parametrize("activation", DEGREE_ONE)
def test_network_on_exactly_independent_samples_has_the_field(activation, x64):
    """32 samples are 'infinitely many' but for n/(n − 1), since each has n − 1 negatives."""
    fields, x = exact_samples()
    assert x.shape == (32, 2, 2)
    w = unit_filters(2, 2)
    expected = 32 / 31 * modulated_field(w, fields, activation)
    np.testing.assert_allclose(network_gradient(w, x, activation), expected, atol=1e-12)


@pytest.mark.slow
def test_training_on_exactly_independent_samples_follows_the_flow(x64):
    fields, x = exact_samples()
    w = unit_filters(2, 2)
    flow = integrate(w, jnp.asarray([0.0, 1.0, 2.0]), fields, LINEAR)
    # The flow's time runs 32/31 as fast for the network.
    path = train_network(w, x, LINEAR, step=0.01 * 31 / 32, num_steps=200)
    assert float(jnp.max(jnp.abs(flow[-1] - w))) > 0.1
    np.testing.assert_allclose(path[::100], flow, atol=2e-3)
    np.testing.assert_allclose(jnp.linalg.norm(path, axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(jnp.linalg.norm(flow, axis=-1), 1, rtol=1e-5)


def test_samples_have_the_moments_of_the_fields():
    fields = small_fields()
    x = sample_fields(jax.random.key(3), fields, 4_000)
    assert x.shape == (4_000, 3, 2)
    weights = jnp.stack([1 - fields.prior, fields.prior])
    mean = jnp.einsum("z,zkv,kvd->kd", weights, fields.probabilities, fields.values)
    np.testing.assert_allclose(jnp.mean(x, axis=0), mean, atol=0.08)
    # Fields depend on one another, through z: their covariance is p₀p₁ Δ_kΔ_lᵀ.
    between = gated_moments(unit_filters(3, 2), fields, LINEAR).between
    covariance = np.cov(np.asarray(x[:, 0]).T, np.asarray(x[:, 1]).T)[:2, 2:]
    expected = 0.3 * 0.7 * np.outer(between[0], between[1])
    assert np.abs(expected).max() > 0.15
    np.testing.assert_allclose(covariance, expected, atol=0.08)


def test_linear_gradients_of_one_field_are_colinear_and_those_of_relu_are_not(x64):
    x = sample_fields(jax.random.key(3), small_fields(), 64)
    w = unit_filters(3, 4, 2)
    ratios = {}
    for activation in (LINEAR, RELU):
        gradient = network_gradient(w, x, activation)
        assert gradient.shape == (3, 4, 2)
        values = np.linalg.svd(gradient, compute_uv=False)
        assert (values[:, 0] > 1e-3).all()
        ratios[activation] = values[:, 1] / values[:, 0]
    assert ratios[LINEAR].max() < 1e-12
    assert ratios[RELU].max() > 1e-2


def test_across_leaves_norms_alone():
    w = unit_filters(3, 2)
    field = across(w, jnp.arange(6.0).reshape(3, 2))
    np.testing.assert_allclose(jnp.sum(w * field, axis=1), 0, atol=1e-6)
    assert float(jnp.max(jnp.abs(field))) > 0.1


def test_activations_of_another_degree_are_refused():
    with pytest.raises(ValueError, match="degree 2 is no part of this analysis"):
        modulated_field(unit_filters(3, 2), small_fields(), monomial(2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_fields": 1}, "num_fields=1 is out of range; it must be at least 2"),
        ({"num_values": 1}, "num_values=1 is out of range"),
        ({"dim": 0}, "dim=0 is out of range"),
        ({"prior": 1.0}, r"prior=1.0 is out of range; it must be in \(0, 1\)"),
        ({"tilt": 0.0}, "tilt=0.0 is out of range"),
        ({"tilt": np.nan}, "tilt=nan is out of range"),
    ],
)
def test_fields_out_of_range(wrong, message):
    settings = {"num_fields": 2, "num_values": 3, "dim": 2, **wrong}
    with pytest.raises(ValueError, match=message):
        tilted_fields(jax.random.key(0), **settings)
