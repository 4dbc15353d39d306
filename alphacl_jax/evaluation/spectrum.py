"""How many dimensions an embedding uses: the spectrum of its covariance, and its effective rank."""

import chex
import numpy as np
from numpy.typing import ArrayLike

from alphacl_jax.evaluation.checks import check_features


def singular_values(features: ArrayLike) -> np.ndarray:
    """Singular values of the covariance C = 1/n Σ_i (z_i − z̄)(z_i − z̄)ᵀ, largest first.

    Args:
        features: z, `[n, dim]`.

    Returns:
        `[dim]`, float64, not negative. A collapsed dimension is a 0 (to about 1e-14 of the
        largest; in float32 features, rounding leaves about as much).

    Raises:
        AssertionError: not of rank 2.
        ValueError: values that are not finite.

    References:
        Jing et al. 2022, "Understanding dimensional collapse in contrastive self-supervised
        learning" (arXiv:2110.09348), section 3.
    """
    z = check_features("features", features).astype(np.float64)
    z -= z.mean(axis=0)
    # C is symmetric and positive semi-definite: its eigenvalues, up to rounding below 0.
    return np.maximum(np.linalg.eigvalsh(z.T @ z / len(z))[::-1], 0.0)


def effective_rank(singular_values: ArrayLike) -> float:
    """exp(−Σ_k p_k log p_k) with p = σ / Σσ: between 1 (a line) and dim (equal variances).

    On the values of `singular_values` it is the effective rank of the *covariance*; on their
    square roots that of the centred embedding matrix, which is larger (RankMe's convention).

    Args:
        singular_values: σ, `[dim]`, not negative.

    Returns:
        The effective rank; 0 where all are 0 (complete collapse).

    Raises:
        AssertionError: not of rank 1.
        ValueError: negative or not finite.

    References:
        Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    sigma = np.asarray(singular_values, np.float64)
    chex.assert_rank(sigma, 1)
    if not (np.isfinite(sigma).all() and (sigma >= 0).all()):
        raise ValueError(f"singular values must be finite and not negative; got {sigma}")
    p = sigma[sigma > 0]
    if p.size == 0:
        return 0.0
    p = p / p.sum()
    return float(np.exp(-np.sum(p * np.log(p))))
