"""The benchmark of how processes start: which programs are worth keeping, and a tiny run."""

import json

import pytest

from experiments.benchmarks import startup
from tests.tiny_runs import script_values


def test_programs_are_counted_by_how_long_they_compile():
    rows = startup.worth_keeping([6.0, 0.5, 2.0, 1.0, 0.5])
    assert [(row["seconds"], row["programs"]) for row in rows] == [
        (1.0, 3), (0.1, 5), (0.01, 5), (0.0, 5)
    ]  # fmt: skip
    assert rows[0]["share"] == 0.9
    assert rows[1]["share"] == 1


@pytest.mark.slow
def test_both_sides_are_timed_from_the_start_of_a_process(tmp_path, capsys):
    path = tmp_path / "startup.json"
    startup.run(script_values(startup, "--quick", "--rounds=1", f"--json={path}"))
    report = json.loads(path.read_text())
    times = {name: seconds for name, (seconds,) in report["times"].items()}
    assert times["Python alone"] < times["import jax"] < times["first step, compiled"]
    assert {"first step, programs kept", "first features, programs kept"} <= set(times)
    assert report["worth_keeping"][-1]["share"] == 1
    assert "first features, compiled" in capsys.readouterr().out
