"""Checks, tables, progress and files of the theory lab's experiments."""

import json

import numpy as np
import pytest
from absl import flags
from matplotlib.figure import Figure

from alphacl_jax.errors import ArgumentError, RunError
from experiments.theory import lab
from experiments.theory.checks import Check, agreement, format_checks, published_cell
from experiments.theory.lab import Lab, define_lab_flags, progress, settings_of
from tests.tiny_runs import assert_picture, start


def make_settings(*arguments):
    values = flags.FlagValues()
    define_lab_flags("some", values)
    values(["script", *arguments])
    return settings_of(values)


@pytest.mark.parametrize(
    ("check", "agrees"),
    [
        (Check("near", 1.0, 1.1, 0.1 + 1e-12), True),
        (Check("far", 1.0, 1.2, 0.1), False),
        (Check("above", 1.0, 1.1, relation=">"), True),
        (Check("not above", 1.0, 1.0, relation=">"), False),
        (Check("below", 1.0, 0.9, relation="<"), True),
        (Check("not below", 1.0, 1.1, relation="<"), False),
        (Check("nan", 1.0, float("nan"), 10.0), False),
        (Check("nan", 1.0, float("nan"), relation=">"), False),
    ],
)
def test_what_agrees(check, agrees):
    assert check.agrees is agrees
    assert check.as_json()["agrees"] is agrees


def test_a_published_cell_agrees_within_two_deviations_or_three_hundredths():
    values = [0.5, 0.7]
    cell = published_cell("P=1", (0.7, 0.05), values)
    assert (cell.ours, cell.ours_std) == (pytest.approx(0.6), pytest.approx(0.1))
    assert cell.agrees
    assert not published_cell("P=1", (0.7, 0.049), values).agrees
    assert published_cell("P=1", (0.63, 0.0), values).agrees
    assert not published_cell("P=1", (0.631, 0.0), np.asarray(values)).agrees


def test_the_table_has_verdicts_and_counts_them():
    checks = [
        Check("one", 0.5, 0.52, 0.03, expected_std=0.01, ours_std=0.002),
        Check("two", 3.0, 2.5, relation=">"),
    ]
    lines = format_checks("cell", checks, expected="theory").splitlines()
    assert lines[0].split() == ["cell", "theory", "ours", "difference", "verdict"]
    assert lines[1].split() == ["one", "0.500±0.010", "0.520±0.002", "+0.02", "agrees"]
    assert lines[2].split() == ["two", ">", "3", "2.5", "-0.5", "DIFFERS"]
    assert lines[3] == "1 of 2 agree"


def test_what_may_be_claimed_names_what_differs():
    good, bad, worse = Check("a", 1.0, 1.0), Check("b", 1.0, 2.0), Check("c", 1.0, np.nan)
    assert agreement([good, good], "rows", "agree") == "All rows (2) agree."
    text = agreement([good, bad, worse], "rows", "agree")
    assert text == "1 of 3 rows agree; not these: b; c."
    assert agreement([], "claims", "hold") == "None of the claims could be compared in this run."


def test_all_numbers_are_kept(tmp_path, capsys):
    experiment = Lab(make_settings(f"--workdir={tmp_path / 'a' / 'b'}", "--seed=7"))
    figure = Figure()
    figure.subplots().plot([0, 1])
    experiment.picture("line.png", figure)
    said = ("One is one.", "Two is another.")
    experiment.finish({"curve": [1, 2]}, {"table": [Check("one", 1.0, 1.0)]}, said)
    assert_picture(tmp_path / "a" / "b" / "line.png")
    found = json.loads((tmp_path / "a" / "b" / "results.json").read_text())
    assert found["results"] == {"curve": [1, 2]}
    assert found["settings"]["seed"] == 7
    assert found["checks"]["table"][0]["agrees"] is True
    assert found["machine"]["cores"] >= 1
    assert found["conclusion"] == list(said)
    first, second, empty, picture, numbers = capsys.readouterr().out.splitlines()
    assert (first, second, empty) == (*said, "")
    assert str(tmp_path / "a" / "b" / "line.png") in picture
    assert str(tmp_path / "a" / "b" / "results.json") in numbers


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"--workdir=.*file/inside cannot be made or written to"):
        Lab(make_settings(f"--workdir={tmp_path / 'file' / 'inside'}"))
    with pytest.raises(RunError, match="--workdir= is empty"):
        Lab(make_settings("--workdir="))


