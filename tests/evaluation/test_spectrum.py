"""Spectrum and effective rank: NumPy's SVD, closed forms, symmetries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphacl_jax.evaluation.spectrum import effective_rank, singular_values


@pytest.mark.parametrize("n", [40, 3])
def test_singular_values_of_the_covariance(n):
    z = np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32) * np.arange(1, 7) + 5
    z = z.astype(np.float32)
    covariance = np.zeros((6, 6))
    mean = z.astype(np.float64).mean(axis=0)
    for row in z.astype(np.float64):
        covariance += np.outer(row - mean, row - mean) / n
    got = singular_values(z)
    np.testing.assert_allclose(got, np.linalg.svd(covariance)[1], rtol=1e-9, atol=1e-12)
    assert (got >= 0).all()


def test_shift_and_rotation_leave_the_spectrum():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 5)) * [3, 2, 1, 0.5, 0.1]
    q, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    np.testing.assert_allclose(singular_values(z @ q + 2), singular_values(z), rtol=1e-4)


@pytest.mark.parametrize(
    ("sigma", "rank"),
    [
        ([2.0, 2.0, 2.0, 2.0], 4.0),
        ([5.0, 0.0, 0.0], 1.0),
        ([1.0, 1.0, 0.0, 0.0, 0.0], 2.0),
        ([0.5, 0.25, 0.25], np.exp(1.5 * np.log(2))),
        ([0.0, 0.0], 0.0),
    ],
)
def test_effective_rank_closed_forms(sigma, rank):
    assert effective_rank(sigma) == pytest.approx(rank, rel=1e-12)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12), st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_effective_rank_is_bounded_and_free_of_scale_and_order(sigma, scale):
    rank = effective_rank(sigma)
    assert 1 - 1e-9 <= rank <= len(sigma) + 1e-9
    assert effective_rank(scale * np.array(sigma[::-1])) == pytest.approx(rank, rel=1e-6)


@pytest.mark.parametrize("sigma", [[1.0, -1.0], [np.nan, 1.0]])
def test_effective_rank_of_nonsense(sigma):
    with pytest.raises(ValueError, match="finite and not negative"):
        effective_rank(sigma)


def test_features_that_are_not_finite():
    with pytest.raises(ValueError, match="1 of the 4 values in features"):
        singular_values(np.array([[0, 1], [np.nan, 2]]))
    with pytest.raises(AssertionError, match="rank"):
        effective_rank(np.eye(2))
