"""The figures of frozen features: linear probes and nearest neighbours, for one set or several."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.checks import check_split
from alphacl_jax.evaluation.knn import knn_correct
from alphacl_jax.evaluation.linear import Probe, fit_probe

LEVELS = ("quick", "full")
Labelled = tuple[ArrayLike, ArrayLike]


class Scores(NamedTuple):
    """What the probes gave for one set of features, as in an `Evaluation`."""

    figures: dict[str, float]
    correct: dict[str, np.ndarray]


class Evaluation(NamedTuple):
    """What the probes gave for several sets of features, by name.

    Attributes:
        rows: the figures of `evaluate_features`, to store, for `format_table` and `verdicts`.
        correct: accuracy's name → which test samples were right, bool `[draws, m]` (draws = 1
            but for few labels), for `verdicts` to compare on the same test samples.
    """

    rows: dict[str, dict[str, float]]
    correct: dict[str, dict[str, np.ndarray]]


def evaluate_sets(
    sets: Mapping[str, Callable[[], tuple[Labelled, Labelled]]],
    num_classes: int,
    *,
    level: str = "full",
    labels_per_class: Sequence[int] = (2, 10),
    draws: int = 20,
    seed: int = 0,
    report: Callable[[str], object] | None = None,
) -> Evaluation:
    """Evaluates several sets of features of the same images, one after the other.

    Args:
        sets: name (such as "raw pixels") → a function that makes the training and the test
            features with their labels, called when its turn comes, so that those of one set are
            held at a time.
        report: is told, in a few words, what comes next.
        num_classes, level, labels_per_class, draws, seed: as in `evaluate_features`.

    Raises:
        AssertionError, ValueError: as `evaluate_features`.
    """
    if level not in LEVELS:
        raise ArgumentError("level", level, f"is unknown; use one of {', '.join(LEVELS)}")
    few = labels_per_class if level == "full" else ()
    evaluation = Evaluation({}, {})
    for name, make in sets.items():

        def tell(text: str, name: str = name) -> None:
            if report is not None:
                report(f"{name}: {text}")

        tell("features")
        scores = _score(*make(), num_classes, few, draws, seed, tell)
        evaluation.rows[name], evaluation.correct[name] = scores
    return evaluation


def evaluate_features(
    train: Labelled,
    test: Labelled,
    num_classes: int,
    *,
    level: str = "full",
    labels_per_class: Sequence[int] = (2, 10),
    draws: int = 20,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracies of frozen features, each in [0, 1], and how far to trust them.

    Args:
        train: features `[n, dim]` and labels `[n]` in [0, num_classes).
        test: features `[m, dim]` and labels `[m]`.
        num_classes: at least 2.
        level: "quick" leaves out the few-label probes; the other figures are those of "full".
        labels_per_class: the few-label probes. One that asks for more samples than the smallest
            class has is left out.
        draws: of the labelled set, for each few-label probe.
        seed: of the draws; the same draws for any features of the same training samples.

    Returns:
        The accuracies "linear_K_per_class" for each K of `labels_per_class`, "linear_all" (after
        the probe's last step) and "knn". With each, NAME stands for it,

        - "NAME_se": its standard error. For one fit on all labels sqrt(p(1 − p)/m), what other m
          test images would change; for few labels what other images and other draws would.
        - "NAME_std" (few labels): the standard deviation over draws.
        - "NAME_l2" (linear): the penalty that cross-validation chose; for few labels the
          geometric mean over draws.
        - "NAME_l2_at_end" (linear): 1 where that is the largest or smallest that was tried, so
          that the probe may be better than shown, else 0; for few labels the share of draws.

    Raises:
        AssertionError: shapes.
        ValueError: features that are not finite, labels out of range, an unknown level.
    """
    one = {"features": lambda: (train, test)}
    return evaluate_sets(
        one, num_classes, level=level, labels_per_class=labels_per_class, draws=draws, seed=seed
    ).rows["features"]


def standard_error(values: np.ndarray) -> float:
    """Standard error of the mean of `[draws, m]` over other test samples and other draws.

        se² = var_samples(mean over draws)/m  +  var_draws(mean over samples)/draws

    the second part for two draws and more. With draws = 1 and values 0 and 1 that is the binomial
    p(1 − p)/m; with differences of them, of two classifiers on the same samples, McNemar's.
    """
    draws, m = values.shape
    squared = values.mean(axis=0).var() / m
    if draws > 1:
        squared += values.mean(axis=1).var(ddof=1) / draws
    return float(np.sqrt(squared))


def _score(
    train: Labelled,
    test: Labelled,
    num_classes: int,
    labels_per_class: Sequence[int],
    draws: int,
    seed: int,
    tell: Callable[[str], None],
) -> Scores:
    split = check_split(*train, *test, num_classes)
    smallest = np.min(np.bincount(split[1], minlength=num_classes))
    scores = Scores({}, {})
    for k in labels_per_class:
        if k <= smallest:
            tell(f"linear probe on {k} labels per class")
            probe = fit_probe(*split, num_classes, labels_per_class=k, draws=draws, seed=seed)
            _add_probe(scores, f"linear_{k}_per_class", probe)
    tell("linear probe on all labels")
    _add_probe(scores, "linear_all", fit_probe(*split, num_classes))
    tell("nearest neighbours")
    _add(scores, "knn", knn_correct(*split, num_classes)[None])
    return scores


def _add(scores: Scores, name: str, correct: np.ndarray) -> None:
    scores.correct[name] = correct
    scores.figures[name] = float(correct.mean())
    scores.figures[f"{name}_se"] = standard_error(correct)
    if len(correct) > 1:
        scores.figures[f"{name}_std"] = float(correct.mean(axis=1).std())


def _add_probe(scores: Scores, name: str, probe: Probe) -> None:
    _add(scores, name, probe.correct)
    scores.figures[f"{name}_l2"] = float(np.exp(np.log(probe.l2).mean()))
    scores.figures[f"{name}_l2_at_end"] = float(probe.at_end.mean())
