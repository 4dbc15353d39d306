"""BYOL on the tree: its measures, its gradient paths, and the collapse that must happen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax.theory.dual_networks import byol as dn
from alphacl_jax.theory.latent_tree import model, network

SHAPE = model.TreeShape(depth=2, width=8, outputs=6, batch_norm=False)


def test_unit_variance_of_known_embeddings():
    corners = jnp.array([[1.0, 0], [-1.0, 0], [0, 1.0], [0, -1.0]])
    np.testing.assert_allclose(dn.unit_variance(corners, corners), (1, 1), rtol=1e-6)
    constant = jnp.tile(corners[:1], (4, 1))
    np.testing.assert_allclose(dn.unit_variance(constant, constant), (0, 0), atol=1e-7)
    # Dead embeddings, exactly 0, have collapsed as well.
    np.testing.assert_array_equal(dn.unit_variance(0 * corners, 0 * corners), (0, 0))
    # Views that have nothing in common share no variance.
    shared = dn.unit_variance(jnp.repeat(corners, 4, axis=0), jnp.tile(corners, (4, 1)))
    np.testing.assert_allclose(shared, (1, 0), atol=1e-6)


def test_the_probe_finds_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    labels = rng.choice([-1.0, 1.0], size=400)
    features = rng.normal(size=(400, 3))
    seen = features + np.outer(labels, [0, 5.0, 0])
    assert dn.probe_accuracy(jnp.asarray(seen, jnp.float32), jnp.asarray(labels)) > 0.98
    assert 0.4 < dn.probe_accuracy(jnp.asarray(features, jnp.float32), jnp.asarray(labels)) < 0.6
    with pytest.raises(AssertionError, match="shape"):
        dn.probe_accuracy(jnp.asarray(seen, jnp.float32), jnp.asarray(labels[:-1]))


def test_predictors():
    key, z = jax.random.key(0), jax.random.normal(jax.random.key(1), (8, 6))
    none, linear, mlp = (
        dn.init_predictor(key, 6, dn.ByolTraining(predictor=p, predictor_hidden=5))
        for p in dn.PREDICTORS
    )
    np.testing.assert_array_equal(dn.predict(none, z, batch_norm=True), z)
    np.testing.assert_allclose(dn.predict(linear, z, batch_norm=True), z @ linear[0], rtol=1e-5)
    assert [w.shape for w in mlp] == [(6, 5), (5, 6)]
    expected = np.maximum(z @ mlp[0], 0) @ mlp[1]
    np.testing.assert_allclose(dn.predict(mlp, z, batch_norm=False), expected, atol=1e-5)
    assert not np.allclose(dn.predict(mlp, z, batch_norm=True), expected, atol=1e-2)


TRAINING = dn.ByolTraining(
    predictor="none", steps=100, batch=32, test_samples=256, weight_decay=0.0
)


@pytest.fixture(scope="module")
def without_predictor():
    """Stop-gradient with and without a moving average, then neither, then no average alone."""
    run = jax.vmap(dn.train_byol, (None, None, 0, 0, None, None))
    switches = jnp.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    return jax.jit(run, static_argnums=(4, 5))(
        jax.random.key(0), 0.8, switches[:, 0], switches[:, 1], SHAPE, TRAINING
    )


@pytest.mark.slow
def test_without_predictor_batch_norm_and_stop_gradient_it_collapses(without_predictor):
    assert without_predictor.variance[2] < 0.05
    assert without_predictor.initial_variance[2] > 0.1
    assert without_predictor.loss[2] < 0.05


def test_results_are_in_range(without_predictor):
    r = without_predictor
    for value in (r.probe, r.initial_probe, r.possible_probe, r.variance):
        assert jnp.all((value >= 0) & (value <= 1 + 1e-6))
    assert jnp.all((r.loss >= 0) & (r.loss <= 4))
    assert jnp.all(r.between <= r.variance + 1e-3)
    # Both switches change what happens; the start is the same.
    np.testing.assert_allclose(r.losses[:, 0], r.losses[0, 0], rtol=1e-5)
    assert len({round(float(loss), 6) for loss in r.losses[:, 20]}) == 4


def test_one_step_is_the_gradient_of_the_stated_loss(without_predictor):
    # Without stop-gradient and moving average, the second loss follows a plain descent step.
    key_tree, key_weights, _, _, key_data = jax.random.split(jax.random.key(0), 5)
    rho = model.sample_polarities(key_tree, SHAPE, 0.8)
    weights = network.init_tree_network(key_weights, SHAPE)

    @jax.jit
    @jax.value_and_grad
    def loss(weights, views):
        z, z_pos = (network.tree_network(weights, v[-1], batch_norm=False)[0] for v in views)
        z, z_pos = acl.l2_normalize(z), acl.l2_normalize(z_pos)
        return jnp.mean(2 - 2 * jnp.sum(z * z_pos, axis=1))

    sample = jax.jit(model.sample_views, static_argnums=1)
    first, second = (
        sample(k, TRAINING.batch, rho) for k in jax.random.split(key_data, TRAINING.steps)[:2]
    )
    value, gradient = loss(weights, first)
    moved = jax.tree.map(lambda w, g: w - TRAINING.learning_rate * g, weights, gradient)
    expected = [value, loss(moved, second)[0]]
    np.testing.assert_allclose(without_predictor.losses[2, :2], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predictor": "deep"}, "predictor='deep' must be one of none, linear, mlp"),
        ({"batch": 1}, "batch=1 must be at least 2"),
        ({"test_samples": 3}, "test_samples=3 must be at least 4"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be positive"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0 must be at least 0"),
        ({"target_momentum": 1.0}, r"target_momentum=1.0 must be in \[0, 1\)"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dn.ByolTraining(**change)
