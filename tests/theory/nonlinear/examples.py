"""What the tests of nonlinear nodes share: activations and data."""

import jax
import jax.numpy as jnp
import numpy as np

from alphacl_jax.theory.nonlinear.activations import LINEAR, RELU, leaky_relu, monomial
from alphacl_jax.theory.nonlinear.patterns import (
    NodeData,
    equiangular_patterns,
    pattern_data,
)

ACTIVATIONS = [LINEAR, RELU, leaky_relu(0.2), monomial(2), monomial(3)]


def random_data(n=7, dim=3, both_views=False):
    """Random views with a random α that is not symmetric."""
    generator = np.random.default_rng(0)
    x, x_pos = generator.normal(size=(2, n, dim))
    m = 2 * n if both_views else n
    return NodeData(*(jnp.asarray(v) for v in (x, x_pos, generator.uniform(size=(m, m)))))


def easy_data(cosine=-0.3, noise=0.2):
    patterns = equiangular_patterns(3, 3, cosine)
    frequencies = jnp.asarray([0.45, 0.3, 0.25])
    return patterns, pattern_data(
        jax.random.key(0), patterns, frequencies, num_samples=48, noise=noise
    )
