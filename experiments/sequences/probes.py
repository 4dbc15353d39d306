"""Probes of what networks make of recordings: their penalties are chosen on held-out recordings.

Moments of one recording look alike, so that none of a recording that is held out may be among those
that a probe is fitted to.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from alphacl_jax.evaluation.held_out import folds
from alphacl_jax.evaluation.linear import L2_GRID, fit_probe

FIFTHS = 5  # of which some are held out
# Penalties of the hidden layer's weights, in scikit-learn's way of counting them.
ALPHAS = (1.0, 1e-2, 1e-4)


class Samples(NamedTuple):
    """What is probed.

    Attributes:
      x: features `[n, dim]`.
      y: labels `[n]`, from 0 on.
      recording: `[n]`, which recording each is of.
    """

    x: np.ndarray
    y: np.ndarray
    recording: np.ndarray

    def where(self, chosen: np.ndarray) -> "Samples":
        """Some of the samples."""
        return Samples(*(array[chosen] for array in self))


class Fitted(NamedTuple):
    """What a probe gave.

    Attributes:
      right: which test samples are classified rightly, from 0 to 1 `[m]`.
      recording: `[m]`, which recording each is of, in ascending order.
      penalty: that was chosen; 0 of what has none.
      at_end: whether it is an end of the list, so that one beyond may be better.
    """

    right: np.ndarray
    recording: np.ndarray
    penalty: float = 0.0
    at_end: bool = False

    def shares(self) -> np.ndarray:
        """The share `[recordings]` of each recording's samples that are right."""
        borders = np.flatnonzero(np.diff(self.recording)) + 1
        return np.array([part.mean() for part in np.split(self.right, borders)])


# `(train, test, penalty) -> right [m]`.
Fit = Callable[[Samples, Samples, float], np.ndarray]


def of_recordings(
    train: Samples, test: Samples, num_classes: int, *, labels_per_class: int | None = None
) -> Fitted:
    """Logistic regression where each sample is a recording of its own.

    Its penalty is chosen in cross-validation on the training recordings; see `fit_probe`.

    Args:
      train, test: to fit to, and those that count.
      num_classes: of both.
      labels_per_class: how many training recordings of each class have a label, drawn twenty times;
        None for all.

    Returns:
      What is right; of several draws, in how many of them.
    """
    split = train.x, train.y, test.x, test.y
    found = fit_probe(*split, num_classes, labels_per_class=labels_per_class)
    penalty = float(np.exp(np.log(found.l2).mean()))
    return Fitted(found.correct.mean(axis=0), test.recording, penalty, bool(found.at_end.any()))


def linear(
    train: Samples,
    test: Samples,
    num_classes: int,
    *,
    held_out: int = 1,
    penalties: Sequence[float] = L2_GRID,
) -> Fitted:
    """Logistic regression on moments of recordings.

    Args:
      train: those to fit to; its penalty is chosen on a fifth of its recordings.
      test: those that count.
      num_classes: of both.
      held_out: how many fifths are held out, each in its turn.
      penalties: to choose from, as `fit_probe` counts them.
    """

    def fit(train: Samples, test: Samples, penalty: float) -> np.ndarray:
        split = train.x, train.y, test.x, test.y
        right: np.ndarray = fit_probe(*split, num_classes, l2=penalty).correct[0]
        return right

    return _at_its_best(fit, penalties, train, test, held_out)


def one_hidden_layer(
    train: Samples,
    test: Samples,
    seed: int,
    *,
    epochs: int,
    width: int = 128,
    held_out: int = 1,
) -> Fitted:
    """A network of one hidden layer of ReLUs, by Adam.

    Args:
      train, test, held_out: as of `linear`.
      seed: of its initial weights and the order of samples.
      epochs: at most; it ends earlier where its loss falls no more.
      width: of the layer.
    """

    def fit(train: Samples, test: Samples, penalty: float) -> np.ndarray:
        scaler = StandardScaler().fit(train.x)
        network = MLPClassifier((width,), alpha=penalty, max_iter=epochs, random_state=seed)
        with warnings.catch_warnings():
            # It may end with its epochs: that is its budget.
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(scaler.transform(train.x), train.y)
        right: np.ndarray = network.predict(scaler.transform(test.x)) == test.y
        return right

    return _at_its_best(fit, ALPHAS, train, test, held_out)


def _at_its_best(
    fit: Fit, penalties: Sequence[float], train: Samples, test: Samples, held_out: int
) -> Fitted:
    """The fit at the penalty with the highest accuracy on held-out recordings."""
    splits = list(_splits(train, held_out))
    scores = [
        np.concatenate([fit(kept, out, penalty) for kept, out in splits]).mean()
        for penalty in penalties
    ]
    best = int(np.argmax(scores))
    right = fit(train, test, penalties[best])
    at_end = best in (0, len(penalties) - 1)
    return Fitted(right, test.recording, penalties[best], at_end)


def _splits(train: Samples, held_out: int) -> Iterator[tuple[Samples, Samples]]:
    fold = folds(train.recording, train.y, FIFTHS)
    for number in range(held_out):
        yield train.where(fold != number), train.where(fold == number)
