"""The covariance operator is the gradient, for every loss and layer, and has the stated limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax.theory.covariance import operators as co
from alphacl_jax.theory.covariance.operator_training import OperatorSettings, watch_operator
from tests import cases

BITS = 2
SIZES = (3 * BITS, 5, 4, 3)


@pytest.fixture(scope="module")
def network():
    """Weights, both views, and each layer's Jacobians for both, in float64."""
    with jax.enable_x64(True):
        weights = co.init_relu_network(jax.random.key(0), SIZES)
        views = co.block_views(jax.random.key(1), 7, BITS)

        @jax.jit
        def jacobians_of(weights):
            layers = range(len(weights))
            return [
                [co.layer_jacobians(co.relu_network, weights, layer, v) for v in views]
                for layer in layers
            ]

        return weights, views, jacobians_of(weights)


def test_a_layers_outputs_are_its_jacobians_times_its_weights(network):
    weights, (x, _), jacobians = network
    h = np.asarray(x)
    for w in weights[:-1]:
        h = np.maximum(h @ np.asarray(w), 0)
    f = h @ np.asarray(weights[-1])
    assert f.dtype == np.float64
    for (of_x, _), w in zip(jacobians, weights, strict=True):
        assert of_x.shape == (7, 3, w.size)
        np.testing.assert_allclose(np.asarray(of_x) @ np.asarray(w).reshape(-1), f, atol=1e-13)


