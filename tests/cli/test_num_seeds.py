"""--num_seeds: ordinary runs in a folder each, together or in turn, resumed, and summed up."""

import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from alphacl_jax.cli.pretrain import pretrain
from alphacl_jax.errors import RunError
from alphacl_jax.runs import pretraining, seeds, train_run
from alphacl_jax.runs.encoder import load_encoder
from alphacl_jax.runs.flag_file import to_text
from alphacl_jax.runs.folder import claim_workdir, locked, read_settings
from alphacl_jax.training.loop import train
from alphacl_jax.training.records import read_records
from tests.tiny_runs import (
    TINY,
    assert_same_end,
    last_state,
    make_settings,
    start,
    tiny_settings,
    tiny_values,
)

# 1,297 digits: ten steps.
TEN_STEPS = ("--batch_size=128", "--epochs=1", "--log_every=1", "--save_every=4", "--seed=5")


@pytest.fixture
def quick_evaluation(monkeypatch):
    """Writes evaluations that are quick to make; returns their seeds."""
    seen = SimpleNamespace(seeds=[])

    def evaluate(run, encoder, untrained, workdir, *show):
        seed = run.settings.seed
        seen.seeds.append(seed)
        accuracy = {"alpha_direct": {"knn": 0.5 + 0.1 * seed, "few": 0.3, "few_std": 0.2}}
        figures = {"step": encoder.step, "effective_rank": {"z": 2.0 + seed}}
        (workdir / "evaluation.json").write_text(json.dumps(figures | {"accuracy": accuracy}))
        return f"table of seed {seed}"

    monkeypatch.setattr(pretraining, "evaluate_run", evaluate)
    return seen


@pytest.fixture
def trained_together(monkeypatch):
    """The number of seeds of each call of the loop for several seeds."""
    calls = []

    def counted(state, step, batches, schedule, checkpoints, *rest, **options):
        calls.append(len(state.step))
        return train(state, step, batches, schedule, checkpoints, *rest, **options)

    monkeypatch.setattr(seeds, "train", counted)
    return calls


def _folder(path: Path) -> list[str]:
    return ["--dataset=folder", f"--data_dir={path}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        [],
        ["--method=supervised"],
        ["--method=siamese", "--predictor=directpred", "--optimizer=sgd", "--learning_rate=0.01"],
    ],
    ids=["contrastive", "supervised", "directpred"],
)
def test_a_member_equals_the_single_run_with_its_seed(
    tmp_path, quick_evaluation, trained_together, capsys, method
):
    together = f"--workdir={tmp_path}/together"
    probed = [*TEN_STEPS, "--probe_every=1", *method]
    values = tiny_values(*probed, "--num_seeds=2", "--seeds_as=vmap", together)
    text = pretrain(values)
    assert trained_together == [2]
    assert quick_evaluation.seeds == [5, 6]
    shown = capsys.readouterr().err
    assert "seeds 5, 6 train together, as one program of 10 steps" in shown
    assert re.search(r"\nseed 6: probe at step 10: kNN \d", shown)
    assert "mean ± standard deviation over 2 seeds, 5 to 6" in text
    # Cut off while it evaluated the second: trained, and not evaluated.
    (tmp_path / "together" / "seed-6" / "evaluation.json").unlink()
    assert pretrain(values) == text
    assert trained_together == [2]
    assert quick_evaluation.seeds == [5, 6, 6]
    alone, member = tmp_path / "alone", tmp_path / "together" / "seed-6"
    pretrain(tiny_values(*probed, "--seed=6", f"--workdir={alone}"))
    assert read_settings(member) == read_settings(alone)
    records = [read_records(folder / "metrics.jsonl") for folder in (member, alone)]
    assert [record["step"] for record in records[0]] == list(range(1, 11))
    for ours, theirs in zip(*records, strict=True):
        for name in theirs.keys() - {"images_per_second", "knn", "linear", "gradient_norm"}:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, err_msg=name)
    # A gradient jumps where a ReLU starts: with its parameters moved by one rounding each, the
    # single run differs from itself by up to 1.6e-3 at some of these steps and by 1e-4 at the
    # others. tests/training/test_seeds.py compares each step, of smooth layers in float64.
    ours, theirs = (np.array([step["gradient_norm"] for step in of]) for of in records)
    assert np.median(np.abs(ours / theirs - 1)) < 1e-3
    for name in ("knn", "linear"):  # a digit or two may lie on the other side
        np.testing.assert_allclose(records[0][-1][name], records[1][-1][name], atol=0.02)
    states = [last_state(folder) for folder in (member, alone)]
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(close, *(state.params for state in states))
    jax.tree.map(close, *(state.method_state for state in states))
    assert [int(state.step) for state in states] == [10, 10]
    extra = Path("checkpoints", "10", "extra", "metadata")
    positions = [json.loads((folder / extra).read_text()) for folder in (member, alone)]
    assert positions[0]["position"] == positions[1]["position"]
    # The other member is another run.
    other = read_records(member.parent / "seed-5" / "metrics.jsonl")
    assert abs(other[0]["loss"] - records[0][0]["loss"]) > 0.01 * abs(other[0]["loss"])


