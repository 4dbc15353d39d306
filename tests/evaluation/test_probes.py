"""The figures of one set of features and of several, and their standard errors."""

import numpy as np
import pytest

from alphacl_jax.evaluation.knn import knn_accuracy
from alphacl_jax.evaluation.linear import fit_probe, linear_probe
from alphacl_jax.evaluation.probes import evaluate_features, evaluate_sets, standard_error


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = np.eye(3)[y] + 0.7 * rng.normal(size=(60, 3))
    return (x[:30], y[:30]), (x[30:], y[30:])


OPTIONS = {"labels_per_class": (4, 11), "draws": 3, "seed": 5}


def test_figures_are_those_of_the_probes_and_impossible_ones_are_left_out(split):
    train, test = split
    figures = evaluate_features(train, test, 3, **OPTIONS)
    few = {"labels_per_class": 4, "draws": 3, "seed": 5}
    accuracy, knn = linear_probe(*train, *test, 3), knn_accuracy(*train, *test, 3)
    chosen = fit_probe(*train, *test, 3, **few)
    over_draws = chosen.correct.mean(axis=1)
    binomial = [np.sqrt(p * (1 - p) / 30) for p in (accuracy, knn)]
    assert figures == pytest.approx(
        {
            "linear_4_per_class": over_draws.mean(),
            "linear_4_per_class_std": over_draws.std(),
            "linear_4_per_class_se": standard_error(chosen.correct),
            "linear_4_per_class_l2": np.exp(np.log(chosen.l2).mean()),
            "linear_4_per_class_l2_at_end": chosen.at_end.mean(),
            "linear_all": accuracy,
            "linear_all_se": binomial[0],
            "linear_all_l2": fit_probe(*train, *test, 3).l2[0],
            "linear_all_l2_at_end": float(fit_probe(*train, *test, 3).at_end[0]),
            "knn": knn,
            "knn_se": binomial[1],
        }
    )
    assert over_draws.std() > 0
    assert all(type(value) is float for value in figures.values())  # as JSON takes them


def test_quick_is_the_same_without_few_labels(split):
    quick = evaluate_features(*split, 3, level="quick", **OPTIONS)
    full = evaluate_features(*split, 3, **OPTIONS)
    assert quick == {name: full[name] for name in full if "per_class" not in name}
    with pytest.raises(ValueError, match="level=slow is unknown; use one of quick, full"):
        evaluate_features(*split, 3, level="slow")


def test_several_sets_are_made_in_turn_and_progress_is_told(split):
    (train_x, train_y), (test_x, test_y) = split
    told = []

    def make(factor):
        told.append("made")
        return (factor * train_x, train_y), (factor * test_x, test_y)

    sets = {"a": lambda: make(1), "b": lambda: make(-1)}
    evaluation = evaluate_sets(sets, 3, report=told.append, **OPTIONS)
    assert told[:3] == ["a: features", "made", "a: linear probe on 4 labels per class"]
    assert told[-2:] == ["b: linear probe on all labels", "b: nearest neighbours"]
    assert told.index("b: features") < len(told) - told[::-1].index("made")
    assert evaluation.rows["a"] == evaluate_features(*split, 3, **OPTIONS)
    for name, figures in evaluation.rows.items():
        assert evaluation.correct[name].keys() == {"linear_4_per_class", "linear_all", "knn"}
        for key, correct in evaluation.correct[name].items():
            assert correct.shape == (3 if "per_class" in key else 1, 30)
            assert correct.mean() == pytest.approx(figures[key])


def test_standard_error_is_the_spread_over_repetitions():
    """Of draws and samples that each have an effect of their own."""
    rng = np.random.default_rng(0)
    draws, m = 20, 200

    def experiment():
        return rng.normal(size=(draws, 1)) * 0.3 + rng.normal(size=m) + rng.normal(size=(draws, m))

    sets = [experiment() for _ in range(300)]
    spread = np.std([s.mean() for s in sets])
    assert np.mean([standard_error(s) for s in sets]) == pytest.approx(spread, rel=0.15)
    p = np.repeat([1.0, 0.0], [30, 10])[None]
    assert standard_error(p) == pytest.approx(np.sqrt(0.75 * 0.25 / 40))
