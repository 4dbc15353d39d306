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
