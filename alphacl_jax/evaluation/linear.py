"""Linear probes: multinomial logistic regression on frozen features.

    minimise over W, b:   Σ_i −log softmax(W x_i + b)[y_i]  +  (l2/2) ‖W‖²        (b is free)

Features are standardised by the training set's mean and standard deviation, the variance of each
first shrunk half-way to the mean variance: that changes little for an encoder, and is kinder to
baselines such as raw pixels, many of which hardly vary. The penalty counts against the *sum* over
samples (scikit-learn's C is 1/l2).

A baseline whose penalty was not chosen flatters what is compared with it, so each set of features
gets its own: the one of `L2_GRID` with the smallest loss −log softmax on held-out samples, in
cross-validation on the training labels alone. The loss decides, not the accuracy, which on few
labels takes so few values that it picks almost at random.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.evaluation.checks import check_split
from alphacl_jax.evaluation.held_out import folds as folds_of_groups
from alphacl_jax.evaluation.logistic import Fits, fit_path

L2_GRID = (1e4, 1e3, 1e2, 10.0, 1.0, 0.1, 0.01)
L2_WITHOUT_CHOICE = 1.0
_FOLDS = 3


class Probe(NamedTuple):
    """What probes on `draws` sets of labels gave.

    Attributes:
        correct: which test samples are classified rightly, bool `[draws, m]`.
        l2: the penalty of each, `[draws]`.
        at_end: whether it is the first or last of `L2_GRID`, so that one outside it may be
            better, bool `[draws]`; False where l2 was given.
    """

    correct: np.ndarray
    l2: np.ndarray
    at_end: np.ndarray


def fit_probe(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    num_classes: int,
    *,
    labels_per_class: int | None = None,
    draws: int = 20,
    seed: int = 0,
    l2: float | None = None,
    steps: int = 200,
    groups: ArrayLike | None = None,
) -> Probe:
    """Fits logistic regressions to training features, and classifies test features.

    Cross-validation deals the labelled samples of each class to as many folds as the largest
    class has samples, three at most: with two labels per class, each of two folds leaves out one
    sample of every class. The test set takes no part in it. With one label per class there is
    nothing to leave out, and l2 is `L2_WITHOUT_CHOICE` = 1.

    Args:
        train_x: features `[n, dim]`.
        train_y: labels `[n]` in [0, num_classes).
        test_x: features `[m, dim]`.
        test_y: labels `[m]` in [0, num_classes).
        num_classes: at least 2.
        labels_per_class: None for all labels, in one draw. Otherwise each draw takes this many
            samples of every class without replacement. The draws depend on `seed` and `train_y`
            alone, so that different features are compared on the same samples. Features are
            standardised by the whole training set, whose labels are not needed for that.
        draws: number of labelled sets.
        seed: of the draws.
        l2: weight of ½‖W‖² against the loss summed over the samples, > 0; None has it chosen.
        steps: L-BFGS iterations for each value of l2; fewer where it has converged before.
        groups: integers `[n]`, equal where training samples look alike beyond their label, as
            moments of a recording do: cross-validation then leaves out whole groups, three folds
            of them at most. In a single group there is nothing to leave out. For all labels only.

    Returns:
        A `Probe`, with draws = 1 for all labels.

    Raises:
        AssertionError: shapes.
        ValueError: features that are not finite, labels out of range, `l2` or `steps` not
            positive; a class with fewer than `labels_per_class` samples; groups that are not one
            for each sample, or beside `labels_per_class`.
    """
    if l2 is not None and not l2 > 0:
        raise ArgumentError("l2", l2, "must be above 0")
    if steps < 1:
        raise ArgumentError("steps", steps, "must be at least 1")
    train_x, train_y, test_x, test_y = check_split(train_x, train_y, test_x, test_y, num_classes)
    of_groups = None if groups is None else _checked_groups(groups, len(train_y), labels_per_class)
    if labels_per_class is None:
        chosen = np.random.default_rng(0).permutation(len(train_y))[None]
    else:
        chosen = draw_labels(train_y, num_classes, labels_per_class, draws, seed)
    # Every draw has the same labels in the same order.
    labels = train_y[chosen[0]]
    if of_groups is None:
        folds = _deal(labels, num_classes)
    else:
        folds = _deal_groups(of_groups[chosen[0]], labels)
    train_x, test_x = _standardise(train_x, test_x)
    weights, bias, penalties, at_end = _fit(
        train_x[chosen], train_y[chosen], folds, num_classes, l2, steps
    )
    predicted = np.argmax(test_x @ weights + bias[:, None], axis=2)
    return Probe(predicted == test_y, penalties, at_end)


def linear_probe(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    num_classes: int,
    *,
    l2: float | None = None,
    steps: int = 200,
) -> float:
    """Test accuracy in [0, 1] of logistic regression on all labels, after its last step.

    Args and Raises: see `fit_probe`.
    """
    split = train_x, train_y, test_x, test_y
    return float(fit_probe(*split, num_classes, l2=l2, steps=steps).correct.mean())


def _checked_groups(groups: ArrayLike, n: int, labels_per_class: int | None) -> np.ndarray:
    found = np.asarray(groups)
    if found.shape != (n,) or found.dtype.kind not in "iu":
        problem = f"must be integers, one for each of {n} training samples"
        raise ArgumentError("groups", shown(found), problem)
    if labels_per_class is not None:
        problem = "is given beside groups, which are of all labels: leave out one of both"
        raise ArgumentError("labels_per_class", labels_per_class, problem)
    return found


def _fit(
    x: np.ndarray,
    y: np.ndarray,
    folds: np.ndarray | None,
    num_classes: int,
    l2: float | None,
    steps: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights `[draws, dim, num_classes]`, bias, l2 and whether it is at the grid's end.

    The fit to all samples of a draw goes along with those that leave a fold out.
    """
    draws, n = y.shape
    everything = np.ones((1, n))
    if l2 is not None or folds is None:
        given = L2_WITHOUT_CHOICE if l2 is None else l2
        fits = next(fit_path(x, y, everything, num_classes, [given], steps=steps))
        return fits.weights[:, 0], fits.bias[:, 0], np.full(draws, given), np.zeros(draws, bool)
    held_in = folds != np.arange(folds.max() + 1)[:, None]
    path = fit_path(x, y, np.concatenate([held_in, everything]), num_classes, L2_GRID, steps=steps)
    weights, bias, losses = [], [], []
    for fits in path:
        weights.append(fits.weights[:, -1])
        bias.append(fits.bias[:, -1])
        losses.append(_held_out_loss(fits, y, folds))
        # The loss falls and then rises along the path, and its end is the dearest part.
        if np.all(losses[-1] > np.min(losses, axis=0)):
            break
    best, draw = np.argmin(losses, axis=0), np.arange(draws)
    at_end = (best == 0) | (best == len(L2_GRID) - 1)
    return (
        np.stack(weights)[best, draw],
        np.stack(bias)[best, draw],
        np.array(L2_GRID)[best],
        at_end,
    )


