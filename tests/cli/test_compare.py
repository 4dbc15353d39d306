"""The comparison of losses: what it starts, what it averages, what it refuses."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from absl import flags

from alphacl_jax.cli import compare
from alphacl_jax.errors import RunError


def _flags(monkeypatch, output, losses: str, seeds: str) -> None:
    own = flags.FlagValues()
    flags.DEFINE_list("losses", losses.split(",") if losses else [], "", flag_values=own)
    flags.DEFINE_list("seeds", seeds.split(",") if seeds else [], "", flag_values=own)
    flags.DEFINE_string("output", str(output), "", flag_values=own)
    own(["compare"])
    monkeypatch.setattr(flags, "FLAGS", own)


def test_the_table_is_over_seeds_and_runs_get_their_arguments(monkeypatch, tmp_path, capsys):
    started = []

    def run(command, **options):
        del options
        started.append(command[1:])
        arguments = dict(a.removeprefix("--").partition("=")[::2] for a in command[3:])
        folder = tmp_path / arguments["workdir"].rpartition("/")[2]
        folder.mkdir()
        accuracy = 0.5 + 0.1 * int(arguments["seed"])
        rows = {arguments["loss"]: {"knn": accuracy, "linear_all": 0.9}, "raw pixels": {"knn": 0.4}}
        (folder / "evaluation.json").write_text(json.dumps({"accuracy": rows}))
        return nullcontext(SimpleNamespace(wait=lambda: 0))

    monkeypatch.setattr(compare.subprocess, "Popen", run)
    _flags(monkeypatch, tmp_path, "backprop,linear", "0,2")
    compare.main(["compare", "--epochs=3"])
    assert [command[:3] for command in started] == [["-m", "alphacl_jax.cli", "pretrain"]] * 4
    assert started[0][3:] == [
        "--epochs=3",
        "--loss=alpha_entropy",
        "--nostop_gradient",
        "--seed=0",
        f"--workdir={tmp_path / 'backprop-seed0'}",
    ]
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "mean ± standard deviation over 2 seeds"
    assert [line.split("  ")[0] for line in table[2:]] == ["backprop", "linear", "raw pixels"]
    assert "60.0 ± 14.1" in table[2]
    written = json.loads((tmp_path / "comparison.json").read_text())
    np.testing.assert_allclose(written["over_seeds"]["linear"]["knn"], 0.6)
    assert len(written["runs"]["raw pixels"]) == 2


def test_a_signal_is_handed_on_to_the_run(monkeypatch, tmp_path):
    ended = []

    def interrupted():
        raise KeyboardInterrupt

    run = SimpleNamespace(wait=interrupted, terminate=lambda: ended.append(True))
    monkeypatch.setattr(compare.subprocess, "Popen", lambda command, **options: nullcontext(run))
    _flags(monkeypatch, tmp_path, "mine", "0")
    with pytest.raises(KeyboardInterrupt):
        compare.main(["compare"])
    assert ended == [True]


@pytest.mark.parametrize(
    ("losses", "seeds", "message"),
    [
        ("info_nce,infonce", "0", "--losses=info_nce,infonce: infonce is no loss; choose from"),
        ("", "0", "nothing is no loss"),
        ("linear", "a", "--seeds=a must be whole numbers"),
        ("linear", "", "--seeds is empty"),
    ],
)
def test_what_is_refused(monkeypatch, tmp_path, losses, seeds, message):
    _flags(monkeypatch, tmp_path, losses, seeds)
    with pytest.raises(RunError, match=message):
        compare.main(["compare"])


def test_runs_of_several_seeds_are_refused(monkeypatch, tmp_path):
    _flags(monkeypatch, tmp_path, "linear", "0")
    for argument in ("--seed=3", "--loss=linear", "--workdir=a", "--method=contrastive"):
        name = argument.split("=")[0]
        with pytest.raises(RunError, match=f"{name} is not for the runs of a comparison; "):
            compare.main(["compare", "--epochs=3", argument])
    with pytest.raises(RunError, match="--num_seeds is not for the runs of a comparison"):
        compare.main(["compare", "--epochs=1", "--num_seeds=2"])


def test_a_run_that_fails_is_named(monkeypatch, tmp_path):
    failed = nullcontext(SimpleNamespace(wait=lambda: 3))
    monkeypatch.setattr(compare.subprocess, "Popen", lambda *a, **k: failed)
    _flags(monkeypatch, tmp_path, "linear", "5")
    with pytest.raises(RunError, match="the run of linear, seed 5, ended with status 3"):
        compare.main(["compare"])