@pytest.mark.parametrize("name", cases.FAMILIES)
@pytest.mark.parametrize("negatives", ["same_view", "both_views"])
def test_the_negative_gradient_is_the_operator_times_the_weights(x64, network, name, negatives):
    weights, (x, x_pos), jacobians = network
    family = cases.family(name)
    f, pull_back = jax.vjp(lambda w: co.relu_network(w, jnp.concatenate([x, x_pos])), weights)

    @jax.jit
    def of_outputs(f, f_pos):
        def loss(f, f_pos):
            return acl.contrastive_loss(f, f_pos, family, negatives=negatives, reduction="sum")

        alpha = acl.pairwise_importance(f, f_pos, family, negatives=negatives)
        return alpha, jnp.concatenate(jax.grad(loss, (0, 1))(f, f_pos))

    alpha, by_outputs = of_outputs(f[:7], f[7:])
    (gradients,) = pull_back(by_outputs)
    for w, gradient, pair in zip(weights, gradients, jacobians, strict=True):
        operator = _operator(*pair, alpha)
        found = operator @ w.reshape(-1)
        assert np.linalg.norm(gradient) > 1e-3
        np.testing.assert_allclose(found, -gradient.reshape(-1), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(operator, operator.T, atol=1e-10)


_operator = jax.jit(co.covariance_operator)


@pytest.mark.slow
def test_operator_of_loss_is_the_both_views_one(x64, network):
    weights, (x, x_pos), jacobians = network
    family = acl.families.info_nce(0.5)
    alpha = acl.pairwise_importance(
        co.relu_network(weights, x), co.relu_network(weights, x_pos), family
    )
    of_loss = jax.jit(co.operator_of_loss, static_argnums=(0, 2, 5))
    found = of_loss(co.relu_network, weights, 1, x, x_pos, family)
    np.testing.assert_allclose(found, _operator(*jacobians[1], alpha), atol=1e-12)


def test_the_between_sample_variance_by_hand(x64):
    # One linear layer and one output: the Jacobian is the input, and its average over augmentation
    # is [signal, 0, 1]: variance 1 on the signal, 0 elsewhere. Two outputs: the sum over outputs.
    for outputs in (1, 2):
        weights = co.init_relu_network(jax.random.key(0), (6, outputs))
        found = jax.jit(co.between_sample_variance, static_argnums=(0, 2, 3))(
            co.relu_network, weights, 0, 2
        )
        signal = np.kron(np.diag([1.0, 1, 0, 0, 0, 0]), np.eye(outputs))
        np.testing.assert_allclose(found, signal, atol=1e-14)


@pytest.mark.slow
def test_the_error_of_the_limit_falls_like_one_over_root_n():
    weights = co.init_relu_network(jax.random.key(3), (3 * BITS, 4, 2))
    keys = jax.random.split(jax.random.key(4), 16)
    run = jax.jit(co.limit_errors, static_argnums=(2, 3, 4))
    errors = [float(jnp.mean(run(keys, weights, 0, n, BITS))) for n in (16, 256)]
    assert errors[1] < 0.4
    assert 0.7 < errors[0] / errors[1] / 4 < 1.4


def test_views_share_the_signal_and_the_constant():
    x, x_pos = co.block_views(jax.random.key(0), 2000, 2)
    np.testing.assert_array_equal(x[:, :2], x_pos[:, :2])
    np.testing.assert_array_equal(x[:, 4:], 1)
    np.testing.assert_allclose(
        x.T @ x / 2000,
        np.kron(np.diag([1, 1, 0]), np.eye(2)) + np.kron(np.diag([0, 0, 1]), np.ones((2, 2))),
        atol=0.1,
    )
    assert abs(float(jnp.mean(x[:, 2:4] * x_pos[:, 2:4]))) < 0.1


def test_what_shares_its_signal_is_one_sample():
    x, x_pos = co.block_views(jax.random.key(0), 9, 2)
    found = co.same_sample(x, x_pos, 2)
    want = [[(a[:2] == b[:2]).all() for b in np.asarray(x_pos)] for a in np.asarray(x)]
    np.testing.assert_array_equal(found, want)
    assert found.diagonal().all()
    assert not found.all()


def test_mass_is_by_block():
    weights = jnp.zeros((6, 2)).at[0].set(3.0).at[5, 1].set(4.0)
    np.testing.assert_allclose(
        co.block_mass(weights.reshape(-1)), np.array([18, 0, 16]) / 34, rtol=1e-6
    )
    np.testing.assert_array_equal(co.block_mass(jnp.zeros((2, 6))), np.zeros((2, 3)))


@pytest.mark.slow
def test_training_turns_the_weights_to_the_signal():
    settings = OperatorSettings(bits=2, hidden=(6,), outputs=3, steps=60, every=20, batch=32)
    history = jax.jit(watch_operator, static_argnums=1)(jax.random.key(0), settings)
    assert history.norm.shape == (3,)
    assert history.weight_mass.shape == (3, 3)
    assert history.weight_mass[-1, 0] > history.weight_mass[0, 0]
    assert history.loss[-1] < history.loss[0]
    for mass in (history.top_mass, history.apart_mass, history.bottom_mass):
        np.testing.assert_allclose(jnp.sum(mass, axis=1), 1, atol=1e-5)
    # Of 64 views a quarter shares the signal of two bits; training puts α there.
    assert 0.1 < history.false_share[0] < history.false_share[-1] <= 1


def test_what_is_refused():
    key = jax.random.key(0)
    weights = co.init_relu_network(key, (3, 2))
    with pytest.raises(ValueError, match=r"sizes=\(3,\) must be two or more"):
        co.init_relu_network(key, (3,))
    with pytest.raises(ValueError, match="layer=1 must be from 0 to 0"):
        co.layer_jacobians(co.relu_network, weights, 1, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="n=0 and bits=2 must be at least 1"):
        co.block_views(key, 0, 2)
    with pytest.raises(ValueError, match="n=1 must be at least 2: a batch of one"):
        co.limit_errors(key[None], weights, 0, 1, 1)
    with pytest.raises(ValueError, match=r"alpha has shape \(3, 3\)"):
        co.covariance_operator(jnp.ones((2, 1, 3)), jnp.ones((2, 1, 3)), jnp.ones((3, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 0}, "bits=0 must be at least 1"),
        ({"batch": 1}, "batch=1 must be at least 2"),
        ({"steps": 15, "every": 10}, "steps=15 must be a multiple of every=10"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be positive"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        OperatorSettings(**change)
