"""Data with patterns, and how many of them nodes find."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.nonlinear.activations import LINEAR
from alphacl_jax.theory.nonlinear.fixed_points import stability
from alphacl_jax.theory.nonlinear.patterns import (
    equiangular_patterns,
    expected_patterns,
    pattern_data,
    prediction_error,
)
from tests.theory.nonlinear.examples import random_data


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


@pytest.mark.slow
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
    ],
)
def test_what_is_out_of_range_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
