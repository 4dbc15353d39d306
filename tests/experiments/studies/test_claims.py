"""What cells say to a claim."""

import numpy as np
import pytest
from scipy.stats import t as student

from experiments.studies.claims import (
    difference_of,
    errors_among,
    is_higher,
    is_within,
    paired,
    shown_claims,
)
from experiments.studies.report import as_bits

DIVERGED = {"diverged": True}


def cell(right, **figures):
    right = np.asarray(right, bool)
    return {"linear_all": float(right.mean()), "correct": {"linear_all": as_bits(right)}, **figures}


def rights(count, seeds=3, seed=0):
    """Cells of 400 images of which about so many are right, other ones for each seed."""
    rng = np.random.default_rng(seed)
    return [cell(rng.permutation(400) < count) for _ in range(seeds)]


def test_differences_are_paired():
    """Two rows that err on the same images differ by less than either is uncertain."""
    a, b = np.zeros(400, bool), np.zeros(400, bool)
    a[:200], b[:190] = True, True
    found = difference_of(paired([cell(a)], [cell(b)], "linear_all"))
    assert found.mean == pytest.approx(0.025)
    assert found.error == pytest.approx(np.sqrt(0.025 * 0.975 / 400))
    assert found.freedom == pytest.approx(399)


def test_of_few_seeds_that_differ_the_error_is_not_known_well():
    """Where seeds are all that varies, their number less one; where images are, that of images."""
    by_seed = np.repeat([[0.1], [0.2], [0.6]], 400, axis=1)
    assert difference_of(by_seed).freedom == pytest.approx(2)
    by_image = np.repeat(np.random.default_rng(0).integers(-1, 2, (1, 400)), 3, axis=0)
    assert difference_of(by_image.astype(float)).freedom == pytest.approx(399)


def test_chance_is_called_a_result_as_rarely_as_it_says():
    """Of rows that differ by nothing but seeds and images, 2.3 % "hold" and as many do not."""
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(2000):
        by_seed = 0.05 * rng.standard_normal((3, 1))
        values = by_seed + 0.7 * rng.standard_normal((1, 400)) * np.ones((3, 1))
        verdicts.append(difference_of(values).verdict())
    shares = [np.mean([v == name for v in verdicts]) for name in ("holds", "does not hold")]
    assert max(shares) < 0.035


@pytest.mark.parametrize(("count", "freedom"), [(1, np.inf), (1, 2), (4, np.inf), (20, 5)])
def test_the_best_of_several_must_be_further_away(count, freedom):
    level = count * student.sf(errors_among(count, freedom), freedom)
    assert level == pytest.approx(student.sf(2, np.inf))


@pytest.mark.parametrize(
    ("count", "verdict"), [(150, "does not hold"), (199, "not settled"), (260, "holds")]
)
def test_verdicts_of_a_difference(count, verdict):
    rows = {"a": rights(count), "b": rights(200, seed=1)}
    assert is_higher("a beats b", rows, "a", "b").verdict == verdict


@pytest.mark.parametrize("better", [[DIVERGED] * 3, [*rights(400, 2), DIVERGED]])
def test_a_seed_that_diverged_settles_nothing(better):
    """The mean of the others would flatter the row."""
    lost = sum("diverged" in cell for cell in better)
    for rows in ({"a": better, "b": rights(200)}, {"a": rights(200), "b": better}):
        claim = is_higher("a beats b", rows, "a", "b")
        assert (claim.verdict, claim.found) == ("not settled", f"{lost} of 3 seeds diverged")
    claim = is_within("it is right", better, "linear_all", low=0.1)
    assert (claim.verdict, claim.found) == ("not settled", f"{lost} of 3 seeds diverged")


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((0.6, 0.7), "holds"), ((0.4, 0.7), "not settled"), ((0.1, 0.2), "does not hold")],
)
def test_verdicts_of_a_range(values, verdict):
    cells = [{"spread": value} for value in values]
    claim = is_within("it spreads", cells, "spread", low=0.5)
    assert claim.verdict == verdict
    assert shown_claims([claim]) == f"{verdict}: it spreads ({claim.found})"
