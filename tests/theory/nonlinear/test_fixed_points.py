"""The two sides of the stability condition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.nonlinear.activations import LINEAR, monomial
from alphacl_jax.theory.nonlinear.fixed_points import stability
from alphacl_jax.theory.nonlinear.local_maxima import (
    node_covariance,
)
from alphacl_jax.theory.nonlinear.patterns import (
    NodeData,
)
from tests.theory.nonlinear.examples import random_data


def test_stability_of_a_linear_node(x64):
    """A is constant: L = 0, and the gaps are those of its eigenvalues."""
    data = random_data()
    values, vectors = np.linalg.eigh(node_covariance(jnp.ones(3), data, LINEAR))
    for k, w in enumerate(vectors.T):
        at = stability(jax.random.key(0), jnp.asarray(w), data, LINEAR)
        rest = np.delete(values, k).max()
        np.testing.assert_allclose(at.gap, values[k] - rest, rtol=1e-9)
        np.testing.assert_allclose(at.eigenvalue, values[k], rtol=1e-9)
        np.testing.assert_allclose([at.residual, at.lipschitz], 0, atol=1e-10)
        assert bool(at.is_stable) == (k == 2)


def test_lipschitz_constant_of_a_square(x64):
    """One pair of points on one axis: A(w) = 4 w₁² e₁e₁ᵀ · C[x₁²] has |dA| = 8 |w₁||dw₁| C."""
    x = jnp.asarray([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    data = NodeData(x, x, jnp.asarray([[0.0, 0.5], [0.5, 0.0]]))
    # x̃ = 2 w₁ x₁² e₁ = 8 w₁ e₁ at the one point: A = 64 w₁² e₁e₁ᵀ, steepest in w₁.
    w = jnp.asarray([0.8, 0.6, 0.0])
    at = stability(jax.random.key(0), w, data, monomial(2), radius=1e-3, num_samples=2000)
    # The steepest tangent direction changes w₁ by √(1 − w₁²) = 0.6 for each unit.
    np.testing.assert_allclose(at.lipschitz, 64 * 2 * 0.8 * 0.6, rtol=0.01)
    np.testing.assert_allclose(at.eigenvalue, 64 * 0.8**4, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: stability(jax.random.key(0), jnp.ones(3), random_data(), LINEAR, radius=0.0),
            "radius=0.0 is out of range",
        ),
        (
            lambda: stability(jax.random.key(0), jnp.ones(3), random_data(), LINEAR, num_samples=0),
            "num_samples=0 is out of range",
        ),
        (
            lambda: stability(jax.random.key(0), jnp.ones(3), random_data(), LINEAR),
            r"w has norm 1.73205; it must be 1",
        ),
        (
            lambda: stability(jax.random.key(0), jnp.full(3, jnp.nan), random_data(), LINEAR),
            "w has norm nan; it must be 1",
        ),
    ],
)
def test_what_is_out_of_range_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
