"""What a run's processes compare: settings, versions and data, and not the places of these."""

import importlib.metadata
import json
import platform
from types import SimpleNamespace

import jax
import numpy as np
from PIL import Image

from alphacl_jax.runs import train_run
from alphacl_jax.runs.agreement import to_compare
from alphacl_jax.runs.any_run import Training, prepare_training
from alphacl_jax.runs.run import Run, open_run
from alphacl_jax.training.agreement import differing_values
from alphacl_jax.training.mesh import data_mesh
from tests.tiny_runs import tiny_settings


def _opened(*arguments: str) -> tuple[Run, Training]:
    run = open_run(tiny_settings(*arguments), data_mesh(jax.devices()[:1]))
    return run, prepare_training(run)


def _compared(*arguments: str, start=None) -> dict:
    run, training = _opened(*arguments)
    return json.loads(json.dumps(to_compare(run, run.describe(training.batches), start)))


def _folder(root, colour: int, name: str = "a") -> list[str]:
    root.mkdir()
    for i in range(8):
        Image.new("L", (4, 4), colour if i == 5 else 10 * i).save(root / f"{name}{i}.bmp")
    return ["--dataset=folder", f"--data_dir={root}"]


def test_settings_versions_and_options_are_compared():
    one = _compared()
    assert {"seed", "learning_rate", "version of jax", "version of pillow"} <= set(one)
    assert {"code of alphacl_jax", "JAX's jax_enable_x64", "kind of device"} <= set(one)
    assert differing_values([one, _compared()]) == {}
    other = _compared("--seed=1", "--learning_rate=0.5", "--epochs=3", "--loss=mine")
    assert set(differing_values([one, other])) == {"seed", "learning_rate", "epochs", "loss"}


def test_an_option_of_jax_is_compared():
    one = _compared()
    before = jax.config.jax_default_matmul_precision
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        other = _compared()
    finally:
        jax.config.update("jax_default_matmul_precision", before)
    assert set(differing_values([one, other])) == {"JAX's jax_default_matmul_precision"}


def test_own_devices_python_and_what_drives_devices_are_compared(monkeypatch):
    one, version, devices = _compared(), importlib.metadata.version, jax.devices()

    def other_version(name):
        return "13.0" if name == "jax-cuda13-plugin" else version(name)

    def first_is_of_another_host(*_):
        return [SimpleNamespace(platform="gpu", device_kind="another host's"), *devices[1:]]

    run, training = _opened()
    description = run.describe(training.batches)
    monkeypatch.setattr(importlib.metadata, "version", other_version)
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "99", "1"))
    with monkeypatch.context() as patched:
        patched.setattr(jax, "devices", first_is_of_another_host)
        other = to_compare(run, description, None)
    assert set(differing_values([one, other])) == {
        "version of jax-cuda13-plugin",
        "version of Python",
    }
    kinds = [SimpleNamespace(platform="gpu", device_kind="H200")]
    monkeypatch.setattr(jax, "local_devices", lambda: kinds)
    assert to_compare(run, description, None)["kind of device"] == "H200"


def test_data_is_compared_by_what_it_is_and_not_by_where_it_lies(tmp_path):
    one, same, pixel, named = (
        _compared(*_folder(tmp_path / name, colour, prefix))
        for name, colour, prefix in (("1", 50, "a"), ("2", 50, "a"), ("3", 51, "a"), ("4", 50, "b"))
    )
    assert differing_values([one, same]) == {}
    # One pixel value more, in a file of the same name and size.
    differing = differing_values([one, pixel])
    assert "image 5" in differing
    assert all(text.startswith("'a5.bmp, contents ") for text in differing["image 5"])
    assert set(differing) <= {"image 5", "mean of the data", "std of the data"}
    assert {"fingerprint of the data", "image 0"} <= set(differing_values([one, named]))


def test_the_weights_of_another_run_are_compared():
    none, one, other = (_compared(start=start) for start in (None, np.ones(3), np.ones(4)))
    assert set(differing_values([one, other])) == {"weights to start from"}
    assert set(differing_values([none, one])) == {"weights to start from"}


def test_a_run_of_one_process_does_not_look():
    train_run.check_hosts(*_opened())
