"""What can be read out of embeddings: a position or a class, of time that was held out.

Neighbours in time look alike, whatever the embedding: moments drawn at random for a test would have
near copies of themselves in training. So time is parted in whole blocks (`held_out.time_split`),
and what a decoder has to choose, its number of neighbours or its penalty, is chosen on the last
part of the training time; the decoder is then made of all of it.

References:
  Schneider, Lee and Mathis 2023, "Learnable latent embeddings for joint behavioural and neural
  analysis" (doi:10.1038/s41586-023-06031-6): kNN by cosine, the number of neighbours out of
  1, 4, 9, 16, 25 in its package.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler, normalize

from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.evaluation.checks import check_features, check_labels
from alphacl_jax.evaluation.held_out import TimeSplit, time_split

METRICS = ("cosine", "euclidean")
NEIGHBORS = (1, 4, 9, 16, 25, 49, 100, 200)
PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 1e2, 1e3, 1e4)


class Position(NamedTuple):
    """A decoded position.

    Attributes:
      prediction: `[m, dims]`; in [0, period) where it is cyclic.
      median_error: the median over moments of the distance to where it was, in the position's
        units: the absolute error, where there is one dimension.
      r2: 1 − Σ‖error‖²/Σ‖position − mean‖², of each dimension, and the mean of these; of cosine and
        sine where it is cyclic. Below 0 where the mean would be better.
      chosen: the number of neighbours, or the penalty.
      at_end: whether that is the first or last of the candidates, so that one outside them may be
        better.
    """

    prediction: np.ndarray
    median_error: float
    r2: float
    chosen: float
    at_end: bool


class Classes(NamedTuple):
    """Decoded classes.

    Attributes:
      prediction: int32 `[m]`.
      accuracy: in [0, 1].
      most_frequent: the accuracy of the class that is most frequent in training, always.
      chosen: the number of neighbours.
      at_end: whether that is the last of the candidates.
    """

    prediction: np.ndarray
    accuracy: float
    most_frequent: float
    chosen: int
    at_end: bool


def decode_position(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    *,
    metric: str = "cosine",
    neighbors: Sequence[int] = NEIGHBORS,
    period: float | None = None,
    validation: float = 0.2,
) -> Position:
    """kNN regression: the mean position of the k nearest moments of training.

    Args:
      train_x: embeddings `[n, dim]`, in the order of time.
      train_y: positions `[n]` or `[n, dims]`.
      test_x: embeddings `[m, dim]` of held-out time.
      test_y: positions.
      metric: "cosine" for embeddings of length 1, or "euclidean".
      neighbors: candidates for k, in any order: of those that training has moments for, the one
        with the smallest mean squared error on the last part of training is taken.
      period: of a position on a ring, such as 2π: means are then those of cosine and sine, and
        errors go the shorter way.
      validation: the part of training that k is chosen on, in (0, 1).

    Raises:
      AssertionError: shapes.
      ArgumentError, ValueError: values that are not finite, or out of range.
    """
    data = _checked(train_x, train_y, test_x, test_y, period)

    def predict(x: np.ndarray, y: np.ndarray, at: np.ndarray, ks: Sequence) -> list[np.ndarray]:
        near = y[_nearest(x, at, max(ks), metric)]
        return [near[:, :k].mean(axis=1) for k in ks]

    split = _tuning_split(len(data.train_x), validation)
    candidates = _usable(neighbors, len(split.train))
    prediction, chosen = _by_best(
        data.train_x, data.train_y, data.test_x, split, candidates, predict, _squared_error
    )
    return _position(prediction, data, chosen, chosen == candidates[-1])


def decode_position_linearly(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    *,
    penalties: Sequence[float] = PENALTIES,
    period: float | None = None,
    validation: float = 0.2,
) -> Position:
    """Ridge regression on embeddings that are standardised by those of training.

    Args:
      train_x, train_y, test_x, test_y, period, validation: as `decode_position` takes them.
      penalties: candidates, each above 0, of the squared weights against the sum of squared errors;
        chosen as k is there.

    Raises:
      AssertionError, ArgumentError, ValueError: as `decode_position`.
    """
    data = _checked(train_x, train_y, test_x, test_y, period)
    if not len(penalties) or not min(penalties) > 0:
        raise ArgumentError("penalties", shown(tuple(penalties)), "must be some, each above 0")

    def predict(x: np.ndarray, y: np.ndarray, at: np.ndarray, some: Sequence) -> list[np.ndarray]:
        scaler = StandardScaler().fit(x)
        x, at = scaler.transform(x), scaler.transform(at)
        return [Ridge(penalty).fit(x, y).predict(at).reshape(len(at), -1) for penalty in some]

    split, candidates = _tuning_split(len(data.train_x), validation), sorted(penalties)
    prediction, chosen = _by_best(
        data.train_x, data.train_y, data.test_x, split, candidates, predict, _squared_error
    )
    return _position(prediction, data, chosen, chosen in (candidates[0], candidates[-1]))


def decode_class(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    *,
    metric: str = "cosine",
    neighbors: Sequence[int] = NEIGHBORS,
    validation: float = 0.2,
) -> Classes:
    """The most frequent class among the k nearest moments of training; of several, the first.

    Args:
      train_x, test_x, metric, neighbors, validation: as `decode_position` takes them; k is the
        candidate with the highest accuracy.
      train_y: classes `[n]`, numbered from 0.
      test_y: classes `[m]`.

    Raises:
      AssertionError, ArgumentError, ValueError: as `decode_position`, and for labels below 0.
    """
    train_x, test_x = _checked_embeddings(train_x, test_x)
    largest = max(np.max(y, initial=0) for y in (np.asarray(train_y), np.asarray(test_y)))
    num_classes = max(2, int(largest) + 1)
    train_y = check_labels("train_y", train_y, len(train_x), num_classes)
    test_y = check_labels("test_y", test_y, len(test_x), num_classes)

    def predict(x: np.ndarray, y: np.ndarray, at: np.ndarray, ks: Sequence) -> list[np.ndarray]:
        near = y[_nearest(x, at, max(ks), metric)]
        classes = range(num_classes)
        votes = [np.stack([(near[:, :k] == c).sum(axis=1) for c in classes]) for k in ks]
        return [np.argmax(of_class, axis=0).astype(np.int32) for of_class in votes]

    def error(prediction: np.ndarray, y: np.ndarray) -> float:
        return float((prediction != y).mean())

    split = _tuning_split(len(train_x), validation)
    candidates = _usable(neighbors, len(split.train))
    prediction, chosen = _by_best(train_x, train_y, test_x, split, candidates, predict, error)
    return Classes(
        prediction=prediction,
        accuracy=float((prediction == test_y).mean()),
        most_frequent=float((test_y == np.argmax(np.bincount(train_y))).mean()),
        chosen=chosen,
        at_end=chosen == candidates[-1],
    )


class _Data(NamedTuple):
    """Embeddings, positions as they are fitted (on a circle if they are cyclic), and as given."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    test_position: np.ndarray
    period: float | None


