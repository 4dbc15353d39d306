"""The benchmark of folders: our side, tiny, and how the sides are set beside each other."""

import json

import numpy as np
import pytest
from PIL import Image

from alphacl_jax.errors import RunError
from experiments.benchmarks import benchmarking, folders
from tests.tiny_runs import script_values

TINY = ("--images=20", "--sides=16,24", "--sizes=8", "--batch=4", "--phases=1", "--seconds=0.01")


@pytest.mark.slow
def test_our_side_is_timed_from_files_to_batches(tmp_path, capsys):
    path = tmp_path / "folders.json"
    folders.run(script_values(folders, *TINY, "--workers=2", "--peers=", f"--json={path}"))
    report = json.loads(path.read_text())
    (found,) = report["results"]
    rates = found["images_per_second"]["ours"]
    assert 0 < rates["low"] <= rates["median"] <= rates["high"]
    assert report["aims"] == []
    assert "20 JPEGs of 16 to 24 px" in capsys.readouterr().out


def test_the_fastest_form_and_the_usual_one_are_the_peers(monkeypatch, tmp_path, capsys):
    rates = {"ours": 300.0, "Pillow": 200.0, "Pillow, reduced": 250.0, "decode_jpeg": 400.0}

    def answer(function, make, *arguments):
        return [rates[make.args[0] if make.args else "ours"]]

    monkeypatch.setattr(benchmarking, "alone", answer)
    monkeypatch.setattr(benchmarking, "require_installed", lambda packages: None)
    path = tmp_path / "folders.json"
    folders.run(script_values(folders, *TINY, "--workers=2", f"--json={path}"))
    assert [
        (aim["name"], aim["value"], aim["met"]) for aim in json.loads(path.read_text())["aims"]
    ] == [
        ("8 px, workers: 2: ours / ImageFolder as it comes", 1.5, True),
        ("8 px, workers: 2: ours / ImageFolder at its fastest (decode_jpeg)", 0.75, False),
    ]
    assert "0.75x" in capsys.readouterr().out


def test_the_files_made_are_jpegs_of_the_sizes_asked_for_with_the_spectrum_of_photographs(tmp_path):
    folders.make_folder(tmp_path, 12, (100, 130))
    files = sorted((tmp_path / "train").rglob("*.jpg"))
    assert len(files) == 12
    assert len({file.parent for file in files}) == 10
    for file in files:
        with Image.open(file) as image:
            assert image.format == "JPEG"
            assert all(100 <= side <= 130 for side in image.size)
            grey = np.asarray(image.convert("L"), float)[:96, :96]
        power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
        assert power[1:4, 1:4].mean() > 20 * power[16:24, 16:24].mean()


def test_a_stretch_counts_the_images_of_its_batches(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(folders.time, "perf_counter", lambda: float(next(clock)))
    rates = folders.time_stretches(lambda: lambda: None, warm_up=3, batch=8, seconds=10.0)
    assert rates == [8.0] * 5  # a batch of 8 each second of this clock


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--sides=300", "--sides=300: give the least and the most"),
        ("--sides=30,20", "--sides=30,20: give the least and the most"),
        ("--sizes=large", "--sizes=large: whole numbers"),
        ("--images=9", "--images=9 are fewer than a batch of 64"),
        ("--peers=keras", "--peers=keras is unknown"),
    ],
)
def test_what_is_refused(argument, message):
    with pytest.raises(RunError, match=message):
        folders.run(script_values(folders, argument))
