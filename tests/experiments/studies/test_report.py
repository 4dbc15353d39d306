"""Tables of cells."""

import numpy as np
import pytest

from experiments.studies.report import KNN, LINEAR, Column, as_bits, from_bits, table_of


@pytest.mark.parametrize("count", [1, 7, 8, 9, 2000])
def test_bits_come_back(count):
    right = np.random.default_rng(count).random(count) < 0.5
    assert (from_bits(as_bits(right)) == right).all()


def test_table_of_several_seeds_and_of_one():
    rows = {
        "one": [{"linear_all": 0.5, "rank": 3.0}, {"linear_all": 0.6, "rank": 5.0}],
        "lost": [{"linear_all": 0.25, "linear_all_se": 0.02}, {"diverged": True}],
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
