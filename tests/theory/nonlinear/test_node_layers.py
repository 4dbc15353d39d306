"""Layers of several nodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.nonlinear.activations import LINEAR, monomial
from alphacl_jax.theory.nonlinear.local_maxima import (
    node_energy,
)
from alphacl_jax.theory.nonlinear.node_layers import train_layers
from tests.theory.nonlinear.examples import easy_data, random_data


def test_layers_ascend_the_sum_over_their_nodes(x64):
    """Against the projected gradient of Σ_k E(w_k) by all nodes at once, by autodiff."""
    _, data = easy_data()
    activation = monomial(2)
    size = {"num_layers": 2, "num_nodes": 4}
    key = jax.random.key(5)
    starts = train_layers(key, data, activation, **size, max_steps=0).weights
    assert starts.shape == (2, 4, 3)
    assert len(np.unique(np.round(starts.reshape(8, 3), 6), axis=0)) == 8

    @jax.jit
    def joint_step(_, w):
        total = jax.grad(lambda w: sum(node_energy(v, data, activation) for v in w))(w)
        w = w + 0.2 * total
        return w / jnp.linalg.norm(w, axis=1, keepdims=True)

    expected = jnp.stack([jax.lax.fori_loop(0, 1000, joint_step, w) for w in starts])
    ends = train_layers(key, data, activation, **size)
    np.testing.assert_allclose(ends.weights, expected, atol=1e-5)
    energies = jax.vmap(jax.vmap(lambda w: node_energy(w, data, activation)))(expected)
    np.testing.assert_allclose(ends.energies, energies, rtol=1e-8)
    assert ends.residuals.shape == (2, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: train_layers(
                jax.random.key(0), random_data(), LINEAR, **{"num_layers": 0, "num_nodes": 2}
            ),
            "num_layers=0 is out of range",
        ),
        (
            lambda: train_layers(
                jax.random.key(0), random_data(), LINEAR, **{"num_nodes": 0, "num_layers": 2}
            ),
            "num_nodes=0 is out of range",
        ),
    ],
)
def test_what_is_out_of_range_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
