"""Decompositions one after the other: values, and that they end where those at once do not."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.linear_networks.decomposition import svd_in_turn

SHAPES = ((4, 3), (2, 5), (3, 3))


def matrices():
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape)) for shape in SHAPES]


def test_each_is_its_matrix_again(x64):
    for matrix, svd in zip(matrices(), svd_in_turn(matrices()), strict=True):
        rank = min(matrix.shape)
        np.testing.assert_allclose((svd.u * svd.sigma[None]) @ svd.vt, matrix, atol=1e-14)
        np.testing.assert_allclose(svd.u.T @ svd.u, np.eye(rank), atol=1e-14)
        np.testing.assert_allclose(svd.vt @ svd.vt.T, np.eye(rank), atol=1e-14)
        assert (np.diff(svd.sigma) <= 0).all()


def test_what_is_not_finite_stays_with_its_matrix():
    first, second, third = matrices()
    spoilt = svd_in_turn((first, second * jnp.nan, third))
    assert np.isnan(spoilt[1].sigma).all()
    np.testing.assert_array_equal(spoilt[2].sigma, svd_in_turn(matrices())[2].sigma)


@pytest.mark.slow  # in a process of its own, since what it guards against never ends
def test_many_large_ones_in_one_program_end():
    program = """
import jax
from alphacl_jax.theory.linear_networks.decomposition import svd_in_turn

def step(a, _):
    return a, [svd.sigma for svd in svd_in_turn([(i + 1) * a for i in range(6)])]

a = jax.random.normal(jax.random.key(0), (16, 64, 64))
run = jax.jit(jax.vmap(lambda a: jax.lax.scan(step, a, length=5)))
for _ in range(3):
    jax.block_until_ready(run(a))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