def _tuning_split(moments: int, validation: float) -> TimeSplit:
    if not 0 < validation < 1 or not 0 < round(validation * moments) < moments:
        problem = f"must leave some of the {moments} training moments to fit, and some to choose on"
        raise ArgumentError("validation", validation, problem)
    return time_split([moments], validation)


def _by_best(
    x: np.ndarray,
    y: np.ndarray,
    at: np.ndarray,
    split: TimeSplit,
    candidates: Sequence,
    predict: Callable[[np.ndarray, np.ndarray, np.ndarray, Sequence], list[np.ndarray]],
    error: Callable[[np.ndarray, np.ndarray], float],
) -> tuple[np.ndarray, Any]:
    """The prediction at held-out moments by all of training, of the candidate that errs least.

    That is the one with the least error on the last part of training, the first of equal ones.
    """
    predictions = predict(x[split.train], y[split.train], x[split.test], candidates)
    errors = [error(prediction, y[split.test]) for prediction in predictions]
    best = candidates[int(np.argmin(errors))]
    (prediction,) = predict(x, y, at, [best])
    return prediction, best


def _squared_error(prediction: np.ndarray, y: np.ndarray) -> float:
    return float(((prediction - y) ** 2).mean())


def _position(prediction: np.ndarray, data: _Data, chosen: float, at_end: bool) -> Position:
    r2 = float(r2_score(data.test_y, prediction))
    if data.period is not None:
        angle = np.arctan2(prediction[:, 1], prediction[:, 0])
        prediction = (angle / (2 * np.pi) * data.period % data.period)[:, None]
    error = prediction - data.test_position
    if data.period is not None:
        error = (error + data.period / 2) % data.period - data.period / 2
    median = float(np.median(np.linalg.norm(error, axis=1)))
    return Position(prediction, median, r2, chosen, at_end)


def _nearest(x: np.ndarray, at: np.ndarray, k: int, metric: str) -> np.ndarray:
    """Which k of x are nearest, the nearest first: `[len(at), k]`."""
    if metric not in METRICS:
        raise ArgumentError("metric", metric, f"must be one of {', '.join(METRICS)}")
    if metric == "cosine":
        # Their distances have the same order, and trees know it.
        x, at = normalize(x), normalize(at)
    return NearestNeighbors(n_neighbors=k).fit(x).kneighbors(at, return_distance=False)


def _usable(neighbors: Sequence[int], moments: int) -> list[int]:
    if not len(neighbors) or min(neighbors) < 1:
        raise ArgumentError("neighbors", shown(tuple(neighbors)), "must be some, each at least 1")
    usable = sorted(k for k in neighbors if k <= moments)
    if not usable:
        problem = f"are all more than the {moments} moments that there are to choose on"
        raise ArgumentError("neighbors", shown(tuple(neighbors)), problem)
    return usable


def _checked_embeddings(train_x: ArrayLike, test_x: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, at = (
        check_features(name, array, np.float64)
        for name, array in (("train_x", train_x), ("test_x", test_x))
    )
    if x.shape[1] != at.shape[1]:
        problem = f"must have as many dimensions as train_x, which has shape {x.shape}"
        raise ArgumentError("test_x", shown(at), problem)
    return x, at


def _checked(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    period: float | None,
) -> _Data:
    x, at = _checked_embeddings(train_x, test_x)
    positions = []
    for name, given, moments in (("train_y", train_y, len(x)), ("test_y", test_y, len(at))):
        y = np.asarray(given)
        y = check_features(name, y[:, None] if y.ndim == 1 else y, np.float64)
        if len(y) != moments:
            raise ArgumentError(
                name, shown(y), f"must have a position for each of {moments} moments"
            )
        positions.append(y)
    train, test = positions
    if train.shape[1] != test.shape[1]:
        problem = f"must have as many dimensions as train_y, which has shape {train.shape}"
        raise ArgumentError("test_y", shown(test), problem)
    if period is None:
        return _Data(x, train, at, test, test, None)
    if not (np.isfinite(period) and period > 0):
        raise ArgumentError("period", period, "must be a number above 0, or None")
    if train.shape[1] != 1:
        raise ArgumentError("period", period, f"is of one angle; train_y has {train.shape[1]}")
    return _Data(x, _on_circle(train, period), at, _on_circle(test, period), test, period)


def _on_circle(position: np.ndarray, period: float) -> np.ndarray:
    angle = 2 * np.pi * position / period
    return np.hstack([np.cos(angle), np.sin(angle)])
