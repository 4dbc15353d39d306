"""What a run looks at: while it trains, after it, on other data, and when a picture fails."""

import dataclasses
import json
import math

import numpy as np
import pytest

from alphacl_jax.cli import embed, evaluate
from alphacl_jax.cli.pretrain import pretrain as pretrain_by_flags
from alphacl_jax.evaluation import pictures
from alphacl_jax.runs import baselines, load_encoder, pretraining
from alphacl_jax.runs.run import open_run
from alphacl_jax.training.loop import NonFiniteLossError
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.records import read_records
from tests.cli.test_evaluate_embed import run_script
from tests.tiny_runs import TRAIN_IMAGES, assert_same_end, tiny_settings, tiny_values


def folder_flags(path):
    return ["--dataset=folder", f"--data_dir={path}"]


def rows(table: str) -> list[str]:
    return [line.split("  ")[0] for line in table.splitlines()]


def test_a_probe_changes_no_training_and_its_values_come_again(class_folder, tmp_path, capsys):
    plain, probed = tmp_path / "plain", tmp_path / "probed"
    arguments = [*folder_flags(class_folder), "--epochs=4", "--evaluate=none"]
    pretrain_by_flags(tiny_values(*arguments, f"--workdir={plain}"))
    pretrain_by_flags(tiny_values(*arguments, "--probe_every=2", f"--workdir={probed}"))
    assert_same_end(plain, probed)
    records = read_records(probed / "metrics.jsonl")
    found = {r["step"]: r for r in records if "knn" in r}
    assert list(found) == [6, 12]
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("probe at ")]
    assert shown == [
        f"probe at step {step}: kNN {100 * r['knn']:.1f} %, linear {100 * r['linear']:.1f} %, "
        f"effective rank {r['effective_rank']:.1f}"
        for step, r in found.items()
    ]
    for record in found.values():
        assert 0 <= record["knn"] <= 1
        assert record["effective_rank"] > 0
    assert not any("knn" in record for record in read_records(plain / "metrics.jsonl"))


def test_levels_of_evaluation(class_folder, tmp_path):
    workdir = tmp_path / "run"
    arguments = [*folder_flags(class_folder), f"--workdir={workdir}"]
    assert pretrain_by_flags(tiny_values(*arguments, "--evaluate=none")) == (
        f"not evaluated; the run is in {workdir}"
    )
    assert not (workdir / "evaluation.json").exists()
    table = pretrain_by_flags(tiny_values(*arguments, "--evaluate=quick"))
    assert "kNN" in table
    assert "labels/class" not in table
    assert not (workdir / "map.png").exists()
    assert (workdir / "history.png").exists()


def test_a_row_of_a_supervised_encoder(class_folder, tmp_path):
    arguments = [*folder_flags(class_folder), "--evaluate=quick", "--supervised"]
    table = pretrain_by_flags(tiny_values(*arguments, f"--workdir={tmp_path}/run"))
    assert "supervised encoder" in rows(table)


def test_a_supervised_encoder_that_diverges_costs_its_row_alone(class_folder, monkeypatch, caplog):
    def diverges(*arguments, **options):
        raise NonFiniteLossError("loss", math.inf, 3, None, None)

    monkeypatch.setattr(baselines, "train", diverges)
    run = open_run(tiny_settings(*folder_flags(class_folder)), data_mesh())
    assert baselines.supervised_row(run, None) == {}
    assert "the supervised encoder diverged: its loss was inf at step 3, at learning_rate=" in (
        caplog.text
    )


def test_a_picture_that_fails_costs_no_table(class_folder, tmp_path, monkeypatch, caplog):
    def fails(*arguments, **options):
        raise ValueError("no ink")

    monkeypatch.setattr(pictures, "plot_spectrum", fails)
    workdir = tmp_path / "run"
    arguments = [*folder_flags(class_folder), "--evaluate=quick", f"--workdir={workdir}"]
    table = pretrain_by_flags(tiny_values(*arguments))
    assert "kNN" in table
    assert "accuracy" in json.loads((workdir / "evaluation.json").read_text())
    assert (workdir / "history.png").exists()
    assert "spectrum.png could not be drawn: no ink" in caplog.text


def test_what_tensorboard_is_shown_of_the_end_costs_no_table(
    flat_folder, tmp_path, monkeypatch, caplog, capsys
):
    def fails(*arguments):
        raise ValueError("no ink")

    monkeypatch.setattr(pretraining, "show_in_tensorboard", fails)
    workdir = tmp_path / "run"
    arguments = [*folder_flags(flat_folder), "--evaluate=quick", f"--workdir={workdir}"]
    table = pretrain_by_flags(tiny_values(*arguments))
    assert capsys.readouterr().out == f"{table}\n"
    assert "what TensorBoard shows of the end could not be drawn: no ink" in caplog.text


def test_a_failed_picture_is_one_line(caplog):
    with pictures.warned_of("map.png"):
        raise MemoryError
    with pictures.warned_of("map.png"):
        raise ValueError("first\nsecond")
    assert [record.getMessage() for record in caplog.records] == [
        "map.png could not be drawn: MemoryError",
        "map.png could not be drawn: first",
    ]


@pytest.fixture(scope="module")
def flat_run(flat_folder, tmp_path_factory):
    """A run without labels, to be used on other data."""
    workdir = tmp_path_factory.mktemp("transfer") / "run"
    arguments = [*folder_flags(flat_folder), "--evaluate=none", f"--workdir={workdir}"]
    pretrain_by_flags(tiny_values(*arguments))
    return workdir


def test_transfer_to_other_data(flat_run, class_folder, monkeypatch, capsys):
    run_script(
        monkeypatch,
        evaluate,
        f"--workdir={flat_run}",
        "--evaluate=quick",
        *folder_flags(class_folder),
    )
    out = capsys.readouterr().out
    path = flat_run / f"evaluation-{class_folder.name}.json"
    assert out.startswith(f"figures: {path}\n")
    assert {"alpha_direct", "untrained encoder", "raw pixels"} <= set(rows(out))
    assert "accuracy" in json.loads(path.read_text())
    assert not (flat_run / "evaluation.json").exists()


def test_transfer_scales_images_to_what_the_encoder_takes(flat_run, monkeypatch, capsys):
    run_script(
        monkeypatch, evaluate, f"--workdir={flat_run}", "--evaluate=quick", "--dataset=digits"
    )
    assert "evaluation-digits.json" in capsys.readouterr().out


def test_embedding_any_folder(flat_run, class_folder, monkeypatch, tmp_path, capsys):
    output = f"--output={tmp_path}/out"
    run_script(monkeypatch, embed, f"--workdir={flat_run}", *folder_flags(class_folder), output)
    with np.load(tmp_path / "out" / "images.npz") as arrays:
        assert arrays["features"].shape == (32, 4)
        assert list(arrays["class_names"]) == ["bright", "dark"]
        assert arrays["paths"][0].endswith(".png")
    assert "images.npz: features [32, 4]" in capsys.readouterr().out


def test_the_encoder_of_the_figures_is_the_one_that_loads(flat_run):
    encoder = load_encoder(flat_run)
    again = dataclasses.replace(encoder)
    assert encoder(TRAIN_IMAGES).tobytes() == again(TRAIN_IMAGES).tobytes()
