"""Losses with labels beside their peers: the same numbers; our side timed at a tiny size."""

import json
import re

import pytest

from alphacl_jax.errors import RunError
from experiments.benchmarks import benchmarking
from experiments.benchmarks import objectives as benchmark
from tests.tiny_runs import measure_here, script_values


def test_every_loss_that_a_peer_has_is_the_same_number(capsys):
    pytest.importorskip("pytorch_metric_learning")
    pytest.importorskip("lightly")
    rows = benchmark.compared()
    alone = {row["loss"] for row in rows if row["peer"] == "none"}
    assert alone == {
        'supcon_loss(variant="in")',
        'nca_loss(variant="probability")',
        "n_pair_loss(labels=...)",
    }
    for row in rows:
        if row["loss"] not in alone:
            assert row["value"] < 1e-9, row
            assert row["gradient"] < 1e-9, row


def test_the_table_has_a_line_for_each_loss_and_says_what_differs():
    rows = [
        {
            "loss": "one",
            "peer": "Theirs",
            "convention": "twice " * 30,
            "value": 0,
            "gradient": 1e-16,
        },
        {"loss": "two", "peer": "none", "convention": "no peer"},
    ]
    lines = benchmark.agreement_table(rows).split("\n")
    assert lines[0].split() == ["loss", "peer", "value", "gradient"]
    assert lines[1].split() == ["one", "Theirs", "0e+00", "1e-16"]
    assert lines[2].startswith("  twice twice")
    assert all(len(line) <= 96 for line in lines)
    assert [line.split() for line in lines[-2:]] == [["two", "none"], ["no", "peer"]]


def values_of(*arguments):
    return script_values(benchmark, *arguments)


def test_ours_is_timed_where_the_peer_does_not_fit(monkeypatch, capsys):
    monkeypatch.setattr(benchmarking, "measure_in_turn", measure_here)
    sizes = ["--sizes=8", "--dim=4", "--rounds=1", "--seconds=0.01"]
    rows = benchmark.timed(values_of(*sizes, "--memory_limit_gb=2e-6"))
    assert [row["form"] for row in rows] == ["dense", "auto", "SupConLoss"]
    assert all(row["seconds"] > 0 for row in rows[:2])
    shown = capsys.readouterr().out
    assert "supcon_loss, auto" in shown
    assert re.search(r"SupConLoss +skipped \(needs ~0 GB\)", shown)


def test_what_is_refused(monkeypatch):
    with pytest.raises(RunError, match="--sizes=one: use whole numbers >= 2"):
        benchmark.run(values_of("--sizes=one"))
    monkeypatch.setattr(benchmarking, "_version", lambda package: None)
    with pytest.raises(RunError, match=re.escape("torch, lightly, pytorch-metric-learning not")):
        benchmark.run(values_of())


def test_the_report_holds_what_was_compared(monkeypatch, tmp_path):
    row = {"loss": "one", "peer": "none", "convention": "no peer"}
    monkeypatch.setattr(benchmarking, "require_installed", lambda packages, otherwise: None)
    monkeypatch.setattr(benchmarking, "alone", lambda function: [row])
    path = tmp_path / "report.json"
    benchmark.run(values_of(f"--json={path}"))
    report = json.loads(path.read_text())
    assert report["agreement"] == [row]
    assert "times" not in report
