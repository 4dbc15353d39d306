"""Initial weights: their ranges, and the very draws that the published tables stand on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.coordinate import alternation
from alphacl_jax.theory.covariance import operator_training, operators
from alphacl_jax.theory.dual_networks import byol, contrast
from alphacl_jax.theory.latent_tree import training as tree_training
from alphacl_jax.theory.latent_tree.model import TreeShape
from alphacl_jax.theory.latent_tree.network import init_tree_network
from alphacl_jax.theory.linear_networks import pca
from alphacl_jax.theory.tokens import network, sequences
from alphacl_jax.theory.tokens import training as token_training
from alphacl_jax.theory.weights import standard_normals, uniform_by_fan_in, uniform_within

KEY = jax.random.key(7)
SHAPE = TreeShape(depth=2, width=3, outputs=4)
TREE = TreeShape(depth=2, width=3, outputs=4, batch_norm=False)


def test_normals_have_a_key_for_each_array():
    a, b = standard_normals(KEY, iter([(200, 50), (200, 50)]))
    for drawn in (a, b):
        np.testing.assert_allclose([jnp.mean(drawn), jnp.var(drawn)], [0, 1], atol=0.05)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05


def test_uniform_weights_fill_their_ranges():
    w = uniform_within(KEY, (10, 20, 30), 0.25)
    assert 0.24 < jnp.max(w) <= 0.25
    assert -0.25 <= jnp.min(w) < -0.24
    first, second = uniform_by_fan_in(KEY, [(2, 100, 3), (4, 50)])
    assert 0.09 < jnp.max(jnp.abs(first)) <= 0.1
    assert 0.48 < jnp.max(jnp.abs(second)) <= 0.5


def fingerprint(tree):
    """One number that a changed draw, or draws in another order, would change."""
    flat = np.concatenate([np.asarray(v, np.float64).ravel() for v in jax.tree.leaves(tree)])
    return np.sum(flat * np.cos(np.arange(flat.size)))


def token_runs():
    setting = sequences.TokenSetting(3, 12, 4, 2, 1)
    keys = jax.random.split(KEY, 2)
    runs = token_training.Run(
        keys,
        jax.vmap(lambda key: sequences.draw_patterns(key, setting, 3))(keys),
        jnp.stack([jnp.eye(12)] * 2),
        network.Variant(jnp.array([True, False]), jnp.full(2, True), jnp.full(2, False)),
        jnp.full(2, 0.02),
    )
    recipe = token_training.Recipe(batch_size=8)
    (record,) = token_training.train_runs(runs, setting, recipe, filters=3, record_at=[5])
    return record.cosines


DRAWS = {
    "tanh network": (lambda: alternation.mlp_params(KEY, (5, 7, 3)), -2.866012),
    "linear layers": (lambda: pca.gaussian_layers(KEY, (5, 4, 3)), 0.006819815),
    "ReLU network": (lambda: operators.init_relu_network(KEY, (6, 5, 3)), 2.417831),
    "tree network": (lambda: init_tree_network(KEY, SHAPE), 1.723341),
    "predictor": (lambda: byol.init_predictor(KEY, 4, byol.ByolTraining()), -5.109633),
    "token network": (lambda: network.init_params(KEY, 3, 4, 7, 6), -1.70634),
}
TRAININGS = {
    "SimCLR on the tree": (
        lambda: jax.jit(tree_training.train_on_tree, static_argnums=(2, 3))(
            KEY, 0.8, SHAPE, tree_training.TreeTraining(batch=16, steps=5, test_samples=64)
        ),
        -0.2779062,
    ),
    "BYOL": (
        lambda: (
            jax.jit(byol.train_byol, static_argnums=(4, 5))(
                KEY, 0.8, 0.0, 1.0, SHAPE, byol.ByolTraining(batch=16, steps=5, test_samples=32)
            ).losses
        ),
        1.747612,
    ),
    "implicit contrast": (
        lambda: jax.jit(contrast.watch_contrast, static_argnums=(2, 3))(
            KEY, 0.8, TREE, contrast.ContrastSettings(batch=16, look_samples=16, steps=6, every=2)
        ),
        2.083376,
    ),
    "covariance operator": (
        lambda: jax.jit(operator_training.watch_operator, static_argnums=1)(
            KEY, operator_training.OperatorSettings(2, (4,), 3, batch=16, steps=6, every=2)
        ),
        8.328667,
    ),
    "tokens": (token_runs, 5.339528),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_the_published_tables(name):
    make, expected = DRAWS[name]
    np.testing.assert_allclose(fingerprint(make()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_few_steps_are_those_of_the_published_tables(name):
    run, expected = TRAININGS[name]
    np.testing.assert_allclose(fingerprint(run()), expected, rtol=1e-3)
