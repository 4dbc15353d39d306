"""What is worth knowing of an encoder while it trains: quick probes, and signs of collapse."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from alphacl_jax.evaluation.checks import check_split
from alphacl_jax.evaluation.knn import knn_accuracy
from alphacl_jax.evaluation.linear import linear_probe

MAX_TRAIN, MAX_TEST = 5000, 2000
# Of the untrained encoder's effective rank, of the run's own highest, and in accuracy.
_OF_UNTRAINED, _OF_HIGHEST, _KNN_MARGIN = 0.5, 0.25, 0.02


def quick_probe(
    train: tuple[ArrayLike, ArrayLike], test: tuple[ArrayLike, ArrayLike], num_classes: int
) -> dict[str, float]:
    """kNN and linear accuracy on a bounded number of samples, always the same ones.

    At most 5,000 training and 2,000 test samples are taken, by a fixed seed. The figures of one
    run compare with each other; those of `evaluate_features` are on all samples. What the first
    call compiles serves all later ones.

    Args:
        train: features `[n, dim]` and labels `[n]` in [0, num_classes).
        test: features `[m, dim]` and labels `[m]`.
        num_classes: at least 2.

    Returns:
        "knn" and "linear", in [0, 1].

    Raises:
        AssertionError: shapes.
        ValueError: features that are not finite (after divergence), labels out of range.
    """
    train_x, train_y, test_x, test_y = check_split(*train, *test, num_classes)
    a, b = quick_sample(len(train_y), MAX_TRAIN), quick_sample(len(test_y), MAX_TEST)
    split = train_x[a], train_y[a], test_x[b], test_y[b]
    return {"knn": knn_accuracy(*split, num_classes), "linear": linear_probe(*split, num_classes)}


def quick_sample(n: int, at_most: int) -> np.ndarray:
    """The indices, in order, that `quick_probe` takes of n samples: features of the others need
    not be computed, as a set that is small enough is taken whole."""
    if n <= at_most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, at_most, replace=False))


def collapse_warnings(
    records: Sequence[Mapping[str, float]], untrained: Mapping[str, float]
) -> dict[str, str]:
    """Sentences of warning about the newest record.

    The effective rank of features that collapse falls towards 1. Training rightly moves it: it
    rises above the untrained encoder's, whose random features are much alike, and then may fall
    as classes draw together, to about the number of classes less one. So it is a warning below
    half of the untrained encoder's, where training has lost what chance had given, and below a
    quarter of the highest so far, where most of what had been learned is gone. kNN below the
    untrained encoder's by more than two points, which is more than chance does on several
    hundred test images, says that training does harm.

    Args:
        records: oldest first; those of them with "effective_rank" or "knn" count. The newest
            that has a figure is judged by it.
        untrained: the same figures before the first step; one that is missing is not compared.

    Returns:
        No, one, or several sentences, by the figure that each is about.
    """
    warnings = {}
    ranks = [r["effective_rank"] for r in records if "effective_rank" in r]
    if ranks:
        now, highest = ranks[-1], max((r for r in ranks if math.isfinite(r)), default=math.nan)
        start = untrained.get("effective_rank", math.nan)
        for share, than, value in (
            (_OF_UNTRAINED, "half of the untrained encoder's", start),
            (_OF_HIGHEST, "a quarter of the run's highest", highest),
        ):
            if now < share * value:
                warnings["effective_rank"] = (
                    f"the features' effective rank is {now:.1f}, below {than} ({value:.1f}): "
                    "they may be collapsing"
                )
                break
    accuracies = [r["knn"] for r in records if "knn" in r]
    if accuracies and accuracies[-1] < untrained.get("knn", math.nan) - _KNN_MARGIN:
        warnings["knn"] = (
            f"kNN is {100 * accuracies[-1]:.1f} %, below the untrained encoder's "
            f"{100 * untrained['knn']:.1f} %: training makes the features worse"
        )
    return warnings
