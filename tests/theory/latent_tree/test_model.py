"""The tree of latents: its polarities, views and posterior means."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.latent_tree import model

SHAPE = model.TreeShape(depth=2, children=2, width=3, outputs=4, batch_norm=False)


def polarities_of(seed=0, shape=SHAPE, lowest=0.5):
    return model.sample_polarities(jax.random.key(seed), shape, lowest)


def test_polarities_are_in_range_and_one_for_each_edge():
    shape = model.TreeShape(depth=3, children=3)
    rho = polarities_of(shape=shape, lowest=0.8)
    assert [r.shape for r in rho] == [(3,), (9,), (27,)]
    assert all(jnp.all((r >= 0.8) & (r <= 1)) for r in rho)


def test_the_polarity_is_the_correlation_of_child_and_parent():
    rho = polarities_of()
    levels, others = model.sample_views(jax.random.key(1), 20000, rho)
    assert [z.shape for z in levels] == [(20000, 1), (20000, 2), (20000, 4)]
    for parent, child, expected in zip(levels, levels[1:], rho, strict=False):
        assert set(np.unique(child)) == {-1, 1}
        found = jnp.mean(jnp.repeat(parent, 2, axis=1) * child, axis=0)
        np.testing.assert_allclose(found, expected, atol=0.02)
    # The views share the root alone: a latent agrees with its other view by way of the root.
    np.testing.assert_array_equal(levels[0], others[0])
    np.testing.assert_allclose(jnp.mean(levels[1] * others[1], axis=0), rho[0] ** 2, atol=0.03)


def test_polarity_one_makes_every_leaf_the_root():
    levels, _ = model.sample_views(jax.random.key(1), 50, polarities_of(lowest=1.0))
    np.testing.assert_array_equal(levels[2], jnp.repeat(levels[0], 4, axis=1))


def test_posterior_means_against_enumeration(x64):
    rho = polarities_of(lowest=0.3)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=4)))
    found = model.posterior_means(jnp.asarray(signs), rho)
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: model.TreeShape(depth=0), "depth=0 must be at least 1"),
        (lambda: model.TreeShape(children=1), "children=1 must be at least 2"),
        (lambda: model.TreeShape(width=0), "width=0 must be at least 1"),
        (lambda: model.TreeShape(outputs=1), "outputs=1 must be at least 2"),
        (lambda: model.TreeShape(depth=13), "depth=13 with children=2 makes more than 4096 leaves"),
        (lambda: model.TreeShape(depth=20000), "depth=20000 with children=2 makes more than"),
        (
            lambda: model.sample_polarities(jax.random.key(0), model.TreeShape(), 1.5),
            r"lowest_polarity=1.5 must be in \[0, 1\]",
        ),
        (lambda: model.check_polarity(1.2), r"lowest_polarity=1.2 must be in \[0, 1\]"),
        (lambda: model.check_polarity(-0.1), "lowest_polarity=-0.1"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