def test_one_after_the_other_is_bitwise_the_single_run(
    flat_folder, tmp_path, quick_evaluation, trained_together
):
    arguments = [*_folder(flat_folder), "--memory_limit_mb=0"]
    pretrain(tiny_values(*arguments, "--num_seeds=2", f"--workdir={tmp_path}/all"))
    assert trained_together == []  # on a CPU
    assert quick_evaluation.seeds == [0, 1]
    pretrain(tiny_values(*arguments, "--seed=1", f"--workdir={tmp_path}/alone"))
    member = tmp_path / "all" / "seed-1"
    assert_same_end(member, tmp_path / "alone")
    names = {path.name for path in (tmp_path / "alone").iterdir()}
    assert {path.name for path in member.iterdir()} == names


def test_the_summary_is_over_seeds(flat_folder, tmp_path, quick_evaluation, monkeypatch):
    monkeypatch.setattr(train_run, "train", lambda state, *arguments, **options: state)
    arguments = [*_folder(flat_folder), f"--workdir={tmp_path}/run", "--num_seeds=3"]
    text = pretrain(tiny_values(*arguments))
    assert text.splitlines()[0] == (
        f"pictures and figures: {tmp_path}/run/seed-K; together: {tmp_path}/run/seeds.json"
    )
    assert "effective rank: z 3.0 ± 1.0" in text
    assert text.splitlines()[-1].split("  ")[0] == "alpha_direct"
    assert text.endswith("60.0 ± 10.0")
    written = json.loads((tmp_path / "run" / "seeds.json").read_text())
    # The spread over draws within a run, 0.2, is not that over seeds.
    row = written["over_seeds"]["accuracy"]["alpha_direct"]
    assert row == pytest.approx({"knn": 0.6, "knn_std": 0.1, "few": 0.3, "few_std": 0.0})
    assert "step" not in written["over_seeds"]
    assert set(written["runs"]) == {"0", "1", "2"}
    assert written["runs"]["2"]["accuracy"]["alpha_direct"]["few_std"] == 0.2


def test_the_summary_says_what_won(flat_folder, tmp_path, quick_evaluation, monkeypatch):
    evaluate = pretraining.evaluate_run

    def with_pixels(run, encoder, untrained, workdir, *show):
        evaluate(run, encoder, untrained, workdir, *show)
        path = workdir / "evaluation.json"
        figures = json.loads(path.read_text())
        figures["accuracy"] = {
            name: {"knn": mean + 0.01 * run.settings.seed, "knn_se": 0.01}
            for name, mean in (("alpha_direct", 0.8), ("raw pixels", 0.5))
        }
        path.write_text(json.dumps(figures))

    monkeypatch.setattr(pretraining, "evaluate_run", with_pixels)
    monkeypatch.setattr(train_run, "train", lambda state, *arguments, **options: state)
    arguments = [*_folder(flat_folder), f"--workdir={tmp_path}/run", "--num_seeds=2"]
    text = pretrain(tiny_values(*arguments))
    assert "\nkNN: won by alpha_direct, 80.5 against 50.5 % of raw pixels" in text


def test_what_is_done_is_not_repeated(flat_folder, tmp_path, quick_evaluation, monkeypatch, capsys):
    arguments = [*_folder(flat_folder), "--num_seeds=3", f"--workdir={tmp_path}/run"]
    text = pretrain(tiny_values(*arguments))
    assert quick_evaluation.seeds == [0, 1, 2]
    # An evaluation of an earlier step is none.
    of_1 = tmp_path / "run" / "seed-1" / "evaluation.json"
    of_1.write_text(of_1.read_text().replace('"step": 6', '"step": 3'))
    assert pretrain(tiny_values(*arguments)) == text
    assert quick_evaluation.seeds == [0, 1, 2, 1]
    assert "trained and evaluated already: seed 0, 2\n" in capsys.readouterr().err
    (tmp_path / "run" / "seed-2" / "evaluation.json").write_text("{")  # damaged: made again
    quick_evaluation.seeds.clear()
    assert pretrain(tiny_values(*arguments)) == text
    assert quick_evaluation.seeds == [2]
    # With nothing left to do, nothing is done; how the seeds are trained is not part of the run.
    monkeypatch.setattr(train_run, "train", None)
    assert pretrain(tiny_values(*arguments)) == text
    assert pretrain(tiny_values(*arguments, "--seeds_as=vmap")) == text


