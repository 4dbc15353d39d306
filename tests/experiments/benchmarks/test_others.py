"""The benchmarks of training, augmentation and chunks of a batch: our side, tiny."""

import dataclasses
import json

import pytest

from alphacl_jax.errors import RunError
from alphacl_jax.runs.settings import AugmentationSettings
from experiments.benchmarks import augment as benchmark_augment
from experiments.benchmarks import benchmarking, train_sides
from experiments.benchmarks import micro_batch as benchmark_micro_batch
from experiments.benchmarks import train as benchmark_train
from experiments.benchmarks.train_sides import Case
from tests.tiny_runs import measure_here, script_values


class TinyCase(Case):
    """Without augmentation, which takes its time to compile."""

    def settings(self, data_dir, log_every, dtype="float32"):
        settings = super().settings(data_dir, log_every, dtype)
        return dataclasses.replace(
            settings,
            augmentation=AugmentationSettings(augmentation="none"),
            model=dataclasses.replace(settings.model, projector_hidden=4, projector_dim=2),
        )


@pytest.mark.slow
def test_training_is_timed_with_the_parts_of_a_step(monkeypatch, flat_folder, tmp_path, capsys):
    case = TinyCase("small", (1,), (2,), 4, 1.3)
    monkeypatch.setitem(benchmark_train.CASES, "tiny", case)
    monkeypatch.setattr(benchmarking, "has_bfloat16", lambda: True)
    # In this process: fresh ones would each compile anew.
    monkeypatch.setattr(benchmarking, "alone", lambda function, *arguments: function(*arguments))
    path = tmp_path / "train.json"
    arguments = ["--cases=tiny", "--peers=", f"--data_dir={flat_folder}", "--steps=6"]
    values = script_values(
        benchmark_train, *arguments, "--log_every=2", "--phases=1", "--profile", f"--json={path}"
    )
    benchmark_train.run(values)
    report = json.loads(path.read_text())
    (found,) = report["results"]
    assert list(found["sides"]) == ["ours, float32", "ours, bfloat16"]
    for side in found["sides"].values():
        assert len(side["rates"]) == 2
        assert all(rate > 0 for rate in side["rates"])
    assert set(found["milliseconds"]) == {
        *("model", "augmentation", "loss", "optimiser", "data", "step", "loop")
    }
    assert [aim["name"] for aim in report["aims"]] == [
        "2, batch 4: share of the step outside the model"
    ]
    shares = [share for _, _, share in found["profile"]]
    assert shares == sorted(shares, reverse=True)
    assert any("conv_general_dilated" in name for name, _, _ in found["profile"])
    shown = capsys.readouterr().out
    assert "ours" in shown
    assert "of our step, ms: model" in shown


def test_training_is_judged_in_float32_beside_the_fastest_number_of_workers(monkeypatch, capsys):
    seen = []
    speeds = {
        (train_sides.train_ours, "float32"): 250.0,
        (train_sides.train_ours, "bfloat16"): 100.0,
        (train_sides.train_peer, "float32", 0): 150.0,
        (train_sides.train_peer, "float32", 2): 200.0,
        (train_sides.train_peer, "bfloat16", 0): 400.0,
        (train_sides.train_peer, "bfloat16", 2): 300.0,
    }

    def answer(function, case, data_dir, *arguments):
        if function is train_sides.step_parts:
            return dict.fromkeys(("augmentation", "loss", "optimiser", "data"), 1.0) | {
                "model": 90.0, "step": 100.0
            }  # fmt: skip
        seen.append((function, *arguments))
        rate = speeds[(function, *arguments[2:])]
        return {"rates": [rate], "parameters": 7, "peak_bytes": None}

    monkeypatch.setattr(benchmarking, "alone", answer)
    monkeypatch.setattr(benchmarking, "has_bfloat16", lambda: True)
    case = Case("small", (1,), (2,), 4, 1.3)
    values = script_values(benchmark_train, "--workers=0,2", "--phases=1")
    found = benchmark_train.measure_case(case, "unread", values)
    assert [arguments[3:] for arguments in seen[4:]] == [
        ("float32",), ("float32", 2), ("bfloat16",), ("bfloat16", 0)
    ]  # fmt: skip
    judged = [str(aim) for aim in benchmark_train.aims(case, found)]
    assert judged[0] == "2, batch 4: ours / lightly, float32: 1.25 (aim >= 1.3: NOT met)"
    benchmark_train.show(found)
    rows = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["ours, float32"][-4:] == ["250", "n/a", "1.25", "0.62"]
    assert rows["lightly, bfloat16, 0 workers"][-4:] == ["400", "n/a", "2.00", "1.00"]


def test_a_network_that_differs_is_refused(monkeypatch):
    parameters = {train_sides.train_ours: 7, train_sides.train_peer: 8}
    monkeypatch.setattr(
        benchmarking,
        "alone",
        lambda function, *arguments: {
            "rates": [1.0], "parameters": parameters[function], "peak_bytes": None
        },
    )  # fmt: skip
    values = script_values(benchmark_train, "--phases=1", "--nobfloat16")
    with pytest.raises(RunError, match=r"networks differ.*'ours, float32': 7, 'lightly, float32'"):
        benchmark_train.measure_case(Case("small", (1,), (2,), 4, 1.3), "unread", values)


