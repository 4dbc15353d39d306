"""A finished run: its table, the same once more, its features on disk, and what is missing."""

import dataclasses
import errno
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from alphacl_jax.cli import embed, evaluate
from alphacl_jax.cli.pretrain import pretrain
from alphacl_jax.errors import RunError
from alphacl_jax.runs import evaluation as looks
from alphacl_jax.runs import load_encoder
from alphacl_jax.runs.folder import claim_workdir, locked
from tests.tiny_runs import assert_picture, start, tiny_settings, tiny_values

FEATURES, DIM = 4, 4


@pytest.fixture(scope="module")
def finished(class_folder, tmp_path_factory) -> tuple[Path, str]:
    """A run on class folders, and the table that it ended with."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    data = ["--dataset=folder", f"--data_dir={class_folder}"]
    table = pretrain(tiny_values(*data, "--loss=alpha_entropy", f"--workdir={workdir}"))
    assert table is not None
    return workdir, table


def run_script(monkeypatch, script, *arguments: str) -> None:
    """Runs a script's main in this process, with flags of its own."""
    own = flags.FlagValues()
    script.define_flags(own)
    rest = own(["script", *arguments])
    monkeypatch.setattr(flags, "FLAGS", own)
    script.main(rest)


def test_the_table_and_the_figures(finished):
    workdir, table = finished
    lines = table.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("accuracy, %"))
    assert [re.split(r"  +", line)[0] for line in lines[header : header + 4]] == [
        "accuracy, %",
        "alpha_entropy",
        "untrained encoder",
        "raw pixels",
    ]
    assert lines[1].startswith("step 6 of 6; effective rank: embedding z ")
    assert re.search(r"effective rank: embedding z \d\.\d, features h \d\.\d\n", table)
    assert str(workdir) in table
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    assert evaluation["step"] == 6
    accuracies = evaluation["accuracy"]
    assert set(accuracies) == {"alpha_entropy", "untrained encoder", "raw pixels"}
    for row in accuracies.values():
        assert {"linear_2_per_class", "linear_10_per_class", "linear_all", "knn"} <= set(row)
        accuracies_of = [value for name, value in row.items() if "_l2" not in name]
        assert all(0 <= value <= 1 for value in accuracies_of)
    # The classes differ in the brightness of their middle.
    assert accuracies["raw pixels"]["linear_all"] == 1.0
    assert accuracies["alpha_entropy"] != accuracies["untrained encoder"]
    for name in ("history.png", "spectrum.png", "map.png"):
        assert_picture(workdir / name)


def test_evaluating_again_says_the_same_and_changes_nothing_else(finished, monkeypatch, capsys):
    workdir, table = finished
    before = (workdir / "evaluation.json").read_text()
    records = (workdir / "metrics.jsonl").read_text()
    (workdir / "evaluation.json").unlink()
    (workdir / "map.png").unlink()
    run_script(monkeypatch, evaluate, f"--workdir={workdir}")
    assert capsys.readouterr() == (table + "\n", "")
    assert (workdir / "evaluation.json").read_text() == before
    assert (workdir / "metrics.jsonl").read_text() == records
    assert_picture(workdir / "map.png")


def test_figures_and_pictures_go_elsewhere_on_request(finished, monkeypatch, tmp_path, capsys):
    workdir, table = finished
    before = {path.name: path.stat().st_mtime_ns for path in workdir.iterdir()}
    output = tmp_path / "a" / "b"
    run_script(monkeypatch, evaluate, f"--workdir={workdir}", f"--output={output}")
    assert capsys.readouterr().out == table.replace(str(workdir), str(output)) + "\n"
    assert sorted(path.name for path in output.iterdir()) == [
        "evaluation.json", "history.png", "map.png", "spectrum.png",
    ]  # fmt: skip
    assert {path.name: path.stat().st_mtime_ns for path in workdir.iterdir()} == before


@pytest.fixture
def no_writing(monkeypatch):
    """As on a file system that may be read only; not even root is stopped by rights."""

    def refused(path, value):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(looks, "write_json_atomically", refused)


