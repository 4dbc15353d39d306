"""What every evaluation demands of its features and labels, with errors that say what is wrong."""

import chex
import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from alphacl_jax.errors import ArgumentError


def check_features(name: str, features: ArrayLike, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Features `[n, dim]` as an array, of float32 unless told.

    Raises:
        AssertionError: not of rank 2 (flatten images first).
        ValueError: empty, or with NaN or infinite values.
    """
    array = np.asarray(features)
    chex.assert_rank(array, 2, custom_message=f"{name} must be [n, dim]; flatten images first")
    if array.size == 0:
        raise ValueError(f"{name} is empty: shape {array.shape}")
    array = array.astype(dtype, copy=False)
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise ValueError(
            f"{bad} of the {array.size} values in {name} are NaN or infinite: "
            "look at the encoder that made them (diverged training, or inputs out of range)"
        )
    return array


def check_labels(name: str, labels: ArrayLike, num_samples: int, num_classes: int) -> np.ndarray:
    """Labels `[num_samples]` as an int32 array of values in [0, num_classes).

    Raises:
        AssertionError: another shape.
        ValueError: not integers, or out of range; fewer than two classes.
    """
    array = np.asarray(labels)
    chex.assert_shape(array, (num_samples,), custom_message=f"{name}: one label per sample")
    if num_classes < 2:
        raise ArgumentError("num_classes", num_classes, "must be at least 2")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers; got dtype {array.dtype}")
    if array.min() < 0 or array.max() >= num_classes:
        raise ValueError(
            f"{name} must lie in [0, {num_classes - 1}] for num_classes={num_classes}; "
            f"got values from {array.min()} to {array.max()}"
        )
    return array.astype(np.int32)


def check_split(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    num_classes: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A training and a test set of the same dimension, each checked as above."""
    train_x, test_x = check_features("train_x", train_x), check_features("test_x", test_x)
    if train_x.shape[1] != test_x.shape[1]:
        raise ValueError(
            "train_x and test_x must have the same number of features; "
            f"got shapes {train_x.shape} and {test_x.shape}"
        )
    train_y = check_labels("train_y", train_y, len(train_x), num_classes)
    test_y = check_labels("test_y", test_y, len(test_x), num_classes)
    return train_x, train_y, test_x, test_y