def test_the_larger_figure_for_the_work_outside_the_model_counts():
    parts = {"augmentation": 5.0, "loss": 2.0, "optimiser": 1.0, "data": 1.0, "step": 100.0}
    assert benchmark_train.outside({**parts, "model": 80.0}) == 0.2
    assert benchmark_train.outside({**parts, "model": 120.0}) == 0.09


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases=vgg"], "--cases=vgg is unknown; use some of small16"),
        (["--peers=keras"], "--peers=keras is unknown; use some of lightly"),
        (["--workers=many"], "--workers=many: give whole numbers >= 0"),
        (["--peers=", "--images=100"], "--images=100 are fewer than a batch of 256"),
    ],
)
def test_what_training_refuses(arguments, message):
    with pytest.raises(RunError, match=message):
        benchmark_train.run(script_values(benchmark_train, *arguments))


def test_steps_must_make_two_stretches(tmp_path):
    values = script_values(benchmark_train, "--peers=", "--steps=3", "--log_every=2")
    with pytest.raises(RunError, match="--steps=3 must be twice --log_every=2"):
        benchmark_train.measure_case(Case("small", (1,), (2,), 4, 1.3), str(tmp_path), values)


@pytest.mark.parametrize("script", [benchmark_train, benchmark_augment])
def test_a_missing_peer_is_named(monkeypatch, script):
    monkeypatch.setattr(benchmarking, "_version", lambda package: None)
    with pytest.raises(RunError, match=r"torch, torchvision.* not installed.*'\.\[bench\]'"):
        script.run(script_values(script))


def test_augmentation_is_set_beside_the_fastest_form(monkeypatch, tmp_path, capsys):
    peers = {"v1, PIL": (10.0, 2 * 10**6), "v2, tensor": (20.0, None)}
    answers = {benchmark_augment.time_torchvision: peers, benchmark_augment.time_ours: (300.0, 1)}
    monkeypatch.setattr(benchmarking, "alone", lambda function, *arguments: answers[function])
    monkeypatch.setattr(benchmarking, "require_installed", lambda packages: None)
    path = tmp_path / "augment.json"
    benchmark_augment.run(script_values(benchmark_augment, "--sizes=32", f"--json={path}"))
    report = json.loads(path.read_text())
    assert report["results"][0]["peer"] == "v2, tensor"
    assert report["results"][0]["ratio"] == 15.0
    assert report["aims"][0]["met"]
    shown = capsys.readouterr().out
    assert "torchvision v2, tensor (the peer)" in shown
    assert "30.0x" in shown


def test_the_rate_is_that_of_views_not_of_calls():
    calls = []

    def work(step):
        calls.append(step)
        sum(range(20_000))

    speed = benchmark_augment.rate(work, 10, 0.05)
    assert calls == list(range(len(calls)))
    assert 0.3 < speed * 0.05 / (10 * len(calls)) < 3


@pytest.mark.parametrize(
    ("argument", "message"),
    [("--sizes=large", "--sizes=large: whole numbers"), ("--peers=keras", "--peers=keras is unk")],
)
def test_what_augmentation_refuses(argument, message):
    with pytest.raises(RunError, match=message):
        benchmark_augment.run(script_values(benchmark_augment, argument))


@pytest.mark.slow
def test_a_batch_at_once_and_in_chunks_are_timed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmarking, "measure_in_turn", measure_here)
    monkeypatch.setattr(benchmarking, "alone", lambda function, *arguments: function(*arguments))
    path = tmp_path / "micro_batch.json"
    arguments = ["--batch_sizes=4,8", "--micro_batches=2,4", "--plain_up_to=4", "--image_size=8"]
    values = script_values(benchmark_micro_batch, *arguments, f"--json={path}")
    benchmark_micro_batch.run(values)
    results = json.loads(path.read_text())["results"]
    assert [(result["batch_size"], result["form"]) for result in results] == [
        (4, "at once"), (4, "chunks of 2"), (8, "chunks of 2"), (8, "chunks of 4"),
    ]  # fmt: skip
    assert all(result["seconds_per_image"] > 0 for result in results)
    assert "ms per image" in capsys.readouterr().out


@pytest.mark.parametrize("argument", ["--batch_sizes=8,many", "--micro_batches=0"])
def test_batch_sizes_are_numbers(argument):
    values = script_values(benchmark_micro_batch, argument)
    with pytest.raises(RunError, match=f"{argument} must be whole numbers >= 1"):
        benchmark_micro_batch.run(values)


def test_the_peer_s_network_has_the_parameters_of_ours():
    pytest.importorskip("lightly")
    from experiments.benchmarks import torch_simclr

    case = benchmark_train.CASES["small16"]
    theirs = torch_simclr.simclr_network(case.stage_sizes, case.widths, 256, 128)
    counted = sum(p.numel() for p in theirs.parameters())
    assert case.settings("unread", 1).model.widths == (16, 32, 64)
    assert (
        counted
        == 3 * 9 * 16
        + 2 * 16
        + 2 * (9 * 16**2 + 2 * 16)
        + sum(9 * a * b + 9 * b * b + a * b + 6 * b for a, b in ((16, 32), (32, 64)))
        + (64 + 1) * 256
        + (256 + 1) * 128
    )