def test_a_folder_that_cannot_be_written_costs_no_table(
    finished, no_writing, monkeypatch, tmp_path, capsys
):
    workdir, table = finished
    quick = [f"--workdir={workdir}", "--evaluate=quick"]
    rows = table.splitlines()[1:]
    run_script(monkeypatch, evaluate, *quick)
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == rows[0]
    assert "raw pixels" in out
    assert err == (
        f"note: the figures could not be written: {workdir}/evaluation.json: Read-only file "
        "system. --output=FOLDER writes them elsewhere\n"
    )
    with pytest.raises(RunError, match=f"could not be written: {tmp_path}/x/evaluation.json: Read"):
        run_script(monkeypatch, evaluate, *quick, f"--output={tmp_path}/x")
    assert "raw pixels" in capsys.readouterr().out
    assert list((tmp_path / "x").iterdir()) == []


def test_the_table_comes_before_any_picture(finished, monkeypatch, capsys):
    workdir, table = finished
    shown = []

    def crash(*arguments, **options):
        shown.append(capsys.readouterr().out)
        raise MemoryError

    monkeypatch.setattr(looks, "draw_evaluation", crash)
    with pytest.raises(MemoryError):
        run_script(monkeypatch, evaluate, f"--workdir={workdir}")
    assert shown == [table + "\n"]


def test_which_step_is_shown_of_a_run_that_is_not_at_its_end(finished, capsys, tmp_path):
    encoder = load_encoder(finished[0])
    evaluate.note_unfinished(encoder, tmp_path, [6])
    assert capsys.readouterr().err == ""  # it is at its last step
    early = dataclasses.replace(encoder, step=4)
    evaluate.note_unfinished(early, tmp_path, [4])
    with locked(tmp_path):
        evaluate.note_unfinished(early, tmp_path, [4])
    evaluate.note_unfinished(early, tmp_path, [4, 6])
    assert capsys.readouterr().err.splitlines() == [
        "note: this run is at step 4 of 6, the newest that is saved of a run that was stopped",
        "note: this run is at step 4 of 6, the newest that was saved when this began; a process is "
        "training it",
        "note: this run is at step 4 of 6, the newest that can be read; its checkpoint of step 6 "
        "is damaged",
    ]


def test_a_step_that_is_saved_while_another_is_shown_is_told(
    finished, monkeypatch, capsys, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)

    def saved_meanwhile(*arguments):
        (workdir / "checkpoints" / "9").mkdir()

    monkeypatch.setattr(evaluate, "evaluate", saved_meanwhile)
    run_script(monkeypatch, evaluate, f"--workdir={workdir}")
    assert capsys.readouterr().err == (
        "note: shown is step 6; the run has saved step 9 since then\n"
    )


def test_a_step_that_is_saved_while_the_encoder_is_read_is_not_called_damaged(
    finished, monkeypatch, capsys, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)

    def early(folder):
        (workdir / "checkpoints" / "9").mkdir()
        return dataclasses.replace(load_encoder(finished[0]), step=4)

    monkeypatch.setattr("alphacl_jax.runs.encoder.load_encoder", early)
    monkeypatch.setattr(evaluate, "evaluate", lambda *arguments: None)
    shutil.rmtree(workdir / "checkpoints" / "6")
    run_script(monkeypatch, evaluate, f"--workdir={workdir}")
    assert capsys.readouterr().err.splitlines() == [
        "note: this run is at step 4 of 6, the newest that is saved of a run that was stopped",
        "note: shown is step 4; the run has saved step 9 since then",
    ]


