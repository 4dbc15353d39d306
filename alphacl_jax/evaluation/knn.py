"""Weighted k-nearest-neighbour classification by cosine similarity.

    score_c(x) = Σ_{i ∈ k nearest of x} exp(cos(x, x_i)/temperature) · [y_i = c]

References:
    Wu et al. 2018, "Unsupervised feature learning via non-parametric instance discrimination"
    (arXiv:1805.01978), section 3.4, with its k = 200; the usual
    temperature of 0.1 (there 0.07).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.checks import check_split
from alphacl_jax.evaluation.features import pad_columns


def knn_correct(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    num_classes: int,
    *,
    k: int | None = None,
    temperature: float = 0.1,
) -> np.ndarray:
    """Which test samples weighted kNN on l2-normalised features classifies rightly; no fitting.

    Args:
        train_x: features `[n, dim]`.
        train_y: labels `[n]` in [0, num_classes).
        test_x: features `[m, dim]`; taken in blocks, so that memory stays bounded.
        test_y: labels `[m]` in [0, num_classes).
        num_classes: at least 2.
        k: number of neighbours, 1 ≤ k ≤ n. By default 200, as is usual, and fewer for a small
            set: one in a hundred of its samples, but 5 at least (n, where there are fewer).
        temperature: of the weights, > 0.

    Returns:
        bool `[m]`.

    Raises:
        AssertionError: shapes.
        ValueError: features that are not finite, labels, `k` or `temperature` out of range.
    """
    train_x, train_y, test_x, test_y = check_split(train_x, train_y, test_x, test_y, num_classes)
    n = len(train_x)
    if k is None:
        k = min(200, max(5, n // 100), n)
    if not 1 <= k <= n:
        raise ArgumentError("k", k, f"must lie between 1 and the {n} training samples")
    if not temperature > 0:
        raise ArgumentError("temperature", temperature, "must be above 0")
    block = max(1, min(len(test_x), _BLOCK_SIZE // n))
    # A column of zeros changes no cosine.
    train_x, test_x = pad_columns(train_x), pad_columns(test_x)
    predicted = _predict(train_x, train_y, test_x, num_classes, k, temperature, block)
    return np.asarray(predicted) == test_y


def knn_accuracy(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    num_classes: int,
    *,
    k: int | None = None,
    temperature: float = 0.1,
) -> float:
    """Test accuracy in [0, 1] of weighted kNN.

    Args and Raises: see `knn_correct`.
    """
    split = train_x, train_y, test_x, test_y
    return float(knn_correct(*split, num_classes, k=k, temperature=temperature).mean())


_BLOCK_SIZE = 2**24  # similarities held at once (64 MB)


@partial(jax.jit, static_argnames=("num_classes", "k", "block"))
def _predict(
    train_x: jax.Array,
    train_y: jax.Array,
    test_x: jax.Array,
    num_classes: int,
    k: int,
    temperature: float,
    block: int,
) -> jax.Array:
    train_x, test_x = unit_rows(train_x), unit_rows(test_x)

    def predict(x: jax.Array) -> jax.Array:
        # Accelerators multiply float32 matrices in less than float32 unless told.
        cosine = jnp.matmul(train_x, x, precision=jax.lax.Precision.HIGHEST)
        nearest, index = jax.lax.top_k(cosine, k)
        # Relative to the nearest: the same winner, and no overflow at a small temperature.
        weights = jnp.exp((nearest - nearest[0]) / temperature)
        return jnp.argmax(jnp.zeros(num_classes, jnp.float32).at[train_y[index]].add(weights))

    return jax.lax.map(predict, test_x, batch_size=block)


def unit_rows(x: jax.Array) -> jax.Array:
    """Rows of unit length; 0 stays 0."""
    scale = jnp.max(jnp.abs(x), axis=1, keepdims=True)  # squares neither overflow nor vanish
    x = x / jnp.where(scale > 0, scale, 1)
    norm = jnp.linalg.norm(x, axis=1, keepdims=True)
    return x / jnp.where(norm > 0, norm, 1)
