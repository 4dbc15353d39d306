"""The script on coordinate-wise optimisation, run tiny."""

import json
import math

import jax
import numpy as np
import pytest

from experiments.theory import coordinate_wise
from tests.tiny_runs import run_script


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coordinate_wise")
    run_script(coordinate_wise, folder, "--seeds=2", "--samples=6", "--steps=12")
    return folder


@pytest.mark.slow  # eight losses, a program each
def test_every_loss_agrees(ran):
    report = json.loads((ran / "results.json").read_text())
    (rows,) = report["checks"].values()
    # 3 rows of each loss, 3 more of the five with exponential ψ.
    assert len(rows) == 8 * 3 + 5 * 3
    assert [row["name"] for row in rows if not row["agrees"]] == []
    for loss in report["results"].values():
        assert len(loss["losses"]) == 2
        assert len(loss["losses"][0]) == 13
    assert not jax.config.jax_enable_x64


@pytest.mark.slow
def test_pictures_are_written(ran):
    for name in ("trajectories.png", "differences.png"):
        assert (ran / name).read_bytes().startswith(b"\x89PNG")


def test_the_solver_finds_the_softmax():
    with jax.enable_x64(True):
        d_neg = np.array([0.3, 1.0, 2.5])
        found = coordinate_wise.solve_row(0.4, d_neg, 0.7, 3.0)
    weights = [math.exp(-d / 0.7) for d in d_neg]
    np.testing.assert_allclose(found, 3 * np.array(weights) / sum(weights), atol=1e-6)


def test_trajectories_that_differ_are_told():
    found = {
        "descent": np.zeros((1, 3, 2)),
        "alternation": np.full((1, 3, 2), 1e-6),
        "alpha": np.full((1, 3, 3), -1.0),
    }
    rows = coordinate_wise.checks_of("Linear", coordinate_wise.LOSSES["Linear"], found)
    assert [row.agrees for row in rows] == [False, False, False]
