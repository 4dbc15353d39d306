"""The tree's statistics, the network's connections, the correlations, and that training helps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax.theory import latent_tree as lt

SHAPE = lt.TreeShape(depth=2, children=2, width=3, outputs=4, batch_norm=False)


def polarities_of(seed=0, shape=SHAPE, lowest=0.5):
    return lt.sample_polarities(jax.random.key(seed), shape, lowest)


def test_polarities_are_in_range_and_one_for_each_edge():
    shape = lt.TreeShape(depth=3, children=3)
    rho = polarities_of(shape=shape, lowest=0.8)
    assert [r.shape for r in rho] == [(3,), (9,), (27,)]
    assert all(jnp.all((r >= 0.8) & (r <= 1)) for r in rho)


def test_the_polarity_is_the_correlation_of_child_and_parent():
    rho = polarities_of()
    levels, others = lt.sample_views(jax.random.key(1), 20000, rho)
    assert [z.shape for z in levels] == [(20000, 1), (20000, 2), (20000, 4)]
    for parent, child, expected in zip(levels, levels[1:], rho, strict=False):
        assert set(np.unique(child)) == {-1, 1}
        found = jnp.mean(jnp.repeat(parent, 2, axis=1) * child, axis=0)
        np.testing.assert_allclose(found, expected, atol=0.02)
    # The views share the root alone: a latent agrees with its other view by way of the root.
    np.testing.assert_array_equal(levels[0], others[0])
    np.testing.assert_allclose(jnp.mean(levels[1] * others[1], axis=0), rho[0] ** 2, atol=0.03)


def test_polarity_one_makes_every_leaf_the_root():
    levels, _ = lt.sample_views(jax.random.key(1), 50, polarities_of(lowest=1.0))
    np.testing.assert_array_equal(levels[2], jnp.repeat(levels[0], 4, axis=1))


def test_posterior_means_against_enumeration(x64):
    rho = polarities_of(lowest=0.3)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=4)))
    found = lt.posterior_means(jnp.asarray(signs), rho)
    edges = [np.asarray(r, np.float64) for r in rho]

    def joint(root, middle, leaves):
        p = 0.5
        for i, z in enumerate(middle):
            p *= (1 + edges[0][i] * root * z) / 2
        for i, x in enumerate(leaves):
            p *= (1 + edges[1][i] * middle[i // 2] * x) / 2
        return p

    for row, leaves in enumerate(signs):
        states = list(itertools.product((-1, 1), repeat=3))
        p = np.array([joint(s[0], s[1:], leaves) for s in states])
        roots = np.array([s[0] for s in states])
        np.testing.assert_allclose(found[0][row, 0], p @ roots / p.sum(), atol=1e-4)
        for g in range(2):
            a, b = edges[1][2 * g : 2 * g + 2] * leaves[2 * g : 2 * g + 2]
            expected = (a + b) / (1 + a * b)
            np.testing.assert_allclose(found[1][row, g], expected, atol=1e-4)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_hidden_nodes_see_their_own_leaves_alone(batch_norm):
    shape = lt.TreeShape(3, 2, 4, 5, batch_norm)
    weights = lt.init_tree_network(jax.random.key(0), shape)
    assert [w.shape for w in weights] == [(4, 2, 4), (2, 8, 4), (1, 8, 4), (4, 5)]
    leaves = jax.random.rademacher(jax.random.key(1), (6, 8), float)
    z, hidden = lt.tree_network(weights, leaves, batch_norm=batch_norm)
    assert z.shape == (6, 5)
    assert [h.shape for h in hidden] == [(6, 1, 4), (6, 2, 4), (6, 4, 4)]
    flipped, moved = lt.tree_network(weights, leaves.at[:, 2].multiply(-1), batch_norm=batch_norm)
    assert not np.allclose(flipped, z)
    np.testing.assert_array_equal(np.any(moved[2] != hidden[2], axis=(0, 2)), [0, 1, 0, 0])
    np.testing.assert_array_equal(np.any(moved[1] != hidden[1], axis=(0, 2)), [1, 0])


def test_the_network_without_batch_norm_by_a_plain_loop(x64):
    weights = lt.init_tree_network(jax.random.key(0), SHAPE)
    leaves = np.array([[1.0, -1.0, 1.0, 1.0], [-1.0, -1.0, 1.0, -1.0]])
    z, _ = lt.tree_network(weights, jnp.asarray(leaves), batch_norm=False)
    first, second, head = (np.asarray(w) for w in weights)
    for x, expected in zip(leaves, z, strict=True):
        groups = [np.maximum(x[2 * g : 2 * g + 2] @ first[g], 0) for g in range(2)]
        top = np.maximum(np.concatenate(groups) @ second[0], 0)
        np.testing.assert_allclose(top @ head, expected, rtol=1e-12)


def test_best_correlations_against_numpy():
    rng = np.random.default_rng(0)
    h, z = rng.normal(size=(200, 2, 3)), rng.choice([-1.0, 1.0], size=(200, 2))
    h[:, 0, 1] -= 2 * z[:, 0]
    h[:, 1, 0] = 7.0  # a dead node
    expected = np.mean(
        [
            max(abs(np.corrcoef(h[:, g, m], z[:, g])[0, 1]) for m in range(3) if h[:, g, m].std())
            for g in range(2)
        ]
    )
    found = lt.best_correlations((jnp.asarray(h, jnp.float32),), (jnp.asarray(z),))
    np.testing.assert_allclose(found, [expected], rtol=1e-4)
    dead = lt.best_correlations((jnp.ones((200, 2, 3)),), (jnp.asarray(z),))
    np.testing.assert_array_equal(dead, [0])


TRAINING = lt.TreeTraining(batch=64, steps=100, test_samples=2048)


@pytest.fixture(scope="module")
def trained():
    run = jax.jit(jax.vmap(lt.train_on_tree, (0, 0, None, None)), static_argnums=(2, 3))
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
    rho = lt.sample_polarities(key_tree, SHAPE, 0.7)
    weights = lt.init_tree_network(key_weights, SHAPE)
    views = lt.sample_views(jax.random.split(key_data, TRAINING.steps)[0], TRAINING.batch, rho)
    z, z_pos = (
        acl.l2_normalize(lt.tree_network(weights, v[-1], batch_norm=False)[0]) for v in views
    )
    expected = acl.contrastive_loss(z, z_pos, acl.families.info_nce(0.1))
    np.testing.assert_allclose(trained.losses[0, 0], expected, rtol=1e-5)


def test_batch_norm_is_over_the_batch():
    h = lt.normalize_batch(5 + 3 * jax.random.normal(jax.random.key(0), (64, 2, 3)))
    np.testing.assert_allclose(jnp.mean(h, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(jnp.var(h, axis=0), 1, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lt.TreeShape(depth=0), "depth=0 must be at least 1"),
        (lambda: lt.TreeShape(children=1), "children=1 must be at least 2"),
        (lambda: lt.TreeShape(width=0), "width=0 must be at least 1"),
        (lambda: lt.TreeShape(outputs=1), "outputs=1 must be at least 2"),
        (lambda: lt.TreeShape(depth=13), "depth=13 with children=2 makes more than 4096 leaves"),
        (lambda: lt.TreeShape(depth=20000), "depth=20000 with children=2 makes more than"),
        (
            lambda: lt.sample_polarities(jax.random.key(0), lt.TreeShape(), 1.5),
            r"lowest_polarity=1.5 must be in \[0, 1\]",
        ),
        (
            lambda: lt.TreeTraining(learning_rate=np.inf),
            "learning_rate=inf must be positive and fin",
        ),
        (lambda: lt.TreeTraining(batch=1), "batch=1 must be at least 2"),
        (lambda: lt.TreeTraining(steps=0), "steps=0 must be at least 1"),
        (lambda: lt.TreeTraining(temperature=0.0), "temperature=0.0 must be positive"),
        (lambda: lt.check_polarity(1.2), r"lowest_polarity=1.2 must be in \[0, 1\]"),
        (lambda: lt.check_polarity(-0.1), "lowest_polarity=-0.1"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
