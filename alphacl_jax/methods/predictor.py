"""Predictors that are not learned by gradient: set from the correlation of the embeddings."""

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import precise_matmul
from alphacl_jax.methods.spread import in_turn


def average(matrix: Array, f: Array, count: Array, keep: float) -> Array:
    """`F ← ρF + (1 − ρ)E[f fᵀ]`; the first batch's E alone at the first step.

    Args:
      matrix: F `[dim, dim]`.
      f: `[n, dim]`.
      count: how many steps were made.
      keep: ρ, the coefficient of the old value.
    """
    f = jax.lax.stop_gradient(f)
    batch = precise_matmul(f.T, f) / f.shape[0]
    return jnp.where(count == 0, batch, keep * matrix + (1.0 - keep) * batch)


def directpred(matrix: Array, eps: float) -> Array:
    """`W = U (diag(s/max s)^½ + ε) Uᵀ` of F = U diag(s) Uᵀ, s clamped at 0.

    References:
      Tian, Chen and Ganguli, "Understanding Self-supervised Learning Dynamics without Contrastive
      Pairs", 2021.
    """
    s, u = jnp.linalg.eigh(matrix)
    s = jnp.maximum(s, 0.0)
    highest = jnp.max(s)
    share = s / jnp.where(highest > 0, highest, 1.0)
    return precise_matmul(u * (jnp.sqrt(share) + eps)[None, :], u.T)


def directcopy(matrix: Array, eps: float) -> Array:
    """`W = F + ε I`.

    References:
      Wang, Chen, Du and Tian, "Towards Demystifying Representation Learning with Non-contrastive
      Self-supervision", 2021.
    """
    return matrix + eps * jnp.eye(matrix.shape[0], dtype=matrix.dtype)


def fitted(f: Array, p: Array, *, after: Array | None = None) -> Array:
    """The linear map that fits `p = W f` best on a batch, `[dim, dim]`: what a predictor does.

    Of a linear predictor without bias it is that predictor, on the directions that f has. `after`
    is as in `spread`.
    """
    f, p = jax.lax.stop_gradient((f, p))
    gram = in_turn(precise_matmul(f.T, f), after)
    ridge = 1e-6 * jnp.trace(gram) / gram.shape[0] + jnp.finfo(gram.dtype).tiny
    return jnp.linalg.solve(gram + ridge * jnp.eye(gram.shape[0]), precise_matmul(f.T, p)).T


def eigenspace_alignment(weights: Array, matrix: Array, *, after: Array | None = None) -> Array:
    """How far the predictor W keeps the eigenvectors u_j of F = Σ_j s_j u_j u_jᵀ where they are.

        Σ_j s_j |cos(W u_j, u_j)| / Σ_j s_j

    1 where each u_j is an eigenvector of W too, as theory has it of a predictor that was trained
    long enough.

    Args:
      weights: W `[dim, dim]`.
      matrix: F `[dim, dim]`.
      after: as in `spread`.

    Returns:
      A scalar in [0, 1].

    References:
      Tian, Chen and Ganguli, 2021, theorem 3 and its figure.
    """
    s, u = jnp.linalg.eigh(in_turn(matrix, after))
    s = jnp.maximum(s, 0.0)
    image = precise_matmul(weights, u)
    length = jnp.linalg.norm(image, axis=0)
    cosine = jnp.abs(jnp.sum(u * image, axis=0)) / jnp.where(length > 0, length, 1.0)
    total = jnp.sum(s)
    return jnp.sum(s * cosine) / jnp.where(total > 0, total, 1.0)
