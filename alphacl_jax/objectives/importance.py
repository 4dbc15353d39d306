"""The pairwise importance of any loss of squared distances."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def importance_of(loss_of_distances: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """α of a loss that depends on embeddings through their squared distances, signed.

        α_ij = −∂ Σ_k L_k / ∂ d_ij   over ordered pairs

    For every such loss the gradient by the embeddings is that of an energy,
    `∇L = −½ ∇ tr C_{sg(α)} = −∇ Σ_ij sg(α_ij) d_ij`, so what tells losses apart is α alone: pairs
    that are pushed apart have positive weights, pairs that are drawn together negative ones.

    Args:
      loss_of_distances: maps half squared distances `[m, m]` to losses of any shape, which are
        summed; such as `lambda d: supcon_of_distances(d, labels, 0.1)`, or one's own.

    Returns:
      A function of d `[m, m]`, which gives α `[m, m]`.

    Example:
      >>> import jax.numpy as jnp
      >>> from alphacl_jax import objectives
      >>> d = jnp.array([[0.0, 0.2], [0.2, 0.0]])
      >>> drawn_together = objectives.importance_of(lambda d: d)(d)
      >>> float(drawn_together[0, 1])
      -1.0

    References:
      Tian, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization", 2022, whose
      theorem for its family this extends to signed α.
    """
    return lambda d: -jax.grad(lambda d: jnp.sum(loss_of_distances(d)))(d)
