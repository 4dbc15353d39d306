"""What evaluation demands of its arrays, through one of its functions."""

import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.evaluation.checks import check_features, check_labels
from alphacl_jax.evaluation.knn import knn_accuracy

X = np.eye(6, 3)
Y = np.array([0, 1, 2, 0, 1, 2])
BAD = X.copy()
BAD[0, 0], BAD[1] = np.inf, np.nan


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"train_x": BAD}, ValueError, "4 of the 18 values in train_x are NaN or infinite"),
        ({"test_x": BAD}, ValueError, "4 of the 18 values in test_x are NaN or infinite"),
        ({"test_x": X[:, :2]}, ValueError, r"\(6, 3\) and \(6, 2\)"),
        ({"test_x": X[:0], "test_y": Y[:0]}, ValueError, r"test_x is empty: shape \(0, 3\)"),
        ({"train_x": X.reshape(6, 3, 1)}, AssertionError, "flatten images first"),
        ({"train_y": Y[:5]}, AssertionError, "train_y: one label per sample"),
        ({"train_y": Y + 1}, ValueError, r"train_y must lie in \[0, 2\].*from 1 to 3"),
        ({"test_y": Y - 1}, ValueError, r"test_y must lie in \[0, 2\].*from -1 to 1"),
        ({"test_y": Y / 2}, ValueError, "test_y must be integers; got dtype float64"),
        ({"num_classes": 1}, ValueError, "num_classes=1 must be at least 2"),
    ],
)
def test_bad_arrays(changes, error, message):
    good = {"train_x": X, "train_y": Y, "test_x": X, "test_y": Y, "num_classes": 3}
    with pytest.raises(error, match=message):
        knn_accuracy(**(good | changes))


def test_types():
    assert check_features("x", jnp.ones((2, 3), jnp.bfloat16)).dtype == np.float32
    assert check_features("x", np.ones((2, 3), np.uint8)).dtype == np.float32
    assert check_labels("y", np.array([0, 255], np.uint8), 2, 256).tolist() == [0, 255]
