"""The benchmark of an accelerator: its plan, its table, and all of it in a tiny size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alphacl_jax.errors import RunError
from experiments.benchmarks import (
    accelerator,
    accelerator_parts,
    accelerator_table,
    benchmarking,
    devices,
    kernel_entries,
)
from tests.tiny_runs import ROOT, TEST_IMAGES, TRAIN_IMAGES, script_values

SCRIPT = ROOT / "experiments" / "benchmarks" / "accelerator.sh"
CPU = {"platform": "cpu", "name": "cpu", "count": 1, "memory_bytes": None}
CPU |= {"driver": None, "runtime": "cpu"}
GPU = {"platform": "gpu", "name": "Some Card", "count": 1, "memory_bytes": 60 * 10**9}
GPU |= {"driver": "570.1", "runtime": "PJRT C API cuda 12080"}


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory):
    """Two classes of squares, as train/CLASS/* and test/CLASS/*."""
    folder = tmp_path_factory.mktemp("images")
    for part, images in (("train", TRAIN_IMAGES), ("test", TEST_IMAGES)):
        for i, pixels in enumerate(images):
            path = folder / part / ("bright" if i % 2 == 0 else "dark") / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


@pytest.mark.slow
def test_everything_is_tried_in_a_tiny_size(class_folders, tmp_path):
    report = tmp_path / "accelerator.json"
    arguments = ["--toy", "--minutes=60", f"--json={report}", f"--data_dir={class_folders}"]
    done = subprocess.run(
        [SCRIPT, *arguments],
        env=os.environ | {"PYTHON": sys.executable, "JAX_PLATFORMS": "cpu"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    parts = {part["name"]: part for part in found["parts"]}
    peers = {"lightly", "torch_nt_xent", "torch_alpha_direct"}
    for name, part in parts.items():
        if name in peers and part["problem"]:
            assert "No module named" in part["problem"]
        else:
            assert part["problem"] == "", name
    for objective in ("info_nce", "alpha_direct"):
        dense, blocked = (
            [row["value"] for row in parts[f"ours, {objective}, {form}"]["rows"]]
            for form in ("dense", "block 4")
        )
        assert len(dense) == 2
        np.testing.assert_allclose(dense, blocked, rtol=1e-5)
    for dtype in ("float32", "bfloat16"):
        speed, step = parts[f"small, {dtype}, batch 4"]["rows"]
        assert speed["images_per_second"] > 0
        assert step["model_share"] < 1
    (row,) = parts["CIFAR-10, 5 epochs"]["rows"]
    assert row["epoch"] == 5
    assert 0 <= row["knn"] <= 1
    assert all(name in done.stdout for name in parts)
    assert "values of the losses: at most" in done.stdout


def test_the_script_names_an_interpreter_that_is_not_there():
    done = subprocess.run(
        [SCRIPT], env=os.environ | {"PYTHON": "absent-python"}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: there is no 'absent-python' here; name an interpreter by PYTHON=...\n"
    )


def test_the_script_names_packages_that_are_not_there(tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    bare.chmod(0o755)
    done = subprocess.run(
        [SCRIPT], env=os.environ | {"PYTHON": str(bare)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "cannot load all packages that training needs (ModuleNotFoundError: " in done.stderr
    assert f"where they are missing: pip install -e '{ROOT}[bench]'" in done.stderr


def test_without_an_accelerator_nothing_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "describe", lambda: CPU)
    path = tmp_path / "accelerator.json"
    with pytest.raises(RunError, match=r"JAX sees no accelerator.*jax\[cuda12\].*--toy"):
        accelerator.run(script_values(accelerator, f"--json={path}"))
    assert not path.exists()


@pytest.fixture
def on_a_gpu(monkeypatch):
    """As on a machine with an accelerator, but for the measuring: the parts that were planned."""
    planned = []

    def run_parts(parts, until):
        planned.extend(parts)
        return iter([{"kind": "kernel", "name": "x", "rows": [], "problem": "tried"}])

    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, "")  # so that what is set is taken back
    monkeypatch.setattr(devices, "describe", lambda: GPU)
    monkeypatch.setattr(accelerator, "run_parts", run_parts)
    monkeypatch.setattr(accelerator.train, "synthetic_images", lambda folder, count: str(folder))
    return planned


def test_all_is_planned_on_an_accelerator(on_a_gpu, tmp_path, capsys):
    path = tmp_path / "accelerator.json"
    accelerator.run(script_values(accelerator, f"--json={path}"))
    names = [part.name for part in on_a_gpu]
    assert names == [
        "three products",
        *(
            f"ours, {objective}, {form}"
            for objective in ("info_nce", "alpha_direct")
            for form in ("dense", "block auto", "block 256")
        ),
        *("lightly", "torch_nt_xent", "torch_alpha_direct"),
        *(
            f"{encoder}, {dtype}, batch 256"
            for encoder in ("resnet18", "resnet50")
            for dtype in ("float32", "bfloat16")
        ),
        "CIFAR-10, 5 epochs",
    ]
    peer = on_a_gpu[names.index("lightly")].measure.args[0].args[0]
    assert peer.keywords == {"device": "cuda"}
    report = json.loads(path.read_text())
    assert report["device"] == GPU
    assert [part["problem"] for part in report["parts"]] == ["tried"]
    shown = capsys.readouterr().out
    assert "1 x Some Card (gpu), JAX takes up to 60 GB, driver 570.1, PJRT C API cuda" in shown
    assert "tried" in shown


def test_the_dtypes_reach_the_model(on_a_gpu, tmp_path):
    accelerator.run(script_values(accelerator, f"--json={tmp_path / 'accelerator.json'}"))
    trainings = [part.measure.args[0] for part in on_a_gpu if part.kind == "training"]
    models = [rows.args[0].model for rows in trainings]
    assert [(model.encoder, model.dtype) for model in models] == [
        ("resnet18", "float32"), ("resnet18", "bfloat16"),
        ("resnet50", "float32"), ("resnet50", "bfloat16"),
    ]  # fmt: skip


def test_the_device_is_looked_at_in_another_process(monkeypatch):
    monkeypatch.setattr(benchmarking, "alone", lambda function: function())
    found = devices.describe()
    assert found["platform"] == "cpu"
    assert found["count"] >= 1
    assert devices.line(found) == "no accelerator: JAX runs on the processor"


def test_pytorch_without_cuda_is_named():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises(RunError, match=r"PyTorch .* sees no CUDA device; install its CUDA build"):
        kernel_entries.make_peer("torch_nt_xent", 8, 4, device="cuda")


def test_a_competitor_is_measured_size_by_size():
    def make(size, dim):
        return lambda: (np.float32(size * dim), None)

    rows = list(accelerator_parts.kernel_rows(make, (4, 8), 2, 0.001))
    assert [(row["size"], row["value"]) for row in rows] == [(4, 8.0), (8, 16.0)]
    assert all(row["seconds"] > 0 and row["calls"] >= 1 for row in rows)


def test_cifar_is_found_where_tfds_has_prepared_it(tmp_path, monkeypatch, class_folders):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert accelerator_parts.find_cifar("") == []
    version = tmp_path / "cifar10" / "3.0.2"
    version.mkdir(parents=True)
    assert accelerator_parts.find_cifar("") == []  # not prepared to the end
    (version / "dataset_info.json").write_text("{}")
    wanted = ["--dataset=cifar10", f"--data_dir={tmp_path}"]
    assert accelerator_parts.find_cifar("") == wanted
    assert accelerator_parts.find_cifar(str(tmp_path)) == wanted
    assert accelerator_parts.find_cifar(str(class_folders)) == [
        "--dataset=folder",
        f"--data_dir={class_folders}",
    ]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(RunError, match=rf"--data_dir={tmp_path} holds neither cifar10/VERSION"):
        accelerator_parts.find_cifar(str(tmp_path))


def test_a_run_without_data_is_said_to_be_left_out(tmp_path):
    rows, problem = accelerator_parts.run_cifar([], [], tmp_path, 0.0)
    assert rows == []
    assert problem == "left out: TFDS has no prepared cifar10 here; give --data_dir"


@pytest.mark.parametrize(
    ("raised", "problem"),
    [
        (subprocess.TimeoutExpired("it", 1), "no time left"),
        (None, "error: --data_dir=x is no folder"),
    ],
)
def test_what_a_run_recorded_before_it_ended_is_kept(monkeypatch, tmp_path, raised, problem):
    def started(command, **settings):
        workdir = Path(next(word for word in command if "--workdir=" in word).partition("=")[2])
        workdir.mkdir()
        records = [
            {"step": i, "epoch": i / 2, "loss": 3.0 - i, "images_per_second": 10 * i}
            for i in (1, 2, 3, 4)
        ]
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        if raised:
            raise raised
        return subprocess.CompletedProcess(command, 1, "", f"a bar\n{problem}\n")

    monkeypatch.setattr(subprocess, "run", started)
    (row,), said = accelerator_parts.run_cifar(["--dataset=x"], [], tmp_path / "run", 1e9)
    assert said == problem
    assert row.pop("seconds") >= 0
    assert row == {
        "epoch": 2, "loss": -1.0, "knn": None, "linear": None, "images_per_second": 30,
    }  # fmt: skip


def kernel(name, values, problem=""):
    rows = [
        {"size": size, "seconds": 0.001 * size, "calls": 3, "peak_bytes": 10**6, "value": value}
        for size, value in zip((8, 16), values, strict=False)
    ]
    return {"kind": "kernel", "name": name, "rows": rows, "problem": problem}


def test_the_table_names_what_was_not_measured_and_why():
    training = {"kind": "training", "name": "resnet50", "problem": "no time left"}
    training["rows"] = [{"images_per_second": 1234.5, "peak_bytes": 2 * 10**9}]
    parts = [
        kernel("ours, info_nce, dense", [2.0, 3.0]),
        kernel("ours, info_nce, block 4", [2.0], "out of memory"),
        kernel("lightly", [], "No module named 'lightly'"),
        kernel("torch_nt_xent", [4.0, 6.06]),
        training,
        {"kind": "run", "name": "CIFAR-10", "rows": [], "problem": "left out"},
    ]
    shown = accelerator_table.tables(parts, (8, 16))
    assert [" ".join(line.split()) for line in shown.splitlines() if line] == [
        "value and gradient, ms (peak MB) 2n = 8 2n = 16 not measured",
        "ours, info_nce, dense 8.00 (1) 16.00 (1)",
        "ours, info_nce, block 4 8.00 (1) from 16 on: out of memory",
        "lightly No module named 'lightly'",
        "torch_nt_xent 8.00 (1) 16.00 (1)",
        "values of the losses: at most 1.0e-02 (relative) from ours, dense: torch_nt_xent",
        "training images/s peak MB model's share step, ms model, ms augmentation, ms loss, ms "
        "optimiser, ms data, ms not measured",
        "resnet50 1,234 2,000 no time left",
        "run epochs seconds images/s loss kNN, % linear, % not measured",
        "CIFAR-10 left out",
    ]


def test_a_value_that_is_nan_is_shown_as_the_largest_difference():
    parts = [kernel("ours, alpha_direct, dense", [2.0, 3.0])]
    parts += [kernel("ours, alpha_direct, block 4", [float("nan"), 6.0])]
    shown = accelerator_table.tables(parts, (8, 16))
    assert "at most nan (relative) from ours, dense: ours, alpha_direct, block 4" in shown
    assert "values of" not in accelerator_table.tables(parts[:1], (8, 16))
