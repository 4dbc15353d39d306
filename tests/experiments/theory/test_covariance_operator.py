"""The covariance operator's script, tiny: what it finds, writes and refuses."""

import json

import numpy as np
import pytest
from absl import flags

from alphacl_jax.cli.start import plain_errors
from alphacl_jax.errors import RunError
from experiments.theory import covariance_operator as script
from tests.tiny_runs import script_values


def flags_of(folder, **changes):
    given = {"workdir": folder, "num_seeds": 2, "bits": 2, "hidden": 4, "samples": 128, **changes}
    return script_values(script, *(f"--{k}={v}" for k, v in given.items()))


@pytest.mark.slow
def test_a_tiny_run_writes_and_agrees(tmp_path, capsys):
    script.run(flags_of(tmp_path, steps=40, batch_size=32))
    written = json.loads((tmp_path / "results.json").read_text())
    assert (tmp_path / "covariance_operator.png").stat().st_size > 10_000
    gradient = written["checks"]["gradient"]
    assert len(gradient) == 24
    assert all(check["agrees"] for check in gradient)
    assert list(written["results"]["limit_errors"]) == ["32", "64", "128"]
    assert np.shape(written["results"]["history"]["weight_mass"]) == (2, 2, 3)
    assert "24 of 24 agree" in capsys.readouterr().out


def test_steps_that_looks_do_not_divide_are_refused(tmp_path):
    values = flags_of(tmp_path, steps=30)
    with (
        pytest.raises(RunError, match=r"--steps=30 must be a multiple of every=20"),
        plain_errors(values),
    ):
        script.run(values)


def test_flags_out_of_range_are_refused(tmp_path):
    with pytest.raises(flags.IllegalFlagValueError, match="samples"):
        flags_of(tmp_path, samples=32)
