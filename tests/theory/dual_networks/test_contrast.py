"""The closed form of BYOL's gradient with mean removal and a linear predictor."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax.theory.covariance import operators as co
from alphacl_jax.theory.dual_networks import contrast as ic
from alphacl_jax.theory.latent_tree import model, network

SHAPE = model.TreeShape(depth=2, width=3, outputs=4, batch_norm=False)


@functools.partial(jax.jit, static_argnums=(0, 1))
def parts(n, layer, seed=0):
    """Weights, both views' leaves, Jacobians and outputs."""
    rho = model.sample_polarities(jax.random.key(seed), SHAPE, 0.6)
    weights = network.init_tree_network(jax.random.key(seed + 1), SHAPE)
    views = [v[-1].astype(weights[0].dtype) for v in model.sample_views(jax.random.key(2), n, rho)]
    jacobians = [co.layer_jacobians(ic.tree_outputs, weights, layer, v) for v in views]
    return weights, views, jacobians, [ic.tree_outputs(weights, v) for v in views]


@pytest.mark.parametrize("remove_mean", [True, False])
@pytest.mark.parametrize("layer", [0, 2])
def test_contrast_less_shrinkage_is_the_negative_gradient(x64, layer, remove_mean):
    weights, views, jacobians, outputs = parts(9, layer)
    predictor = jax.random.normal(jax.random.key(3), (4, 4)) / 2

    def loss(w):
        changed = (*weights[:layer], w, *weights[layer + 1 :])
        f, f_pos = (ic.tree_outputs(changed, v) for v in views)
        return ic.linear_byol_loss(f, f_pos, predictor, remove_mean=remove_mean)

    found = ic.implicit_contrast(*jacobians, *outputs, predictor, remove_mean=remove_mean)
    expected = -jax.jit(jax.grad(loss))(weights[layer]).reshape(-1)
    assert np.linalg.norm(expected) > 1e-4
    np.testing.assert_allclose(found.contrast - found.shrinkage, expected, atol=1e-13)


def test_the_loss_by_hand(x64):
    f, f_pos = np.random.default_rng(0).normal(size=(2, 5, 4))
    predictor = np.random.default_rng(1).normal(size=(4, 4))
    for remove_mean in (True, False):
        a, b = ((v - v.mean(0)) if remove_mean else v for v in (f, f_pos))
        pairs = zip(a, b, strict=True)
        total = sum(np.sum((predictor @ p - q) ** 2 + (predictor @ q - p) ** 2) for p, q in pairs)
        found = ic.linear_byol_loss(
            jnp.asarray(f), jnp.asarray(f_pos), predictor, remove_mean=remove_mean
        )
        np.testing.assert_allclose(found, total / 20, rtol=1e-12)


def test_without_a_predictor_there_is_no_contrast(x64):
    _, _, jacobians, outputs = parts(9, 0)
    found = ic.implicit_contrast(*jacobians, *outputs, jnp.eye(4), remove_mean=True)
    np.testing.assert_array_equal(found.contrast, 0)
    assert np.linalg.norm(found.shrinkage) > 1e-3


def test_with_a_shrinking_predictor_the_contrast_is_the_covariance_operator():
    weights, _, jacobians, outputs = parts(400, 0)
    alpha = acl.pairwise_importance(*outputs, acl.rules.uniform())
    operator = co.covariance_operator(*jacobians, alpha) / (2 * jnp.sum(alpha))
    expected = operator @ weights[0].reshape(-1)
    with_mean, without = (
        ic.implicit_contrast(*jacobians, *outputs, 0.3 * jnp.eye(4), remove_mean=r).contrast
        for r in (False, True)
    )
    assert ic.cosine(without, expected) > 0.99
    assert ic.cosine(with_mean, expected) < 0.9
    # The constant: s(1 − s) times V[E[·|x₀]], which is half of the operator's limit over Σα.
    np.testing.assert_allclose(
        jnp.vdot(without, expected) / jnp.vdot(expected, expected), 0.21, atol=0.03
    )


def test_cosine_of_a_zero_vector_is_zero():
    assert ic.cosine(jnp.zeros(3), jnp.ones(3)) == 0
    np.testing.assert_allclose(ic.cosine(jnp.array([3.0, 4.0]), jnp.array([4.0, 3.0])), 0.96)


def test_a_run_is_followed():
    settings = ic.ContrastSettings(steps=4, every=2, batch=16, look_samples=64)
    history = jax.jit(ic.watch_contrast, static_argnums=(2, 3))(
        jax.random.key(0), 0.8, SHAPE, settings
    )
    assert history.half.shape == (2,)
    assert jnp.all(history.half > 0.8)
    assert all(jnp.all(jnp.isfinite(part)) for part in history)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": -1}, "layer=-1 must be at least 0"),
        ({"look_samples": 1}, "look_samples=1 must be at least 2"),
        ({"steps": 5, "every": 2}, "steps=5 must be a multiple of every=2"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 must be positive"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ic.ContrastSettings(**change)


def test_a_layer_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="layer=3 is not in a network with layers 0 to 2"):
        ic.watch_contrast(jax.random.key(0), 0.8, SHAPE, ic.ContrastSettings(layer=3))
