"""Basins of attraction under modulation (Theorem 4)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.nonlinear.basins import basin_members, predicted_basin


@pytest.mark.parametrize("dim", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_basins_have_their_closed_form_and_grow(dim):
    starts = jax.random.normal(jax.random.key(0), (3000, dim))
    strengths = (0.0, 0.2, 0.5, 0.8)
    members = np.asarray(
        jax.jit(jax.vmap(basin_members, in_axes=(None, 0)))(starts, jnp.asarray(strengths))
    )
    for c, basin in zip(strengths, members.mean(axis=1), strict=True):
        expected = predicted_basin(c, dim)
        assert (expected is None) == (dim == 5 and c == 0.2)
        if expected is not None:
            assert abs(basin - expected) < 4 * (expected * (1 - expected) / 3000) ** 0.5
    # Theorem 4, as inclusion.
    assert not (members[:-1] & ~members[1:]).any()
    assert members[1].sum() > members[0].sum()
    # Without modulation: the largest coordinate wins, if it is positive.
    largest = np.asarray((starts[:, 0] > 0) & (jnp.argmax(starts, axis=1) == 0))
    assert (members[0] == largest).mean() > 0.995


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_slope_out_of_range(slope):
    with pytest.raises(ValueError, match=f"slope={slope} is out of range; g stays positive"):
        basin_members(jnp.ones((1, 2)), jnp.asarray(0.0), slope=slope)
    with pytest.raises(ValueError, match=f"slope={slope} is out of range; g stays positive"):
        predicted_basin(0.1, 2, slope=slope)


def test_basins_out_of_range():
    with pytest.raises(ValueError, match=r"strength=-0.8 is out of range; it must be at least 0"):
        predicted_basin(-0.8, 2)
    with pytest.raises(ValueError, match="dim=1 is out of range; it must be at least 2"):
        predicted_basin(0.1, 1)
