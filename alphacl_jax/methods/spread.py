"""Whether embeddings collapse: how far they spread, and over how many directions."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import xlogy

from alphacl_jax.methods.method import Metrics
from alphacl_jax.sharded import AxisName

COLLAPSED = 0.1  # below this share of what is healthy


def spread(z: Array, *, axis_name: AxisName = None, after: Array | None = None) -> Metrics:
    """How far normalised embeddings spread; no gradient flows through it.

    Args:
      z: `[n, dim]`, of norm 1.
      axis_name: the mapped axis over which z is spread, or None.
      after: an array of the program that must be there first; a decomposition does not run beside
        another one then.

    Returns:
      std: the standard deviation over the batch, the mean over dimensions, 0 where all embeddings
        are one.
      healthy_std: 1/√dim, what std is where they spread over all directions alike.
      embedding_rank: their effective rank, `exp(−Σ p log p)` of the eigenvalues p of their
        covariance, as shares: 1 on a line, min(n − 1, dim) at most, 0 where all embeddings are one.

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
    healthy = jnp.full_like(std, z.shape[1] ** -0.5)
    return {"std": std, "healthy_std": healthy, "embedding_rank": rank}


def collapse_warning(recorded: Mapping[str, float]) -> str:
    """What the metrics of a recorded step warn of; "" where they do not."""
    std, healthy = recorded["std"], recorded["healthy_std"]
    if not std < COLLAPSED * healthy:  # NaN is told by the loss
        return ""
    return (
        f"the embeddings are collapsing: their standard deviation per dimension is {std:.2g}, and "
        f"{healthy:.2g} where they spread over all directions"
    )


def in_turn(matrix: Array, after: Array | None) -> Array:
    """The matrix, once `after` is there.

    XLA runs independent decompositions of one CPU program side by side; two batched ones can wait
    for each other for ever, which seeds that train together would meet.
    """
    if after is None:
        return matrix
    # Never true, which the compiler cannot know.
    return jnp.where(jnp.ravel(after)[0] < -jnp.inf, jnp.nan, matrix)
