"""The table as printed, what won where in words, and figures over seeds."""

import numpy as np
import pytest

from alphacl_jax.evaluation.report import format_table, over_seeds, verdicts


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
        "±: few labels: standard deviation over draws of the labels",
        "accuracy, %   linear, 2 labels/class  linear, 10 labels/class  linear, all labels    kNN",
        "α-CL encoder              91.4 ± 2.0               96.8 ± 0.7                99.2   99.0",
        "raw pixels                      76.1                      n/a                97.8  100.0",
    ]
    one = format_table({"x": {"linear_1_per_class": 0.5}})
    assert one.split("\n")[0] == "accuracy, %  linear, 1 label/class"


def test_columns_of_ones_own():
    rows = {
        "a": {"0.1": 0.5, "0.1_std": 0.01, "0.1_se": 0.02, "1": 0.9, "1_se": 0.01},
        "b": {"0.1": 0.25, "0.1_std": 0.01, "0.1_se": 0.02},
    }
    titles = {"1": "all labels", "0.1": "a tenth", "2": "no row has it"}
    assert format_table(rows, titles).split("\n") == [
        "accuracy, %  all labels     a tenth",
        "a            90.0 ± 1.0  50.0 ± 1.0",
        "b                   n/a  25.0 ± 1.0",
    ]
    (sentence,) = verdicts(rows, titles=titles)
    assert sentence == "a tenth: won by a, 50.0 against 25.0 % of b (difference 25.0 ± 2.8)"


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


def test_what_the_plus_minus_is():
    row = {"knn": 0.9, "knn_se": 0.013, "linear_2_per_class": 0.8, "linear_2_per_class_se": 0.01}
    lines = format_table({"x": row}).split("\n")
    assert lines[0] == "±: standard error, by the number of test images"
    assert lines[2].split("  ")[-1] == "90.0 ± 1.3"
    lines = format_table({"x": row | {"linear_2_per_class_std": 0.05}}).split("\n")
    assert lines[0] == (
        "±: standard error, by the number of test images; "
        "few labels: standard deviation over draws of the labels"
    )
    assert "80.0 ± 5.0" in lines[2]
    # Over seeds the caller says it, and how many they are.
    lines = format_table({"x": over_seeds([row, row])}).split("\n")
    assert lines[0].startswith("accuracy, %")
    assert lines[1].endswith("90.0 ± 0.0")
    assert format_table({"x": {"knn": 0.9}}).startswith("accuracy, %")


def test_standard_errors_and_penalties_over_seeds():
    runs = [
        {"knn": 0.1, "knn_se": 0.03, "knn_l2": 1.0, "knn_l2_at_end": 0.0},
        {"knn": 0.3, "knn_se": 0.05, "knn_l2": 100.0, "knn_l2_at_end": 1.0},
    ]
    table = over_seeds(runs)
    assert table.keys() == {"knn", "knn_std", "knn_se", "knn_l2", "knn_l2_at_end"}
    std = np.std([0.1, 0.3], ddof=1)
    assert table["knn_se"] == pytest.approx(np.sqrt((0.03**2 + 0.05**2) / 2 + std**2 / 2))
    assert table["knn_l2"] == pytest.approx(10.0)
    assert table["knn_l2_at_end"] == 0.5


ROWS = {
    "alpha_direct": {"linear_all": 0.95, "linear_all_se": 0.004, "knn": 0.961, "knn_se": 0.002},
    "untrained encoder": {"linear_all": 0.948, "linear_all_se": 0.004, "knn": 0.90, "knn_se": 0.01},
    "raw pixels": {"linear_all": 0.90, "linear_all_se": 0.004, "knn": 0.976, "knn_se": 0.002},
    "no error": {"knn": 1.0},
}


def test_verdicts_by_the_rows_own_errors():
    assert verdicts(ROWS) == [
        "linear, all labels: a tie of alpha_direct and untrained encoder, 95.0 and 94.8 % "
        "(difference 0.2 ± 0.6)",
        "kNN: won by raw pixels, 97.6 against 96.1 % of alpha_direct (difference 1.5 ± 0.3)",
    ]
    assert verdicts({"alone": ROWS["raw pixels"]}) == []
    equal = {name: {"knn": 0.5, "knn_se": 0.1} for name in "abc"}
    assert verdicts(equal) == [
        "kNN: a tie of a, b and c, 50.0, 50.0 and 50.0 % (difference at most 0.0 ± 14.1)"
    ]


def test_verdicts_on_the_same_test_images_tell_smaller_differences_apart():
    m = 1000
    b = np.arange(m) >= 200  # right on 800
    a = b | (np.arange(m) < 12)  # and a on 12 more
    rows = {
        name: {"knn": x.mean(), "knn_se": np.sqrt(x.mean() * (1 - x.mean()) / m)}
        for name, x in (("b", b), ("a", a))
    }
    assert verdicts(rows)[0].startswith("kNN: a tie of a and b")
    correct = {"a": {"knn": a[None]}, "b": {"knn": b[None]}}
    error = np.sqrt(12 / m - (12 / m) ** 2) / np.sqrt(m)  # McNemar's
    assert verdicts(rows, correct) == [
        f"kNN: won by a, 81.2 against 80.0 % of b (difference 1.2 ± {100 * error:.1f})"
    ]
