"""Commands on recordings over time: a run and its folder, refusals, resuming, other commands."""

import json
import os
import re
import signal
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from alphacl_jax.cli import embed, evaluate, export, finetune, neighbors
from alphacl_jax.cli.pretrain import pretrain
from alphacl_jax.cli.start import plain_errors
from alphacl_jax.data.recordings import save_recordings
from alphacl_jax.errors import RunError
from alphacl_jax.runs import load_recording_encoder, train_run
from alphacl_jax.runs.folder import saved_steps
from alphacl_jax.training.records import read_records
from tests.tiny_recordings import (
    TINY_CEBRA,
    TINY_CPC,
    assert_same_recording_end,
    tiny_cebra,
    tiny_cpc,
    turning,
)
from tests.tiny_runs import assert_picture, make_values, script_values, start


@pytest.fixture(scope="module")
def turns(tmp_path_factory) -> Path:
    """A file of recordings with labels, labels of moments and a context."""
    path = tmp_path_factory.mktemp("recordings") / "turns.npz"
    save_recordings(path, turning(30))
    return path


@pytest.fixture(scope="module")
def trained(turns, tmp_path_factory) -> Path:
    """The folder of a run of CPC that was evaluated in full."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    pretrain(tiny_cpc(*_on(turns), "--probe_every=1", "--log_every=1", f"--workdir={workdir}"))
    return workdir


def _on(path: Path) -> list[str]:
    return ["--dataset=npz", f"--data_dir={path}"]


def test_a_run_leaves_a_folder(trained):
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        *("flags.txt", "preprocessing.json", "metrics.jsonl", "checkpoints", "tensorboard"),
        *("evaluation.json", "history.png", "training.png", "spectrum.png"),
        *("map.png", "moments.png"),
    }
    for name in names:
        if name.endswith(".png"):
            assert_picture(trained / name)
    records = read_records(trained / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, records[-1]["step"] + 1))
    assert {"loss", "bound", "accuracy_1", "accuracy_2", "candidates", "epoch"} <= set(records[0])
    assert {"knn", "linear", "effective_rank"} <= set(records[-1])
    figures = json.loads((trained / "evaluation.json").read_text())
    assert list(figures["accuracy"]) == ["cpc", "untrained encoder", "raw features"]
    assert figures["step"] == figures["total_steps"] == records[-1]["step"]
    assert load_recording_encoder(trained).step == figures["step"]


def test_what_is_trained_already_is_evaluated_again(trained, turns, capsys):
    """With other looks, which change nothing that is trained."""
    table = pretrain(tiny_cpc(*_on(turns), "--evaluate=quick", f"--workdir={trained}"))
    assert table.startswith(f"pictures and figures: {trained}\nstep ")
    assert "trained already, to step " in capsys.readouterr().err


def test_evaluate_shows_what_pretrain_did(trained, tmp_path, capsys):
    figures = json.loads((trained / "evaluation.json").read_text())
    values = script_values(
        evaluate, f"--workdir={trained}", "--evaluate=quick", f"--output={tmp_path}"
    )
    encoder, _ = evaluate.load_noted(trained, load_recording_encoder)
    evaluate.evaluate_recordings(encoder, trained, values)
    again = json.loads((tmp_path / "evaluation.json").read_text())
    for name in ("knn", "linear_all", "moments"):
        assert again["accuracy"]["cpc"][name] == pytest.approx(
            figures["accuracy"]["cpc"][name], abs=0.02
        )
    assert again["accuracy"]["untrained encoder"]["knn"] == pytest.approx(
        figures["accuracy"]["untrained encoder"]["knn"], abs=0.02
    )
    out = capsys.readouterr().out
    assert out.startswith(f"pictures and figures: {tmp_path}\n")
    assert (tmp_path / "training.png").is_file()


def test_evaluate_notes_other_recordings_and_refuses_those_of_other_channels(
    trained, tmp_path, capsys
):
    other = turning(30, seed=1)
    save_recordings(tmp_path / "other.npz", other)
    encoder = load_recording_encoder(trained)
    flags = [f"--workdir={trained}", "--evaluate=quick", f"--output={tmp_path}/out"]
    values = script_values(evaluate, *flags, f"--data_dir={tmp_path}/other.npz")
    evaluate.evaluate_recordings(encoder, trained, values)
    assert "the recordings in other are not those that the run was trained" in (
        capsys.readouterr().err
    )
    np.savez(tmp_path / "one.npz", signal=other.signal[:, :1], lengths=other.lengths)
    values = script_values(evaluate, *flags, f"--data_dir={tmp_path}/one.npz")
    with (
        pytest.raises(RunError, match=r"--data_dir=.*one.npz has 1 channels, and the encoder take"),
        plain_errors(values),
    ):
        evaluate.evaluate_recordings(encoder, trained, values)
    values = script_values(evaluate, *flags, "--supervised")
    with (
        pytest.raises(RunError, match="--supervised=True is set, and is not read of a run on rec"),
        plain_errors(values),
    ):
        evaluate.evaluate_recordings(encoder, trained, values)


@pytest.mark.parametrize(
    ("command", "flags", "argv"),
    [
        (embed, ["--workdir=RUN"], ["embed"]),
        (export, [], ["export", "RUN", "out"]),
        (finetune, ["--init_from=RUN"], ["finetune"]),
        (neighbors, ["--workdir=RUN", "--query=one.png"], ["neighbors"]),
    ],
    ids=lambda of: getattr(of, "__name__", ""),
)
def test_commands_on_images_say_what_to_call(trained, monkeypatch, command, flags, argv):
    values = script_values(command, *(flag.replace("RUN", str(trained)) for flag in flags))
    monkeypatch.setattr(command.flags, "FLAGS", values)
    wanted = (
        "^the method cpc is trained on recordings over time, and this is for images: `alphacl "
        "evaluate` looks at such a run, and load_recording_encoder loads it$"
    )
    with pytest.raises(RunError, match=wanted):
        command.main([str(trained) if word == "RUN" else word for word in argv])


def test_a_folder_of_the_other_kind_is_refused(trained, turns, tmp_path):
    with pytest.raises(
        RunError, match=r"other flags: .*--method is 'cpc' there and 'contrastive' here"
    ):
        pretrain(make_values("--epochs=1", f"--workdir={trained}"))
    (tmp_path / "flags.txt").write_text("--method=contrastive\n")
    with pytest.raises(RunError, match="--method is 'contrastive' there and 'cpc' here"):
        pretrain(tiny_cpc(*_on(turns), f"--workdir={tmp_path}"))


@pytest.fixture
def no_training(monkeypatch):
    """For flags that must be refused before the first step."""

    def never(*arguments, **options):
        raise AssertionError("it went on to train")

    monkeypatch.setattr(train_run, "train", never)


@pytest.mark.parametrize(
    ("method", "flags", "message"),
    [
        ("cpc", "--window=40", "--window=40 is longer than all recordings, of which the longest"),
        ("cpc", "--prediction_steps=8", "--prediction_steps=8 are too many: of a window of 8 mom"),
        ("cpc", "--dataset=digits", "--dataset=digits is not known. Known are japanese_vowels"),
        ("cpc", "--data_dir=/no/where", "--data_dir=/no/where does not exist"),
        ("cpc", "--rate=8000", "--rate=8000 is no option of the source 'npz', which has none"),
        ("cebra", "--held_out=0.01", "--held_out=0.01 parts none of 30 recordings, of which the l"),
        ("cpc", "--preview=x.png", "--preview is set, and shows how images are augmented: recor"),
        ("cpc", "--supervised", "--supervised=True is set, and the method cpc does not read it"),
        ("cpc", "--batch_size=1", "--batch_size=1 is out of range; it must be a finite number >="),
        ("cpc", "--negatives=same_view", "--negatives=same_view is unknown. Did you mean same? It"),
        ("cebra", "--receptive_field=7", "--receptive_field=7 must be one of 1, 5, 10, 36"),
        ("cebra", "--time_offset=40", "--time_offset=40 leaves no moment with a whole window of"),
        ("cebra", "--output_dim=0", "--output_dim=0 is out of range"),
        ("cebra", "--spread=2", "--spread=2.0 is set, and only the positives gaussian read it"),
        ("cebra", "--window=8", "--window=8 is set, and the method cebra does not read it"),
    ],
)
def test_bad_flags_are_named(turns, tmp_path, no_training, method, flags, message):
    make = {"cpc": tiny_cpc, "cebra": tiny_cebra}[method]
    with pytest.raises(RunError, match=f"^{re.escape(message)}"):
        pretrain(make(*_on(turns), f"--workdir={tmp_path}/run", *flags.split()))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_other_recordings_are_refused_and_allowed(tmp_path, capsys):
    path, workdir = tmp_path / "turns.npz", tmp_path / "run"
    save_recordings(path, turning(30))
    flags = [*_on(path), "--evaluate=none", f"--workdir={workdir}"]
    pretrain(tiny_cpc(*flags))
    before = load_recording_encoder(workdir)
    save_recordings(path, turning(30, seed=1))
    with pytest.raises(
        RunError,
        match=r"was trained on other recordings: as many recordings and moments, but not the same "
        r"ones by what they hold\. .*--allow_changed_data",
    ):
        pretrain(tiny_cpc(*flags))
    pretrain(tiny_cpc(*flags, "--epochs=3", "--allow_changed_data"))
    assert "and with the mean and deviation of the channels of those that it began with" in (
        capsys.readouterr().err
    )
    after = load_recording_encoder(workdir)
    assert after.step > before.step
    assert after.description.mean == before.description.mean
    assert after.description.fingerprint != before.description.fingerprint
    assert len(after.description.data_changes) == 1


@pytest.mark.slow
def test_cebra_leaves_embeddings(turns, tmp_path):
    workdir = tmp_path / "run"
    flags = ["--positives=label", "--prior=uniform", "--hybrid", "--min_temperature=0.1"]
    table = pretrain(tiny_cebra(*_on(turns), *flags, f"--workdir={workdir}"))
    assert "held-out moments, by kNN" in table
    assert "PCA of window means" in table
    for name in ("embeddings.png", "training.png", "map.png"):
        assert_picture(workdir / name)
    encoder = load_recording_encoder(workdir)
    assert encoder(turning(1).of(0)).shape == (24, 3)
    assert encoder.params["temperature"]["log"] != 0


@pytest.mark.slow
@pytest.mark.parametrize("seeds_as", ["vmap", "sequential"])
def test_several_seeds_are_runs_of_their_own(turns, tmp_path, seeds_as):
    together = tmp_path / "together"
    flags = [*_on(turns), "--evaluate=quick"]
    table = pretrain(
        tiny_cpc(*flags, "--num_seeds=2", f"--seeds_as={seeds_as}", f"--workdir={together}")
    )
    assert "mean ± standard deviation over 2 seeds, 0 to 1" in table
    assert "held-out windows: picked out of 36" in table  # of six test recordings
    assert json.loads((together / "seeds.json").read_text())["over_seeds"]["accuracy"]["cpc"]
    alone = tmp_path / "alone"
    pretrain(tiny_cpc(*flags, "--seed=1", f"--workdir={alone}"))
    own, member = (load_recording_encoder(folder) for folder in (alone, together / "seed-1"))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), member.params, own.params
    )
    with pytest.raises(RunError, match="holds 2 runs, one per seed: give one of them"):
        load_recording_encoder(together)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tiny", "more"),
    [(TINY_CPC, ["--epochs=40"]), (TINY_CEBRA, ["--epochs=30", "--positives=gaussian"])],
    ids=["cpc", "cebra"],
)
def test_killed_again_and_again_a_run_ends_bitwise_the_same(turns, tmp_path, tiny, more):
    arguments = [*tiny, *more, *_on(turns), "--save_every=5", "--log_every=4", "--evaluate=quick"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for _ in range(3):
        process = start("pretrain", *arguments, f"--workdir={killed}")
        before = (saved_steps(killed) or [0])[-1]
        deadline = time.monotonic() + 240
        while (saved_steps(killed) or [0])[-1] <= before:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    for workdir in (whole, killed):
        process = start("pretrain", *arguments, f"--workdir={workdir}")
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "pictures and figures" in out
    assert_same_recording_end(whole, killed)
    lines = [(workdir / "metrics.jsonl").read_text().splitlines() for workdir in (whole, killed)]
    steps = [[json.loads(line)["step"] for line in part] for part in lines]
    assert steps[0] == steps[1]
    figures = [json.loads((of / "evaluation.json").read_text()) for of in (whole, killed)]
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(turns, tmp_path):
    arguments = [*TINY_CPC, *_on(turns), "--epochs=400", "--evaluate=none", f"--workdir={tmp_path}"]
    process = start("pretrain", *arguments)
    deadline = time.monotonic() + 240
    while not saved_steps(tmp_path):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert re.search(r"SIGTERM came: step \d+ of \d+ is saved; the same command resumes there", err)


@pytest.mark.slow
def test_eight_devices_of_a_process_are_one(turns, tmp_path):
    arguments = [*TINY_CPC, *_on(turns), "--optimizer=sgd", "--learning_rate=0.1"]
    for devices in (1, 8):
        process = start(
            "pretrain",
            *[*arguments, "--evaluate=none", f"--workdir={tmp_path}/{devices}"],
            env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        )
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert f"steps on {devices} cpu device" in err
    one, eight = (load_recording_encoder(tmp_path / str(devices)) for devices in (1, 8))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), one.params, eight.params
    )


@pytest.mark.slow
def test_speakers_of_the_japanese_vowels(tmp_path):
    """Published recordings, of nine speakers: what is learned tells them apart."""
    pytest.importorskip("aeon")
    flags = ["--method=cpc", "--epochs=20", "--evaluate=quick", f"--workdir={tmp_path}"]
    table = pretrain(make_values(*flags))
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    rows = figures["accuracy"]
    assert rows["cpc"]["linear_all"] > 0.9
    assert rows["cpc"]["knn"] > 0.85
    windows = figures["held_out_windows"]
    assert windows["cpc"]["bound"] > windows["untrained encoder"]["bound"] + 2
    assert "for tests" not in table
