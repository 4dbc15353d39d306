"""The benchmark of scale: measured at a tiny size, resumed, its laws and its picture."""

import json
import re

import numpy as np
import pytest

from alphacl_jax.errors import RunError
from experiments.benchmarks import benchmarking, scale, scale_laws, scale_picture
from tests.tiny_runs import assert_picture, script_values

ARGUMENTS = ("--dim=4", "--devices=1,2", "--losses=alpha_inverse", "--seconds=0")


def row(size, seconds, peak, loss="info_nce", devices=1, form="tiles"):
    case = {"loss": loss, "devices": devices, "form": form, "size": size, "dim": 4}
    return {**case, "seconds": seconds, "times": [seconds], "peak_bytes": peak}


@pytest.fixture
def in_this_process(monkeypatch):
    """Without processes, each of which would compile anew; the tests' devices are there already."""
    asked = []

    def alone(function, case, *arguments):
        asked.append(case)
        return function(case, *arguments)

    monkeypatch.setattr(benchmarking, "alone", alone)
    monkeypatch.setattr(scale, "start_devices", lambda count: None)
    return asked


def test_what_was_measured_is_kept_and_not_measured_again(in_this_process, tmp_path, capsys):
    path, picture = tmp_path / "scale.json", tmp_path / "scale.png"
    arguments = (*ARGUMENTS, f"--json={path}")
    scale.run(script_values(scale, *arguments, "--sizes=8"))
    scale.run(script_values(scale, *arguments, "--sizes=8,16", f"--picture={picture}"))
    assert [(case.size, case.devices) for case in in_this_process] == [
        *((8, 1), (8, 2), (16, 1), (16, 2))
    ]
    report = json.loads(path.read_text())
    assert [(r["size"], r["devices"], r["form"]) for r in report["results"]] == [
        *((8, 1, "rows"), (8, 2, "rows"), (16, 1, "rows"), (16, 2, "rows"))
    ]
    assert all(r["seconds"] > 0 for r in report["results"])
    assert [law["sizes"] for law in report["laws"]] == [2, 2]
    assert "Inf-CL, published" in capsys.readouterr().out
    assert_picture(picture)


@pytest.mark.slow
def test_a_process_of_its_own_has_the_devices_of_its_case():
    row = benchmarking.alone(scale.measured, scale.Case("info_nce", 3, "rows", 12, 4), 0.0)
    assert row["seconds"] > 0
    assert row["devices"] == 3


def test_each_result_is_written_as_soon_as_it_is_known(monkeypatch, tmp_path):
    path, held = tmp_path / "scale.json", []

    def alone(function, case, seconds):
        held.append(len(json.loads(path.read_text())["results"]) if path.exists() else 0)
        return row(case.size, 1.0, None, case.loss, case.devices, case.form)

    monkeypatch.setattr(benchmarking, "alone", alone)
    values = script_values(scale, *ARGUMENTS, "--sizes=8,16", f"--json={path}")
    scale.run(values)
    assert held == [0, 1, 2, 3]


def test_the_forms_of_a_loss_on_one_device_and_on_several():
    values = script_values(scale, "--sizes=16", "--losses=info_nce", "--losses=alpha_inverse")
    found = [(case.loss, case.devices, case.form) for case in scale.cases(values)]
    assert found == [
        ("info_nce", 1, "tiles"),
        ("info_nce", 4, "ring"),
        ("info_nce", 4, "rows"),
        ("alpha_inverse", 1, "rows"),
        ("alpha_inverse", 4, "rows"),
    ]


def test_laws_are_found_again():
    rows = [row(n, 3e-9 * n**2, 10**6 + 700 * n) for n in (1024, 4096, 16384)]
    (law,) = scale_laws.laws(rows)
    np.testing.assert_allclose(law.seconds(2**20), 3e-9 * 2.0**40, rtol=1e-6)
    np.testing.assert_allclose(law.bytes(2**20), 10**6 + 700 * 2**20, rtol=1e-6)
    assert max(law.seconds_off, law.bytes_off) < 1e-6
    rows[1]["seconds"] *= 1.5
    (law,) = scale_laws.laws(rows)
    assert 0.2 < law.seconds_off < 0.5


def test_one_size_says_nothing_of_memory(tmp_path):
    (law,) = scale_laws.laws([row(1024, 1.0, 10**6)])
    assert law.bytes(2048) is None
    assert law.cells()[-2:] == ["n/a", "n/a"]
    report = {"machine": {"cores": 2, "cpu": "none"}, "results": [row(1024, 1.0, None)]}
    scale_picture.draw(report, tmp_path / "one.png")
    assert_picture(tmp_path / "one.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes=big"], "--sizes=big: use whole numbers >= 4"),
        (["--devices=0"], "--devices=0: use whole numbers >= 1"),
        (["--sizes=12"], "--sizes=12 is not divisible by 2 views times --devices=4"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(RunError, match=re.escape(message)):
        scale.run(script_values(scale, *arguments))


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"results": [{"loss": "mine"}]}')
    with pytest.raises(RunError, match="is not what this script writes"):
        scale.run(script_values(scale, f"--json={path}"))
