"""The network of the tree's shape, and how its nodes resemble latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.latent_tree import model, network

SHAPE = model.TreeShape(depth=2, children=2, width=3, outputs=4, batch_norm=False)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_hidden_nodes_see_their_own_leaves_alone(batch_norm):
    shape = model.TreeShape(3, 2, 4, 5, batch_norm)
    weights = network.init_tree_network(jax.random.key(0), shape)
    assert [w.shape for w in weights] == [(4, 2, 4), (2, 8, 4), (1, 8, 4), (4, 5)]
    leaves = jax.random.rademacher(jax.random.key(1), (6, 8), float)
    z, hidden = network.tree_network(weights, leaves, batch_norm=batch_norm)
    assert z.shape == (6, 5)
    assert [h.shape for h in hidden] == [(6, 1, 4), (6, 2, 4), (6, 4, 4)]
    flipped, moved = network.tree_network(
        weights, leaves.at[:, 2].multiply(-1), batch_norm=batch_norm
    )
    assert not np.allclose(flipped, z)
    np.testing.assert_array_equal(np.any(moved[2] != hidden[2], axis=(0, 2)), [0, 1, 0, 0])
    np.testing.assert_array_equal(np.any(moved[1] != hidden[1], axis=(0, 2)), [1, 0])


def test_the_network_without_batch_norm_by_a_plain_loop(x64):
    weights = network.init_tree_network(jax.random.key(0), SHAPE)
    leaves = np.array([[1.0, -1.0, 1.0, 1.0], [-1.0, -1.0, 1.0, -1.0]])
    z, _ = network.tree_network(weights, jnp.asarray(leaves), batch_norm=False)
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
    found = network.best_correlations((jnp.asarray(h, jnp.float32),), (jnp.asarray(z),))
    np.testing.assert_allclose(found, [expected], rtol=1e-4)
    dead = network.best_correlations((jnp.ones((200, 2, 3)),), (jnp.asarray(z),))
    np.testing.assert_array_equal(dead, [0])
