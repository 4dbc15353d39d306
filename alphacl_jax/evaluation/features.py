"""Features of a whole split, a batch at a time."""

from collections.abc import Callable, Iterable

import numpy as np
from jax import Array


def extract_features(
    function: Callable[[np.ndarray], Array], chunks: Iterable[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Applies an encoder to images that come in chunks.

    Args:
      function: maps images `[batch, height, width, channels]` to `[batch, dim]`; jitted by the
        caller, who may have several sets of images for it.
      chunks: images and labels, such as from `alphacl_jax.data.sources.in_order`; all of one
        length but the last, which is padded so that one compiled function serves all.

    Returns:
      Features float32 `[n, dim]` and labels int32 `[n]`.

    Raises:
      ValueError: for no images.
    """
    features, labels = [], []
    size = 0
    for images, classes in chunks:
        size = max(size, len(images))
        padding = [(0, size - len(images))] + [(0, 0)] * (images.ndim - 1)
        features.append(np.asarray(function(np.pad(images, padding)))[: len(images)])
        labels.append(classes)
    if not features:
        raise ValueError("there are no images to extract features of")
    return np.concatenate(features).astype(np.float32), np.concatenate(labels)


_COLUMNS = 128


def pad_columns(x: np.ndarray, at_most: int | None = None) -> np.ndarray:
    """Adds columns of zeros, so that features of several sizes share a compiled function.

    Args:
      x: features `[..., dim]`.
      at_most: no more columns than this, but never fewer than dim.

    Returns:
      `[..., columns]` float32, columns the next multiple of 128 or `at_most`.
    """
    dim = x.shape[-1]
    columns = -(-dim // _COLUMNS) * _COLUMNS
    if at_most is not None:
        columns = max(dim, min(columns, at_most))
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, columns - dim)]).astype(np.float32)
