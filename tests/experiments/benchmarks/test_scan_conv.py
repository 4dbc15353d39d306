"""Trainings in a loop and by calls: the same losses in all forms; the table."""

import numpy as np
import pytest

from experiments.benchmarks import scan_conv
from experiments.benchmarks.scan_conv import CALLS, CONVOLUTIONS, LOOP, PRODUCTS


def test_all_forms_compute_the_same_losses():
    made = scan_conv.trainings(3, 16, 4, 5, 200)
    losses = {name: train() for name, train in made.items()}
    assert set(losses) == {(n, f) for n in (PRODUCTS, CONVOLUTIONS) for f in (LOOP, CALLS)}
    assert all(values.shape == (3,) for values in losses.values())
    scan_conv.require_same(losses)
    assert len(set(losses[PRODUCTS, LOOP].tolist())) == 3
    losses[CONVOLUTIONS, CALLS] = losses[PRODUCTS, LOOP] + 0.1
    with pytest.raises(AssertionError):
        scan_conv.require_same(losses)


def test_the_table_has_milliseconds_a_step_and_their_ratio():
    times = {(PRODUCTS, LOOP): [0.01, 0.02, 0.03], (PRODUCTS, CALLS): [0.04]}
    times |= {(CONVOLUTIONS, form): list(np.ones(3)) for form in (LOOP, CALLS)}
    lines = scan_conv.table(times, 10).splitlines()
    assert lines[1].split()[-3:] == ["2.00", "4.00", "0.50"]
    assert lines[2].split()[-1] == "1.00"
