"""The house of studies: flags, cells that are kept, what is refused."""

import json
import shutil
import signal

import numpy as np
import pytest
from absl import flags

from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.training import mesh
from experiments.studies import study as studies
from experiments.studies.study import CROSS_ENTROPY, PIXELS, UNTRAINED, Study, Variant
from tests.tiny_runs import start

_VARIES = ("projector_dim",)
_INFO_NCE = Variant("InfoNCE", {"loss": "info_nce", "projector_dim": 8})


def make_values(*arguments):
    values = flags.FlagValues()
    studies.define_study_flags(values, "test", _VARIES)
    values(["study", *arguments])
    return values


def make_study(tmp_path, *arguments):
    return Study(make_values("--quick", f"--output={tmp_path}", *arguments), _VARIES)


@pytest.fixture(autouse=True, scope="module")
def on_one_device():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(studies, "data_mesh", mesh.data_mesh)
        yield


@pytest.fixture(scope="module")
def trained(on_one_device, tmp_path_factory):
    study = make_study(tmp_path_factory.mktemp("study"))
    return study, study.rows([_INFO_NCE, CROSS_ENTROPY, UNTRAINED, PIXELS])


def test_each_kind_of_row_has_its_figures(trained):
    _, rows = trained
    assert list(rows) == ["InfoNCE", "cross-entropy", "untrained encoder", "raw pixels"]
    for (cell,) in rows.values():
        assert 0 < cell["linear_all"] < 1
        assert set(cell["correct"]) == {"linear_all", "knn"}
    assert "loss" in rows["InfoNCE"][0]
    accuracies = {cell["linear_all"] for (cell,) in rows.values()}
    assert len(accuracies) > 1
    # What was trained differs from where it started.
    assert rows["InfoNCE"][0]["correct"] != rows["untrained encoder"][0]["correct"]


def test_cells_that_are_there_are_not_computed_again(trained, monkeypatch):
    study, rows = trained
    monkeypatch.setattr(Study, "_cell", lambda *arguments: 1 / 0)
    again = make_study(study.output)
    assert again.rows([_INFO_NCE, PIXELS]) == {
        name: rows[name] for name in ("InfoNCE", "raw pixels")
    }
    with pytest.raises(ZeroDivisionError):  # other settings are another cell
        again.rows([Variant("InfoNCE", {"loss": "mine", "projector_dim": 8})])


def test_a_run_of_a_cell_is_a_run_folder(trained):
    study, rows = trained
    (folder,) = (study.output / "runs").glob("InfoNCE-*-seed0")
    text = (folder / "flags.txt").read_text()
    assert "--loss=info_nce" in text
    assert "--projector_dim=8" in text
    encoder, recorded = study.encoder(_INFO_NCE, 0)  # trained already
    assert recorded["loss"] == rows["InfoNCE"][0]["loss"]
    assert encoder.step == 256 // 64


def test_other_conditions_are_refused(trained, tmp_path):
    study, _ = trained
    with pytest.raises(RunError, match=r"figures of other settings: .*epochs"):
        make_study(study.output, "--epochs=2")
    make_study(study.output, "--seed=3")  # more seeds belong to the same table


def test_a_study_that_kept_no_cell_does_not_stand_in_the_way(tmp_path):
    make_study(tmp_path)
    study = make_study(tmp_path, "--epochs=2")
    assert study.settings({}).optimizer.epochs == 2
    kept = json.loads((tmp_path / "cells.json").read_text())
    assert kept["conditions"]["epochs"] == 2


def test_other_test_images_are_other_conditions(trained):
    study, _ = trained
    small = ("--epochs=1", "--widths=4,8", "--num_seeds=1", "--num_images=256", "--batch_size=64")
    values = make_values(f"--output={study.output}", *small)
    with pytest.raises(RunError, match="test images and labels"):
        Study(values, _VARIES)


def test_what_was_found_stays_where_a_study_begins_again(trained):
    study, _ = trained
    study.finish("A title", "a table", [], {})
    make_study(study.output, "--num_seeds=2")
    assert "a table" in json.loads((study.output / "cells.json").read_text())["table"]


def test_what_is_finished_is_shown_and_kept(trained, capsys):
    study, _ = trained
    study.finish("A title", "a table", [], {"bad.png": lambda: 1 / 0})
    out = capsys.readouterr().out
    assert out.startswith("A title\ndigits: 256 training and 100 test images of 8x8x1; encoder")
    assert "--quick is too short" in out
    kept = json.loads((study.output / "cells.json").read_text())
    assert len(kept["cells"]) >= 4
    assert kept["table"][-1].startswith("--quick")
    assert not (study.output / "bad.png").exists()


def test_a_training_that_diverges_is_a_cell(tmp_path, capsys):
    study = make_study(tmp_path, "--optimizer=sgd", "--learning_rate=1e30")
    (cell,) = study.rows([_INFO_NCE])["InfoNCE"]
    assert cell["diverged"]
    assert "parameter_norm is inf at step 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ("--num_images=100000", ArgumentError, "more than digits has, 1,297"),
        ("--dataset=folder", Exception, "data_dir"),
        ("--widths=0", ArgumentError, "widths"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, argument, error, message):
    with pytest.raises(error, match=message):
        make_study(tmp_path, argument)


def test_a_choice_of_the_study_that_does_not_fit_is_named(tmp_path):
    with pytest.raises(RunError, match="subvector"):
        make_study(tmp_path).rows([Variant("x", {"subvector": 4})])


def test_other_encoders_have_no_widths(tmp_path):
    study = make_study(tmp_path, "--encoder=resnet18")
    assert study.run_of(_INFO_NCE, 0).settings.model.encoder == "resnet18"


def test_a_folder_of_few_images(tmp_path, class_folder):
    """It is augmented as its images ask for, whatever it is called."""
    folder = tmp_path / "digits"
    shutil.copytree(class_folder, folder)
    arguments = ("--dataset=folder", f"--data_dir={folder}", "--batch_size=8")
    study = make_study(tmp_path / "out", *arguments)
    assert len(study.train[1]) == 24
    assert study.run_of(_INFO_NCE, 0).policy.name == "simclr"
    assert study.conditions.startswith("digits: 24 training and 8 test images of 8x8x3")


def test_more_seeds_than_there_are(tmp_path):
    with pytest.raises(ArgumentError, match="num_seeds=3 goes beyond the largest seed"):
        make_study(tmp_path, f"--seed={2**31 - 2}", "--num_seeds=3")


@pytest.mark.slow
def test_a_study_that_is_stopped_goes_on_within_its_run(tmp_path):
    arguments = ("--quick", "--epochs=300", f"--output={tmp_path}", "--losses=info_nce")
    with start("studies.families_rules", *arguments) as process:
        for line in process.stderr:
            if line.startswith("step "):
                break
        process.send_signal(signal.SIGTERM)
        told = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM, told
    with start("studies.families_rules", *arguments) as process:
        out, told = process.communicate()
    assert process.returncode == 0, told
    assert "resuming at step" in told
    assert "untrained encoder" in out


def test_what_is_varied_is_no_flag():
    values = make_values()
    assert "projector_dim" not in values
    assert values.epochs == 20
    assert "temperature" not in values


def test_fewer_images_are_a_draw_of_them(tmp_path):
    images, labels = make_study(tmp_path, "--num_images=300").train
    assert len(images) == len(labels) == 300
    assert len(np.unique(labels)) == 10
