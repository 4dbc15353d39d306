"""The script on linear networks, run tiny."""

import json

import jax
import numpy as np
import pytest

from alphacl_jax.errors import RunError
from experiments.theory import linear_networks
from tests.tiny_runs import script_values


def settings(*arguments):
    return script_values(linear_networks, *arguments)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear_networks")
    linear_networks.run(
        settings(
            f"--workdir={folder}",
            "--seeds=3",
            "--samples=48",
            "--dim=5",
            "--hidden=4",
            "--outputs=2",
            "--depths=3",
            "--components=1,2",
            "--steps=1500",
        )
    )
    return folder


@pytest.mark.slow
def test_the_theorems_hold_without_negative_eigenvalues(ran):
    report = json.loads((ran / "results.json").read_text())
    assert set(report["checks"]) == {"Corollary 2", "Theorem 3", "Corollary 3"}
    rows = [row for table in report["checks"].values() for row in table]
    uniform = [row for row in rows if "uniform" in row["name"]]
    # 2 rows for each k; 3 in Theorem 3 and 4 in Corollary 3.
    assert len(uniform) == 2 * 2 + 3 + 4
    assert [row["name"] for row in uniform if not row["agrees"]] == []
    assert report["results"]["eigenvalues"]["uniform α"][-1] > 0
    assert report["results"]["eigenvalues"]["entropy α"][-1] < 0
    assert not jax.config.jax_enable_x64


@pytest.mark.slow
def test_pictures_are_written(ran):
    for name in ("spectrum_of_x.png", "objective.png", "layers.png"):
        assert (ran / name).read_bytes().startswith(b"\x89PNG")


def deep(energies, **changes):
    fields = {
        "arrivals": np.array([3, -1]),
        "energies": np.asarray(energies),
        "residuals": np.zeros((2, 2)),
        "misalignments": np.zeros((2, 2)),
        "deviations": np.zeros((2, 1)),
        "spectra": [],
        "directions": np.zeros((2, 4)),
        "upper": np.array([1.0, 0.5]),
    }
    return linear_networks.Deep(**{**fields, **changes})


def test_starts_that_stay_away_are_told_and_left_out_of_the_rest():
    found = deep(np.ones((2, 4)), residuals=np.array([[0.0, 0.0], [1.0, 1.0]]))
    rows = linear_networks.deep_checks("x", found, per_filter=True)
    agreed = {row.name.removeprefix("x: "): row.agrees for row in rows}
    assert agreed == {
        "fraction of starts at λ_max": False,
        "worst rank-one residual": True,
        "worst 1 − alignment": True,
        "worst |√n·|v_k| − 1|": True,
        "upper layers' product, others": False,
    }
    table = linear_networks.arrivals_table({"x": found})
    assert "50 %" in table
    assert "—" in linear_networks.arrivals_table({"x": deep([], arrivals=np.array([-1, -1]))})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--depths=1,2", "--depths=1,2 must be a list of different whole numbers of 2"),
        ("--depths=2,2", "--depths=2,2 must be a list of different whole numbers"),
        ("--depths=two", "--depths=two must be"),
        ("--depths=", "--depths= must be"),
        (
            "--components=13",
            "--components=13 must be a list of different whole numbers from 1 to 12",
        ),
    ],
)
def test_impossible_settings_are_refused(argument, message, tmp_path):
    with pytest.raises(RunError, match=message):
        linear_networks.run(settings(argument, f"--workdir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()
