"""BatchNorm of samples, and of values that occur with frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.normalization import batch_norm


def test_batch_norm_is_over_the_batch():
    h = batch_norm(5 + 3 * jax.random.normal(jax.random.key(0), (64, 2, 3)))
    np.testing.assert_allclose(jnp.mean(h, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(jnp.var(h, axis=0), 1, atol=1e-4)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("gradient", [False, True])
def test_batch_norm_and_its_gradient_in_closed_form(gradient):
    rng = np.random.default_rng(2)
    ids = np.array([0, 1, 1, 3, 3, 3, 0, 1])  # token 2 does not occur
    counts = np.bincount(ids, minlength=4)
    table, cotangent = rng.normal(size=(2, 4))
    h, g = table[ids], (cotangent / np.maximum(counts, 1))[ids]  # of each sample
    sigma = np.sqrt(h.var() + 1e-5)
    normal = (h - h.mean()) / sigma
    through_variance = normal * (g * normal).mean() if gradient else 0.0
    of_samples = (g - g.mean() - through_variance) / sigma
    want = np.array([of_samples[ids == t].sum() for t in range(4)])

    frequency = jnp.asarray(counts / len(ids))[None, :, None]
    found, pull = jax.vjp(
        lambda values: batch_norm(
            values, frequency, axis=1, variance_gradient=jnp.asarray(gradient)
        ),
        jnp.asarray(table)[None, :, None],
    )
    np.testing.assert_allclose(found[0, ids, 0], normal, atol=1e-12)
    occurring = jnp.asarray(cotangent * (counts > 0))[None, :, None]
    np.testing.assert_allclose(pull(occurring)[0][0, :, 0], want, atol=1e-12)
