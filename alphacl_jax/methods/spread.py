"""Whether embeddings collapse: how far they spread, and over how many directions."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import xlogy

from alphacl_jax.methods.method import Metrics
from alphacl_jax.sharded import AxisName


def spread(z: Array, *, axis_name: AxisName = None, after: Array | None = None) -> Metrics:
    """How far normalised embeddings spread; no gradient flows through it.

    Args:
      z: `[n, dim]`, of norm 1.
      axis_name: the mapped axis over which z is spread, or None.
      after: an array of the program that must be there first; a decomposition does not run beside
        another one then.

    Returns:
      std: the standard deviation over the batch, the mean over dimensions, 0 where all embeddings
        are one, 1/√dim where they spread over all directions alike.
      effective_rank: `exp(−Σ p log p)` of the eigenvalues p of their covariance, as shares: 1 on a
        line, min(n − 1, dim) at most, 0 where all embeddings are one.

    References:
      Chen and He, "Exploring Simple Siamese Representation Learning", 2021 (std); Roy and Vetterli,
      "The effective rank", 2007.
    """
    z = jax.lax.stop_gradient(z)

    def everywhere(x: Array) -> Array:
        return x if axis_name is None else jax.lax.pmean(x, axis_name)

    centred = z - everywhere(jnp.mean(z, axis=0, keepdims=True))
    std = jnp.mean(jnp.sqrt(everywhere(jnp.mean(centred**2, axis=0))))
    # Both products have the same eigenvalues above 0.
    few = axis_name is None and centred.shape[0] < centred.shape[1]
    covariance = (centred @ centred.T if few else centred.T @ centred) / centred.shape[0]
    covariance = everywhere(covariance)
    sigma = jnp.maximum(jnp.linalg.eigvalsh(in_turn(covariance, after)), 0.0)
    total = jnp.sum(sigma)
    share = sigma / jnp.where(total > 0, total, 1.0)
    rank = jnp.where(total > 0, jnp.exp(-jnp.sum(xlogy(share, share))), 0.0)
    return {"std": std, "effective_rank": rank}


def in_turn(matrix: Array, after: Array | None) -> Array:
    """The matrix, once `after` is there.

    XLA runs independent decompositions of one CPU program side by side; two batched ones can wait
    for each other for ever, which seeds that train together would meet.
    """
    if after is None:
        return matrix
    # Never true, which the compiler cannot know.
    return jnp.where(jnp.ravel(after)[0] < -jnp.inf, jnp.nan, matrix)