def test_embed_writes_features_embeddings_and_labels(finished, monkeypatch, tmp_path, capsys):
    workdir, _ = finished
    run_script(monkeypatch, embed, f"--workdir={workdir}", f"--output={tmp_path}/a/b")
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["test.npz", "train.npz"]
    for name, count in (("train", 24), ("test", 8)):
        with np.load(tmp_path / "a" / "b" / f"{name}.npz") as arrays:
            assert arrays["features"].shape == (count, FEATURES)
            assert arrays["features"].dtype == np.float32
            assert arrays["embeddings"].shape == (count, DIM)
            np.testing.assert_allclose(np.sum(arrays["embeddings"] ** 2, axis=1), 1, rtol=1e-5)
            np.testing.assert_array_equal(arrays["labels"], np.repeat([0, 1], count // 2))
            assert arrays["features"].std(axis=0).max() > 0
    out = capsys.readouterr().out
    assert "test.npz: features [8, 4], embeddings [8, 4], labels [8]" in out
    assert out.startswith("images: 8x8, RGB; others were scaled, cropped at the centre and conv")


def test_embed_where_no_folder_can_be(finished, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"/file/x: Not a directory"):
        run_script(monkeypatch, embed, f"--workdir={finished[0]}", f"--output={tmp_path}/file/x")
    with pytest.raises(RunError, match=r"--output=.*/file is a file. Give a folder"):
        run_script(monkeypatch, embed, f"--workdir={finished[0]}", f"--output={tmp_path}/file")


@pytest.mark.slow
def test_embed_of_unlabelled_images(flat_folder, tmp_path, monkeypatch):
    """And of a run that was stopped, which it says."""
    workdir = tmp_path / "run"
    values = tiny_values("--dataset=folder", f"--data_dir={flat_folder}", f"--workdir={workdir}")
    pretrain(values)
    (workdir / "flags.txt").write_text(
        (workdir / "flags.txt").read_text().replace("--epochs=2\n", "--epochs=3\n")
    )
    errors = []
    monkeypatch.setattr(sys.stderr, "write", errors.append)
    run_script(monkeypatch, embed, f"--workdir={workdir}")
    monkeypatch.undo()
    assert "note: this run is at step 6 of 9" in "".join(errors)
    assert [p.name for p in (workdir / "features").iterdir()] == ["pretrain.npz"]
    with np.load(workdir / "features" / "pretrain.npz") as arrays:
        assert set(arrays) == {"features", "embeddings", "preprocessing", "paths"}
        assert arrays["features"].shape == (24, FEATURES)
        assert list(arrays["paths"][:2]) == ["00.png", "01.png"]
        assert json.loads(str(arrays["preprocessing"]))["image_shape"] == [8, 8, 3]


@pytest.mark.parametrize("script", [evaluate, embed])
def test_no_run(script, monkeypatch, tmp_path):
    with pytest.raises(RunError, match=f"{tmp_path}/none holds no run: .*flags.txt is missing"):
        run_script(monkeypatch, script, f"--workdir={tmp_path}/none")


def test_an_untrained_run(class_folder, monkeypatch, tmp_path):
    data = ["--dataset=folder", f"--data_dir={class_folder}"]
    claim_workdir(tmp_path / "run", tiny_settings(*data, "--loss=alpha_entropy"))
    with pytest.raises(RunError, match="has no checkpoint yet: train it first, by the command"):
        run_script(monkeypatch, evaluate, f"--workdir={tmp_path}/run")


def test_images_that_changed_since_are_told(finished, class_folder, monkeypatch, tmp_path, capsys):
    workdir, _ = finished
    named = "are not those that the run was trained on, by their names and sizes"
    run_script(monkeypatch, embed, f"--workdir={workdir}", f"--output={tmp_path}/same")
    assert named not in capsys.readouterr().err
    more = class_folder / "train" / "bright" / "more.png"
    shutil.copy(next((class_folder / "test" / "bright").iterdir()), more)
    try:
        for script in (embed, evaluate):
            own = ["--evaluate=quick"] if script is evaluate else []
            run_script(monkeypatch, script, f"--workdir={workdir}", f"--output={tmp_path}/a", *own)
            assert f"note: the images in {class_folder.name} {named}" in capsys.readouterr().err
        # Of other data nothing of the kind is expected.
        moved = shutil.copytree(class_folder, tmp_path / "moved")
        other = [f"--data_dir={moved}", f"--output={tmp_path}/b"]
        run_script(monkeypatch, embed, f"--workdir={workdir}", *other)
        assert named not in capsys.readouterr().err
    finally:
        more.unlink()


def test_a_run_whose_data_has_gone(finished, class_folder, monkeypatch, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    path = tmp_path / "run" / "flags.txt"
    path.write_text(path.read_text().replace(str(class_folder), f"{tmp_path}/gone"))
    with pytest.raises(RunError, match=f"--data_dir={tmp_path}/gone does not exist"):
        run_script(monkeypatch, evaluate, f"--workdir={tmp_path}/run")


def test_a_run_whose_checkpoints_are_all_damaged(finished, monkeypatch, tmp_path):
    claim_workdir(tmp_path / "run", tiny_settings("--batch_size=16", "--widths=2"))
    shutil.copy(finished[0] / "preprocessing.json", tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "5").mkdir(parents=True)
    with pytest.raises(RunError, match=r"none of the checkpoints of steps \[5\] .* can be read"):
        run_script(monkeypatch, evaluate, f"--workdir={tmp_path}/run")


def test_the_script_ends_with_one_line_and_status_one(tmp_path):
    process = start("evaluate", f"--workdir={tmp_path}")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert err == (
        f"error: {tmp_path} holds no run: {tmp_path}/flags.txt is missing. Check the run folder\n"
    )
