"""The figures of one set of features, and their table as printed."""

import numpy as np
import pytest

from alphacl_jax.evaluation.knn import knn_accuracy
from alphacl_jax.evaluation.linear import few_label_probe, linear_probe
from alphacl_jax.evaluation.report import evaluate_features, format_table, over_seeds


def test_figures_are_those_of_the_probes_and_impossible_ones_are_left_out():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = np.eye(3)[y] + 0.7 * rng.normal(size=(60, 3))
    train, test = (x[:30], y[:30]), (x[30:], y[30:])
    figures = evaluate_features(train, test, 3, labels_per_class=(4, 11), draws=3, seed=5)
    mean, std = few_label_probe(*train, *test, 3, labels_per_class=4, draws=3, seed=5)
    assert figures == {
        "linear_4_per_class": mean,
        "linear_4_per_class_std": std,
        "linear_all": linear_probe(*train, *test, 3),
        "knn": knn_accuracy(*train, *test, 3),
    }
    assert std > 0


def test_table_as_printed():
    rows = {
        "α-CL encoder": {
            "linear_10_per_class": 0.968,
            "linear_10_per_class_std": 0.0071,
            "linear_2_per_class": 0.914,
            "linear_2_per_class_std": 0.02,
            "linear_all": 0.992,
            "knn": 0.99,
        },
        "raw pixels": {"linear_2_per_class": 0.761, "linear_all": 0.978, "knn": 1.0},
    }
    assert format_table(rows).split("\n") == [
        "accuracy, %   linear, 2 labels/class  linear, 10 labels/class  linear, all labels    kNN",
        "α-CL encoder              91.4 ± 2.0               96.8 ± 0.7                99.2   99.0",
        "raw pixels                      76.1                      n/a                97.8  100.0",
    ]
    one = format_table({"x": {"linear_1_per_class": 0.5}})
    assert one.split("\n")[0] == "accuracy, %  linear, 1 label/class"


def test_nothing_to_show():
    for rows in ({}, {"raw pixels": {"other": 1.0}}):
        with pytest.raises(ValueError, match="nothing to show"):
            format_table(rows)


def test_over_seeds_is_the_mean_and_the_sample_deviation():
    runs = [
        {"knn": 0.1, "few": 0.5, "few_std": 9.0, "of_one": 0.2},
        {"knn": 0.3, "few": 0.5, "few_std": 9.0},
    ]
    table = over_seeds(runs)
    assert table.keys() == {"knn", "knn_std", "few", "few_std"}
    # The spread over draws, within a run, is not that over seeds.
    assert table["few_std"] == 0
    np.testing.assert_allclose(table["knn"], 0.2)
    np.testing.assert_allclose(table["knn_std"], np.std([0.1, 0.3], ddof=1))
    assert over_seeds(runs[:1]) == {"knn": 0.1, "few": 0.5, "of_one": 0.2}