@pytest.mark.slow
def test_nan_in_turn_names_the_seed(flat_folder, tmp_path):
    wild = ["--optimizer=sgd", "--learning_rate=1e30", "--epochs=4", "--num_seeds=2", "--seed=3"]
    with pytest.raises(RunError, match=r"^seed 3: \w+ is (nan|inf) at step \d+; training stopped"):
        pretrain(tiny_values(*_folder(flat_folder), *wild, f"--workdir={tmp_path}/run"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--seeds_as=vmap", "--seeds_as is set, and only --num_seeds=2 or more reads it"),
        (
            "--seed=2147483646 --num_seeds=3",
            "--num_seeds=3 goes beyond the largest seed, 2147483647, from seed 2147483646 on",
        ),
    ],
)
def test_what_is_refused(tmp_path, flags, message):
    with pytest.raises(RunError, match=f"^{message}$"):
        pretrain(tiny_values(*flags.split(), f"--workdir={tmp_path}/run"))
    assert not (tmp_path / "run").exists()


def test_folders_of_other_runs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "pretrain_seeds", lambda *arguments: "trained")
    workdir = tmp_path / "run"
    assert pretrain(tiny_values("--num_seeds=2", "--seed=4", f"--workdir={workdir}")) == "trained"
    with pytest.raises(RunError, match="--num_seeds is 2 there and 3 here"):
        pretrain(tiny_values("--num_seeds=3", "--seed=4", f"--workdir={workdir}"))
    with pytest.raises(RunError, match=f"holds 2 runs, one per seed: give .*{workdir}/seed-4"):
        load_encoder(workdir)


def test_a_member_that_another_process_trains_is_refused(tmp_path, quick_evaluation):
    values = tiny_values("--num_seeds=2", f"--workdir={tmp_path}/run", "--epochs=1")
    settings = tiny_settings("--num_seeds=2", "--epochs=1")
    member = tmp_path / "run" / "seed-1"
    member.mkdir(parents=True)
    (tmp_path / "run" / "flags.txt").write_text(to_text(settings))
    claim_workdir(member, tiny_settings("--seed=1", "--epochs=1"))
    with (
        locked(member),
        pytest.raises(RunError, match=f"another process is training in {member}"),
    ):
        pretrain(values)
    assert quick_evaluation.seeds == []


def test_the_default_folder_holds_all_seeds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seeds, "pretrain_seeds", lambda run, training, workdir, *how: str(workdir))
    two, three, again = (
        pretrain(tiny_values(*flags.split()))
        for flags in ("--num_seeds=2", "--num_seeds=3", "--num_seeds=2 --seeds_as=vmap")
    )
    assert two == again != three


@pytest.mark.slow
@pytest.mark.parametrize("seeds_as", ["vmap", "sequential"])
def test_the_script_stopped_and_started_again(class_folder, tmp_path, seeds_as):
    """As a person would: SIGTERM, the same command again, and a member taken over by itself."""
    arguments = [*TINY, *_folder(class_folder), "--epochs=40", "--save_every=7", "--num_seeds=2"]
    arguments += [f"--seeds_as={seeds_as}"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    process = start("pretrain", *arguments, f"--workdir={stopped}")
    while process.poll() is None and not (stopped / "seed-0" / "checkpoints" / "7").exists():
        pass
    process.terminate()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "is saved; the same command resumes there" in err
    tables = []
    for workdir in (whole, stopped):
        process = start("pretrain", *arguments, f"--workdir={workdir}")
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        tables.append(out.splitlines()[1:])
    assert tables[0] == tables[1]
    assert "kNN" in tables[0][2]
    for seed in (0, 1):
        assert_same_end(whole / f"seed-{seed}", stopped / f"seed-{seed}")
    process = start("evaluate", f"--workdir={whole}/seed-1")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    again = make_settings(f"--flagfile={whole}/seed-1/flags.txt", f"--workdir={whole}/seed-1")
    assert (again.num_seeds, again.seed) == (1, 1)
