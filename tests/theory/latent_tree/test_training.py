"""SimCLR on the latent tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax.theory.latent_tree import model, network, training

SHAPE = model.TreeShape(depth=2, children=2, width=3, outputs=4, batch_norm=False)

TRAINING = training.TreeTraining(batch=64, steps=100, test_samples=2048)


@pytest.fixture(scope="module")
def trained():
    run = jax.jit(jax.vmap(training.train_on_tree, (0, 0, None, None)), static_argnums=(2, 3))
    keys = jax.random.split(jax.random.key(0), 4)
    return run(keys, jnp.full(4, 0.7), SHAPE, TRAINING)


@pytest.mark.slow
def test_training_raises_the_root_s_correlation_and_stays_below_the_bound(trained):
    assert trained.trained.shape == (4, 2)
    assert jnp.mean(trained.trained[:, 0]) > jnp.mean(trained.initial[:, 0])
    assert jnp.all(trained.trained < trained.possible + 0.03)
    assert jnp.mean(trained.losses[:, -10:]) < jnp.mean(trained.losses[:, :10])


@pytest.mark.slow
def test_the_losses_are_the_library_s(trained):
    # The first loss of a run, once more from its parts.
    key = jax.random.split(jax.random.key(0), 4)[0]
    key_tree, key_weights, _, key_data = jax.random.split(key, 4)
    rho = model.sample_polarities(key_tree, SHAPE, 0.7)
    weights = network.init_tree_network(key_weights, SHAPE)
    views = model.sample_views(jax.random.split(key_data, TRAINING.steps)[0], TRAINING.batch, rho)
    z, z_pos = (
        acl.l2_normalize(network.tree_network(weights, v[-1], batch_norm=False)[0]) for v in views
    )
    expected = acl.contrastive_loss(z, z_pos, acl.families.info_nce(0.1))
    np.testing.assert_allclose(trained.losses[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: training.TreeTraining(learning_rate=np.inf),
            "learning_rate=inf must be positive and fin",
        ),
        (lambda: training.TreeTraining(batch=1), "batch=1 must be at least 2"),
        (lambda: training.TreeTraining(steps=0), "steps=0 must be at least 1"),
        (lambda: training.TreeTraining(temperature=0.0), "temperature=0.0 must be positive"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
