"""Features of several sizes for one compiled function."""

import numpy as np

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
