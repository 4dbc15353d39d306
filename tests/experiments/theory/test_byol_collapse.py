"""BYOL's script, tiny: every combination, the closed form, files and refusals."""

import json

import numpy as np
import pytest
from absl import flags

from alphacl_jax.cli.start import plain_errors
from alphacl_jax.errors import RunError
from alphacl_jax.theory.dual_networks.byol import ByolResult
from experiments.theory import byol_collapse as script
from tests.tiny_runs import script_values


def flags_of(folder, **changes):
    given = {
        "workdir": folder,
        "depth": 1,
        "width": 2,
        "outputs": 3,
        "num_seeds": 2,
        "batch_size": 8,
        "steps": 3,
        "test_samples": 32,
        "contrast_steps": 20,
        "contrast_width": 2,
        "predictor": "mlp",
        **changes,
    }
    return script_values(script, *(f"--{k}={v}" for k, v in given.items()))


@pytest.mark.slow
def test_a_tiny_run_writes_every_combination_of_a_predictor(tmp_path, capsys):
    script.run(flags_of(tmp_path))
    written = json.loads((tmp_path / "results.json").read_text())
    grid = written["results"]["grid"]
    names = ("predictor", "batch_norm", "stop_gradient", "moving_average")
    assert len({tuple(row[n] for n in names) for row in grid}) == 8
    assert all(np.shape(row["variance"]) == (2,) for row in grid)
    assert all(check["agrees"] for check in written["checks"]["closed form"])
    assert len(written["checks"]["closed form"]) == 3
    for name in ("byol_collapse", "implicit_contrast"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert "3 steps, 2 seed(s); a collapse is a variance below" in capsys.readouterr().out


def test_checks_are_of_the_combinations_that_theory_speaks_of():
    def result(variance):
        return ByolResult(*[np.full(2, variance)] * 7, losses=np.zeros((2, 1)))

    grid = {
        script.Combination("none", False, False, False): result(0.01),
        script.Combination("linear", False, False, False): result(0.5),
        script.Combination("mlp", True, True, True): result(0.6),
        script.Combination("none", True, True, True): result(0.6),
    }
    checks = script.collapse_checks(grid)
    assert [c.agrees for c in checks] == [True, False, True]
    assert checks[2].name == "does not: predictor mlp + BN + stop-grad + EMA"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lowest_polarity": 2}, r"--lowest_polarity=2.0 must be in \[0, 1\]"),
        ({"learning_rate": 0}, "--learning_rate=0.0 must be positive"),
        ({"target_momentum": 1}, r"--target_momentum=1.0 must be in \[0, 1\)"),
        ({"contrast_steps": 30}, "--contrast_steps=30 must be a multiple of 20"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, change, message):
    values = flags_of(tmp_path, **change)
    with pytest.raises(RunError, match=message), plain_errors(values):
        script.run(values)


@pytest.mark.parametrize(("name", "value"), [("depth", 0), ("batch_size", 1), ("outputs", 1)])
def test_flags_out_of_range_are_refused(tmp_path, name, value):
    with pytest.raises(flags.IllegalFlagValueError, match=name):
        flags_of(tmp_path, **{name: value})
