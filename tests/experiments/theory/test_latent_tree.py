"""The latent tree's script, tiny: its grid, table, claims, files and refusals."""

import json

import numpy as np
import pytest
from absl import flags

from alphacl_jax.cli.start import plain_errors
from alphacl_jax.errors import RunError
from alphacl_jax.theory.latent_tree.training import TreeResult
from experiments.theory import latent_tree as script
from tests.tiny_runs import script_values


def flags_of(folder, **changes):
    given = {
        "workdir": folder,
        "depths": "2,1",
        "widths": "2",
        "lowest_polarities": "0.7,0.9",
        "outputs": 4,
        "num_seeds": 2,
        "batch_size": 16,
        "steps": 5,
        "test_samples": 128,
        **changes,
    }
    return script_values(script, *(f"--{k}={v}" for k, v in given.items()))


@pytest.mark.slow
def test_a_tiny_run_writes_every_cell(tmp_path, capsys):
    script.run(flags_of(tmp_path))
    written = json.loads((tmp_path / "results.json").read_text())
    cells = written["results"]["cells"]
    assert [(c["depth"], c["width"], c["lowest_polarity"]) for c in cells] == [
        (2, 2, 0.7),
        (2, 2, 0.9),
        (1, 2, 0.7),
        (1, 2, 0.9),
    ]
    assert [np.shape(c["trained"]) for c in cells] == [(2, 2), (2, 2), (2, 1), (2, 1)]
    assert all((tmp_path / f"latent_tree_{p}.png").exists() for p in ("levels", "root"))
    shown = capsys.readouterr().out
    assert "4 cells, 2 seed(s) each, 5 steps" in shown
    assert [line.split()[:3] for line in shown.splitlines()[3:7]] == [
        ["2", "2", "0.7"],
        ["2", "2", "0.9"],
        ["1", "2", "0.7"],
        ["1", "2", "0.9"],
    ]
    # One step in δ at each depth, none in width.
    names = [c["name"] for c in written["checks"]["claims"]]
    assert len(names) == 4
    assert "larger delta" in names[3]


@pytest.mark.slow
def test_quick_takes_the_first_depth_and_fewer_steps(tmp_path):
    script.run(flags_of(tmp_path, quick=True, lowest_polarities="1", num_seeds=1))
    cells = json.loads((tmp_path / "results.json").read_text())["results"]["cells"]
    assert [c["depth"] for c in cells] == [2]


def test_claims_count_cells():
    def result(before, after, bound):
        rows = [np.array([row, row]) for row in (before, after, bound)]
        return TreeResult(*rows, losses=np.zeros((2, 1)))

    found = {
        (2, 5, 0.7): result([0.5, 0.6], [0.7, 0.5], [0.8, 0.9]),
        (2, 10, 0.7): result([0.5, 0.6], [0.6, 0.8], [0.8, 0.7]),
    }
    checks = script.claims(found)
    assert [(c.expected, c.ours) for c in checks] == [(2, 2), (2, 2), (2, 1), (1, 0)]
    assert [c.agrees for c in checks] == [True, True, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": "0"}, "depth=0 must be at least 1"),
        ({"widths": "2,0"}, "width=0 must be at least 1"),
        ({"lowest_polarities": "1.5"}, r"lowest_polarity=1.5 must be in \[0, 1\]"),
        ({"lowest_polarities": "a"}, "--lowest_polarities=a must be numbers"),
        ({"depths": "3.0"}, "--depths=3.0 must be whole numbers separated by commas"),
        ({"widths": "5,5"}, "--widths=5,5 must be one or more different numbers"),
        ({"temperature": "0"}, "--temperature=0.0 must be positive"),
        ({"depths": "20"}, "depth=20 with children=2 makes more than 4096 leaves"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, change, message):
    values = flags_of(tmp_path, **change)
    with pytest.raises(RunError, match=message), plain_errors(values):
        script.run(values)


@pytest.mark.parametrize(("name", "value"), [("children", 1), ("batch_size", 1), ("steps", 0)])
def test_flags_out_of_range_are_refused(tmp_path, name, value):
    with pytest.raises(flags.IllegalFlagValueError, match=name):
        flags_of(tmp_path, **{name: value})
