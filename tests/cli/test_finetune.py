"""`alphacl finetune`, as its command line would run it."""

import json
import shutil

import pytest
from absl import flags

from alphacl_jax.cli import finetune
from alphacl_jax.cli.help import help_text
from alphacl_jax.cli.pretrain import pretrain
from alphacl_jax.errors import RunError
from alphacl_jax.runs import load_encoder
from alphacl_jax.runs.exported import write_export
from tests.cli.test_evaluate_embed import run_script
from tests.tiny_runs import tiny_values

QUICK = (
    "--label_fraction=0.5",
    "--num_seeds=1",
    "--epochs=1",
    "--min_steps=20",
    "--batch_size=8",
    "--augmentation=none",
    "--encoder_learning_rate=0.01",
)


@pytest.fixture(scope="module")
def run(class_folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finetune") / "run"
    data = ["--dataset=folder", f"--data_dir={class_folder}"]
    plain = ["--augmentation=none", "--evaluate=none"]
    pretrain(tiny_values(*data, *plain, f"--workdir={workdir}"))
    return workdir


def test_the_table_and_the_file(run, class_folder, monkeypatch, capsys):
    run_script(monkeypatch, finetune, f"--init_from={run}", *QUICK)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    path = run / "finetune.json"
    assert lines[0] == f"figures: {path}"
    assert lines[1] == "±: standard error, by the number of test images"
    assert lines[2] == "accuracy, %   50 %, 12 labels"
    assert [line.split("  ")[0] for line in lines[3:6]] == [
        "fine-tuned", "from scratch", "linear probe",
    ]  # fmt: skip
    assert lines[-1] == "the encoder's learning rate: 0.01; the classifier's: 0.01"
    # Cell by cell beside it, for a job's log.
    cells = err.splitlines()
    assert [line.split(": ")[0] for line in cells] == [
        f"50 % of the labels, seed 0, {row}"
        for row in ("fine-tuned", "from scratch", "linear probe")
    ]
    figures = json.loads(path.read_text())
    assert figures["conditions"]["data"] == class_folder.name
    assert len(figures["cells"]) == 3
    # The same command computes nothing again.
    run_script(monkeypatch, finetune, f"--init_from={run}", *QUICK)
    assert capsys.readouterr() == (out, "")
    # One with other settings leaves the file alone.
    message = r"finetune\.json holds figures of other settings: epochs is 1 there and 3 here\."
    with pytest.raises(RunError, match=message):
        run_script(monkeypatch, finetune, f"--init_from={run}", *QUICK, "--epochs=3")


def test_an_export_and_other_data(run, class_folder, monkeypatch, tmp_path, capsys):
    write_export(load_encoder(run), tmp_path / "export")
    shutil.copytree(class_folder, tmp_path / "other set")
    run_script(
        monkeypatch,
        finetune,
        f"--init_from={tmp_path}/export",
        f"--output={tmp_path}/figures",
        f"--data_dir={tmp_path}/other set",
        *QUICK,
    )
    (path,) = (tmp_path / "figures").iterdir()
    assert path.name == "finetune-other set.json"
    assert capsys.readouterr().out.startswith(f"figures: {path}\n")
    cells = json.loads(path.read_text())["cells"]
    assert [cell["labels"] for cell in cells] == [12] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--init_from is needed: give the run folder, such as --init_from=runs/NAME"),
        (["--init_from=/no/where"], "/no/where holds no run"),
        (
            ["--init_from={run}", "--label_fraction=0"],
            r"--label_fraction=0 is out of range; .* > 0",
        ),
        (["--init_from={run}", "--label_fraction=0.1,1.5"], "--label_fraction=1.5 is out of range"),
        (
            ["--init_from={run}", "--label_fraction=0.01"],
            "--label_fraction=0.01 leaves no image of",
        ),
        (["--init_from={run}", "--augmentation=simcl"], "--augmentation=simcl is no augmentation"),
        (["--init_from={run}", "--optimizer=adm"], "--optimizer=adm is unknown. Did you mean adam"),
        (
            ["--init_from={run}", "--data_dir={flat}"],
            "needs labelled training and test images, and flat0 has no labels and no labelled test",
        ),
        (["--init_from={run}", "--output={run}/flags.txt"], "--output=.* is a file. Give a folder"),
    ],
)
def test_what_it_refuses(run, flat_folder, monkeypatch, arguments, message):
    filled = [
        argument.replace("{run}", str(run)).replace("{flat}", str(flat_folder))
        for argument in arguments
    ]
    before = sorted(path.name for path in run.iterdir())
    with pytest.raises(RunError, match=message):
        run_script(monkeypatch, finetune, *filled)
    assert sorted(path.name for path in run.iterdir()) == before


@pytest.mark.parametrize("text", ["--label_fraction=all", "--encoder_learning_rate=1,x"])
def test_a_word_in_place_of_numbers(text):
    values = flags.FlagValues()
    finetune.define_flags(values)
    with pytest.raises(RunError, match=rf"{text} must be numbers, such as 0\.01,0\.1,1"):
        values(["script", text])


def test_help_has_each_flag_under_one_heading(monkeypatch):
    values = flags.FlagValues()
    finetune.define_flags(values)
    values(["script"])
    monkeypatch.setattr(flags, "FLAGS", values)
    listed = [name for names in finetune.groups().values() for name in names]
    assert sorted(listed) == sorted(values)
    text = help_text(finetune.__doc__, finetune.groups())
    assert "--label_fraction=0.01,0.1,1.0" in text
    assert "--encoder_learning_rate=0.0001,0.001,0.01" in text
