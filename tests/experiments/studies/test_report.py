"""Tables of cells, and what they say to a claim."""

import numpy as np
import pytest

from experiments.studies.report import (
    KNN,
    LINEAR,
    Column,
    as_bits,
    from_bits,
    is_higher,
    is_within,
    paired_difference,
    shown_claims,
    table_of,
)


def cell(right, **figures):
    right = np.asarray(right, bool)
    return {"linear_all": float(right.mean()), "correct": {"linear_all": as_bits(right)}, **figures}


@pytest.mark.parametrize("count", [1, 7, 8, 9, 2000])
def test_bits_come_back(count):
    right = np.random.default_rng(count).random(count) < 0.5
    assert (from_bits(as_bits(right)) == right).all()


def test_table_of_several_seeds_and_of_one():
    rows = {
        "one": [{"linear_all": 0.5, "rank": 3.0}, {"linear_all": 0.6, "rank": 5.0}],
        "lost": [{"linear_all": 0.25}, {"diverged": True}],
        "none": [{"diverged": True}, {"diverged": True}],
    }
    columns = (LINEAR, KNN, Column("rank", "rank", digits=1))
    assert table_of(rows, columns, "row").splitlines() == [
        "mean ± standard deviation over 2 seeds",
        "row           linear, %       rank",
        "one          55.0 ± 7.1  4.0 ± 1.4",
        "lost  25.0 (1 diverged)          -",
        "none           diverged   diverged",
    ]
    one = {"a": [{"linear_all": 0.5, "linear_all_se": 0.02}]}
    assert "50.0 ± 2.0" in table_of(one, columns)


def test_differences_are_paired():
    """Two rows that err on the same images differ by less than either is uncertain."""
    a, b = np.zeros(400, bool), np.zeros(400, bool)
    a[:200], b[:190] = True, True
    mean, error = paired_difference([cell(a)], [cell(b)], "linear_all")
    assert mean == pytest.approx(0.025)
    assert error == pytest.approx(np.sqrt(0.025 * 0.975 / 400))


@pytest.mark.parametrize(
    ("count", "verdict"), [(150, "does not hold"), (199, "not settled"), (260, "holds")]
)
def test_verdicts_of_a_difference(count, verdict):
    rng = np.random.default_rng(0)
    other = [cell(rng.permutation(400) < 200) for _ in range(3)]
    rows = {"a": [cell(rng.permutation(400) < count) for _ in range(3)], "b": other}
    assert is_higher("a beats b", rows, "a", "b").verdict == verdict


def test_what_cannot_be_compared_is_not_settled():
    rows = {"a": [{"diverged": True}], "b": [cell([True, False])]}
    assert is_higher("a beats b", rows, "a", "b").verdict == "not settled"
    assert is_within("it spreads", rows["a"], "spread", low=0.5).verdict == "not settled"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((0.6, 0.7), "holds"), ((0.4, 0.7), "not settled"), ((0.1, 0.2), "does not hold")],
)
def test_verdicts_of_a_range(values, verdict):
    cells = [{"spread": value} for value in values]
    claim = is_within("it spreads", cells, "spread", low=0.5)
    assert claim.verdict == verdict
    assert shown_claims([claim]) == f"{verdict}: it spreads ({claim.found})"