def test_a_folder_that_cannot_be_written_to_is_refused_at_once():
    with pytest.raises(RunError, match="--workdir=/proc/1 cannot be made or written to"):
        Lab(make_settings("--workdir=/proc/1"))


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_numbers_that_are_none_are_refused(tmp_path, number):
    values = flags.FlagValues()
    define_lab_flags("some", values)
    flags.DEFINE_float("noise", 1.0, "", module_name="experiments.some", flag_values=values)
    values(["script", f"--workdir={tmp_path / 'new'}", f"--noise={number}"])
    with pytest.raises(RunError, match=f"--noise={number} must be a finite number"):
        Lab(settings_of(values))
    assert not (tmp_path / "new").exists()


def test_results_are_strict_json(tmp_path):
    experiment = Lab(make_settings(f"--workdir={tmp_path}"))
    experiment.finish({"curve": [1.0, float("nan")], "at": (np.inf,)}, {"table": []}, ("", ""))
    text = (tmp_path / "results.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["results"] == {"curve": [1.0, None], "at": [None]}


def test_a_refused_setting_leaves_no_folder_behind(tmp_path):
    new, old, written = (tmp_path / name for name in ("a/b/new", "old", "written"))
    old.mkdir()

    def refuse(folder):
        with lab.no_empty_folder(folder):
            Lab(make_settings(f"--workdir={folder}"))
            if folder is written:
                (folder / "line.png").write_text("")
            raise ValueError("impossible")

    for folder in (new, old, written):
        with pytest.raises(ValueError, match="impossible"):
            refuse(folder)
    assert not (tmp_path / "a").exists()
    assert old.exists()
    assert (written / "line.png").exists()


def test_progress_outside_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(lab.time, "monotonic", lambda: next(clock))
    assert list(progress(["a", "b", "c", "d"], str.upper)) == ["a", "b", "c", "d"]
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["1 of 4: A (6 s so far)", "4 of 4: D (24 s so far)"]


def test_a_wrong_setting_ends_a_script_in_one_line(monkeypatch, tmp_path):
    values = flags.FlagValues()
    define_lab_flags("some", values)
    monkeypatch.setattr(flags, "FLAGS", values)
    values(["script", f"--workdir={tmp_path / 'new'}"])

    def run(given):
        assert given is values
        raise ArgumentError("seed", 3, "is a bad one")

    monkeypatch.setattr(lab, "run_main", lambda function, text: function([]))
    with pytest.raises(RunError, match="--seed=3 is a bad one"):
        lab.main(run, "text")


def test_a_missing_library_ends_a_script_in_one_line(monkeypatch, tmp_path):
    values = flags.FlagValues()
    define_lab_flags("some", values)
    monkeypatch.setattr(flags, "FLAGS", values)
    values(["script", f"--workdir={tmp_path / 'new'}"])

    def run(_):
        raise ModuleNotFoundError("the flow of filters needs diffrax")

    monkeypatch.setattr(lab, "run_main", lambda function, text: function([]))
    with pytest.raises(RunError, match=r"^the flow of filters needs diffrax$"):
        lab.main(run, "text")


def test_one_long_computation_is_shown_and_returned(capsys):
    assert lab.in_progress("training", lambda: 7) == 7
    assert capsys.readouterr().err == "1 of 1: training (0 s so far)\n"


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_names_the_flag(loss):
    lab.require_finite_loss(np.ones(2), "seed", 7, "with 3 layers")
    message = "--seed=7 is too large: the loss is infinite with 3 layers"
    with pytest.raises(RunError, match=message):
        lab.require_finite_loss(np.array([1.0, loss]), "seed", 7, "with 3 layers")


@pytest.mark.slow  # a process of its own
def test_help_may_be_cut_short():
    with start("theory.covariance_operator", "--help") as process:
        process.stdout.close()  # as `| head` does
        assert process.stderr.read() == ""
    assert process.returncode == 0
