"""The script on local maxima: run tiny, its files, its refusals."""

import numpy as np
import pytest
from absl import flags
from tiny_runs import run_script, script_values

from experiments import local_maxima
from experiments.run_flags import RunError


def make_values(*arguments):
    return script_values(local_maxima, *arguments)


def run(tmp_path, *arguments):
    return run_script(local_maxima, tmp_path, *arguments)


def agreeing(found, title):
    rows = found["checks"][title]
    assert rows
    return all(row["agrees"] for row in rows)


@pytest.mark.slow
def test_default_run_agrees(tmp_path):
    found = run(tmp_path, "--samples=96", "--starts=128")
    assert [title for title in found["checks"] if agreeing(found, title)] == [
        "local maxima",
        "stability",
        "layers of K nodes",
    ]
    assert set(found["results"]["activations"]) == set(local_maxima._ACTIVATIONS)
    for name in ("sphere", "maxima", "layers"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--patterns=7", "--dim=6 is out of range; 7 patterns need at least 7"),
        ("--cosine=-0.5", r"--cosine=-0.5 is out of range; between 4 patterns it must be in"),
        ("--cosine=1", r"--cosine=1.0 is out of range"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, argument, message):
    with pytest.raises(RunError, match=message):
        run(tmp_path, argument)


@pytest.mark.parametrize("argument", ["--patterns=1", "--samples=1", "--starts=0", "--noise=-1"])
def test_flags_have_bounds(argument):
    with pytest.raises(flags.IllegalFlagValueError, match=argument[2:].split("=")[0]):
        make_values(argument)


def test_layers_compare_one_half_of_the_starts_with_the_other():
    """With equal basins K nodes find P(1 − (1 − 1/P)ᴷ) of P maxima."""
    labels = np.tile([0, 1], 64)
    maxima = local_maxima.LocalMaxima(np.eye(2), np.ones(2), np.full(2, 0.5), labels)
    of = local_maxima.Found(maxima, np.eye(2), np.ones(2), np.zeros(2), np.ones(2))
    found = local_maxima._patterns_of_layers({"linear": of, "ReLU": of}, 128, seed=0)
    assert found["nodes"] == [1, 2, 4, 8, 16, 32]
    expected = [2 * (1 - 0.5**k) for k in found["nodes"]]
    np.testing.assert_allclose(found["ReLU"]["predicted"], expected)
    np.testing.assert_allclose(found["ReLU"]["mean"], expected, atol=0.1)


def test_what_meets_the_condition_and_is_left_differs():
    maxima = local_maxima.LocalMaxima(np.eye(2), np.ones(2), np.ones(2) / 2, np.zeros(4, int))
    gap, lipschitz, returned = np.array([2.0, 1.0]), np.array([1.0, 2.0]), np.array([1.0, 0.0])
    of = local_maxima.Found(maxima, np.eye(2), gap, lipschitz, returned)
    (check,) = local_maxima._stability_checks({"ReLU": of})
    assert check.agrees
    assert "1 of 2" in check.name
    (check,) = local_maxima._stability_checks({"ReLU": of._replace(returned=np.zeros(2))})
    assert not check.agrees
