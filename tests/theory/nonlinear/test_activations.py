"""Homogeneous activations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.nonlinear.activations import RELU, leaky_relu, monomial
from tests.theory.nonlinear.examples import ACTIVATIONS


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_homogeneous_and_derivatives_are_those_of_autodiff(activation, x64):
    u = jnp.asarray([-2.0, -0.3, 0.1, 1.7])
    derivative = activation.derivative(u)
    np.testing.assert_allclose(derivative * u, activation.degree * activation.apply(u), rtol=1e-12)
    np.testing.assert_allclose(derivative, jax.vmap(jax.grad(activation.apply))(u), rtol=1e-12)
    flipped = np.abs(activation.apply(-u)), np.abs(activation.apply(u))
    assert np.allclose(*flipped) == activation.sign_symmetric


def test_equal_activations_are_one_object():
    assert leaky_relu(0.2) is leaky_relu(0.2)
    assert monomial(3) is monomial(3)


@pytest.mark.parametrize(
    ("make", "value", "message"),
    [
        (leaky_relu, 1.0, r"slope=1.0 is out of range; it must be in \(0, 1\)"),
        (leaky_relu, 0.0, "slope=0.0 is out of range"),
        (monomial, 1, "power=1 is out of range; it must be an integer of at least 2"),
        (monomial, 2.5, "power=2.5 is out of range"),
    ],
)
def test_activations_out_of_range(make, value, message):
    with pytest.raises(ValueError, match=message):
        make(value)


def test_relu_passes_nan_on():
    values = RELU.apply(jnp.asarray([jnp.nan, -1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(values, [np.nan, 0, 0, 2])
