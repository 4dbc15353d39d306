"""The script on dimensional collapse, run tiny."""

import json

import jax
import numpy as np
import pytest

from alphacl_jax.errors import RunError
from experiments.theory import collapse, collapse_runs
from tests.tiny_runs import script_values


def settings(*arguments):
    return script_values(collapse, *arguments)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collapse")
    small = ("--seeds=2", "--dim=5", "--block=2", "--samples=24", "--steps=80")
    collapse.run(settings(f"--workdir={folder}", "--train_steps=80", *small))
    return folder


@pytest.mark.slow  # a dozen programs to compile
def test_flows_agree_with_their_closed_forms(ran):
    report = json.loads((ran / "results.json").read_text())
    rows = {row["name"]: row for table in report["checks"].values() for row in table}
    beside = [row for name, row in rows.items() if "beside" in name and "rate of" not in name]
    assert len(beside) == 5
    assert [row["name"] for row in beside if not row["agrees"]] == []
    assert set(report["results"]["embedding_variances"]) == {
        "weak, 1 layer",
        "weak, 2 layers",
        "weak, 3 layers",
        "strong, 1 layer",
        "weak, 2 layers, orthonormal start",
    }
    assert not jax.config.jax_enable_x64


@pytest.mark.slow
def test_pictures_are_written(ran):
    assert len(list(ran.glob("*.png"))) == 6


def test_lost_dimensions_are_counted():
    spectra = np.array([[1.0, 0.5, 2e-3, 5e-4, 0.0], [1e-9, 1e-9, 1e-9, 1e-9, 1e-13]])
    np.testing.assert_array_equal(collapse_runs.lost(spectra), [2, 1])


def test_equal_growth_is_where_the_largest_has_grown():
    product = np.stack([np.diag([2.0**t, 1.0]) for t in range(5)])[None]
    np.testing.assert_allclose(collapse_runs.at_growth(product, 4.0), [[1.0, 0.25]])
    with pytest.raises(ValueError, match=r"has not grown 100\.0-fold"):
        collapse_runs.at_growth(product, 100.0)


def test_impossible_settings_are_refused(tmp_path):
    with pytest.raises(RunError, match="--block=16 must be below --dim=16"):
        collapse.run(settings("--block=16", f"--workdir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()