def _deal(y: np.ndarray, num_classes: int) -> np.ndarray | None:
    """The fold `[n]` of each sample, the samples of each class in turn; None for one of each."""
    counts = np.bincount(y, minlength=num_classes)
    largest = int(np.max(counts))
    if largest < 2:
        return None
    folds = np.empty(len(y), int)
    for c, count in enumerate(counts):
        folds[y == c] = (c + np.arange(count)) % min(_FOLDS, largest)
    return folds


def _deal_groups(groups: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """The fold `[n]` of each sample, whole groups in turn; None for a single one."""
    count = len(np.unique(groups))
    return folds_of_groups(groups, y, min(_FOLDS, count)) if count > 1 else None


def _held_out_loss(fits: Fits, y: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Mean of −log softmax over samples `[draws]`, each by the fit that did not see it."""
    logits = fits.logits[:, folds, np.arange(len(folds))]
    right = np.take_along_axis(logits, y[:, :, None], axis=2)[:, :, 0]
    return np.mean(logsumexp(logits.astype(np.float64), axis=2) - right, axis=1)


def _standardise(train_x: np.ndarray, test_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x_j − mean_j) / sqrt((var_j + mean of var) / 2), by the training set's moments."""
    mean = train_x.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = train_x - mean
    var = np.mean(np.square(centred), axis=0, dtype=np.float64)
    # Dividing by std_j alone blows up what hardly varies, such as a pixel that one image in a
    # thousand touches (and rounding, where a feature is constant).
    scale = np.sqrt((var + var.mean()) / 2).astype(np.float32)
    scale = np.where(scale > 0, scale, np.float32(1))
    return centred / scale, (test_x - mean) / scale


def draw_labels(
    train_y: np.ndarray, num_classes: int, labels_per_class: int, draws: int, seed: int
) -> np.ndarray:
    """The samples whose labels a probe is given, `labels_per_class` of each class.

    Args:
        train_y, num_classes, labels_per_class, draws, seed: as in `fit_probe`.

    Returns:
        Indices `[draws, num_classes · labels_per_class]`, without replacement within a draw.

    Raises:
        ArgumentError: a number below 1, or a class with fewer than `labels_per_class` samples.
    """
    for name, value in (("labels_per_class", labels_per_class), ("draws", draws)):
        if value < 1:
            raise ArgumentError(name, value, "must be at least 1")
    counts = np.bincount(train_y, minlength=num_classes)
    if np.min(counts) < labels_per_class:
        short = np.flatnonzero(counts < labels_per_class)
        raise ArgumentError(
            "labels_per_class",
            labels_per_class,
            f"is more than class {short[0]} has, {counts[short[0]]} training samples "
            f"({len(short)} of {num_classes} classes are short): ask for fewer",
        )
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(train_y == c) for c in range(num_classes)]
    return np.stack(
        [
            np.concatenate([rng.choice(m, labels_per_class, replace=False) for m in members])
            for _ in range(draws)
        ]
    )
