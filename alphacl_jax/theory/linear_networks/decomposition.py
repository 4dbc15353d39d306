"""Singular value decompositions of several matrices, none begun before the last has ended."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Svd(NamedTuple):
    """`U diag(σ) Vᵀ` of a matrix `[m, n]`, r = min(m, n).

    Attributes:
      u: left singular vectors as columns, `[m, r]`.
      sigma: singular values, largest first, `[r]`.
      vt: right singular vectors as rows, `[r, n]`.
    """

    u: Array
    sigma: Array
    vt: Array


def svd_in_turn(matrices: Sequence[Array]) -> list[Svd]:
    """The decompositions of matrices of any shapes, each after the one before it.

    XLA runs independent decompositions of one CPU program side by side. Each of them, of a batch
    (by `jax.vmap`), divides its work among the threads of one pool and waits for it on one of
    them: on two cores, two such wait for each other for ever (jaxlib 0.10.2, from a few dozen
    matrices of 64 × 64 or 3 of 100 × 100 up). So each is made to need the one before it.
    """
    found: list[Svd] = []
    for matrix in matrices:
        if found:
            # Never true, which the compiler cannot know; an optimisation barrier would be dropped.
            matrix = jnp.where(found[-1].sigma[0] < 0, jnp.nan, matrix)
        found.append(Svd(*jnp.linalg.svd(matrix, full_matrices=False)))
    return found
