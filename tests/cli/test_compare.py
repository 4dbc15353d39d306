"""The comparison of losses and methods: what it starts, what it averages, what it refuses."""

import json
import re
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from absl import flags

from alphacl_jax.cli import compare
from alphacl_jax.cli.help import help_text
from alphacl_jax.errors import RunError


def _flags(monkeypatch, output, losses: str | None, seeds: str, rows=()) -> None:
    own = flags.FlagValues()
    compare.define_flags(own)
    given = [] if losses is None else [f"--losses={losses}"]
    own(
        ["compare", *given, f"--seeds={seeds}", f"--output={output}", *(f"--row={r}" for r in rows)]
    )
    monkeypatch.setattr(flags, "FLAGS", own)


def _runs_that_end_well(monkeypatch, tmp_path) -> list[list[str]]:
    """Runs that write their evaluation at once, and a list that fills with their arguments."""
    started = []

    def run(command, **options):
        del options
        assert command[1:4] == ["-m", "alphacl_jax.cli", "pretrain"]
        started.append(command[4:])
        arguments = dict(a.removeprefix("--").partition("=")[::2] for a in command[4:])
        folder = tmp_path / arguments["workdir"].rpartition("/")[2]
        folder.mkdir()
        accuracy = 0.5 + 0.1 * int(arguments["seed"])
        rows = {"trained": {"knn": accuracy, "linear_all": 0.9}, "raw pixels": {"knn": 0.4}}
        (folder / "evaluation.json").write_text(json.dumps({"accuracy": rows}))
        return nullcontext(SimpleNamespace(wait=lambda: 0))

    monkeypatch.setattr(compare.subprocess, "Popen", run)
    return started


def test_the_table_is_over_seeds_and_runs_get_their_arguments(monkeypatch, tmp_path, capsys):
    started = _runs_that_end_well(monkeypatch, tmp_path)
    _flags(monkeypatch, tmp_path, "backprop,linear", "0,2")
    compare.main(["compare", "--epochs=3"])
    assert len(started) == 4
    assert started[0] == [
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


def test_methods_are_rows_whose_flags_come_after_those_of_all_runs(monkeypatch, tmp_path, capsys):
    started = _runs_that_end_well(monkeypatch, tmp_path)
    byol = "BYOL, 0.97: --method=siamese --ema_momentum=0.97 --data_dir='my images'"
    _flags(monkeypatch, tmp_path, "supcon_in", "1", rows=[byol, "queue:--method=queue"])
    compare.main(["compare", "--epochs=3", "--data_dir=a"])
    own_flags = ["--method=siamese", "--ema_momentum=0.97", "--data_dir=my images"]
    assert [command[:-2] for command in started] == [
        ["--epochs=3", "--data_dir=a", "--method=supervised", "--loss=supcon_in"],
        ["--epochs=3", "--data_dir=a", *own_flags],
        ["--epochs=3", "--data_dir=a", "--method=queue"],
    ]
    assert [command[-2] for command in started] == ["--seed=1"] * 3
    assert started[1][-1] == f"--workdir={tmp_path / 'BYOL, 0.97-seed1'}"
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert list(written["runs"]) == ["supcon_in", "BYOL, 0.97", "queue", "raw pixels"]
    assert capsys.readouterr().out.startswith("mean ± standard deviation over 1 seed\n")


def test_rows_alone_are_a_comparison(monkeypatch, tmp_path):
    started = _runs_that_end_well(monkeypatch, tmp_path)
    _flags(monkeypatch, tmp_path, None, "0", rows=["queue: --method=queue"])
    compare.main(["compare"])
    assert [command[0] for command in started] == ["--method=queue"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("BYOL --method=siamese", 'must be "NAME: flags of alphacl pretrain"'),
        ("BYOL:", 'must be "NAME: flags of alphacl pretrain"'),
        ("a/b: --method=siamese", "without / and"),
        ("..: --method=siamese", "without / and"),
        ("linear: --method=siamese", "its name new"),
        ("raw pixels: --method=siamese", "its name new"),
        ("BYOL: --data_dir='a", "cannot be read: No closing quotation"),
        ("BYOL: --seed=3", "--seed is not for the row BYOL; give --seeds before --"),
        ("BYOL: --workdir=a", "--workdir is not for the row BYOL; give --output before --"),
    ],
)
def test_rows_that_are_refused(monkeypatch, tmp_path, row, message):
    _flags(monkeypatch, tmp_path, "linear", "0", rows=[row])
    with pytest.raises(RunError, match=re.escape(message)):
        compare.main(["compare"])
    assert not list(tmp_path.iterdir())


def test_the_help_text_says_what_a_row_is_as_it_is_typed(monkeypatch):
    own = flags.FlagValues()
    compare.define_flags(own)
    monkeypatch.setattr(flags, "FLAGS", own)
    text = help_text(compare.__doc__, compare.groups())
    assert "--output=OUT \\\n" in text
    assert "may be repeated.\n" in text
    assert "repeat this option" not in text


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
