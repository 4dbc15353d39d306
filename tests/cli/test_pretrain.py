"""The pretrain script in this process: each kind of data, its checks, and what it leaves behind."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from alphacl_jax.cli.pretrain import pretrain
from alphacl_jax.cli.start import plain_errors
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs import load_encoder, pretraining, train_run
from alphacl_jax.training import mesh
from tests.tiny_runs import TINY, TRAIN_IMAGES, assert_picture, make_values, tiny_values


@pytest.fixture
def no_training(monkeypatch):
    """For flags that must be refused before the first step."""

    def never(*arguments, **options):
        raise AssertionError("it went on to train")

    monkeypatch.setattr(train_run, "train", never)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--temperature=0", "--temperature=0 is out of range; it must be a finite number > 0"),
        ("--power=1", "--power=1 is out of range; it must be a finite number > 1"),
        ("--loss=alpha_inverse --gamma=1", "--gamma=1 is out of range; .* number > 1"),
        ("--loss=sigmoid --sigmoid_c=0", "--sigmoid_c=0 is out of range"),
        ("--block_size=0", "--block_size=0 must be a whole number >= 1, or auto"),
        ("--block_size=x", "--block_size=x must be a whole number >= 1, or auto"),
        ("--widths=x", "--widths=x must be whole numbers >= 1, such as 32,64,128"),
        ("--widths=4,0", "--widths=4,0 must be whole numbers >= 1"),
        ("--widths=", "--widths= must be whole numbers >= 1"),
        ("--stem=large", "--stem=large needs the encoder resnet18, resnet34 or resnet50"),
        ("--encoder=resnet18", "--widths=4 is set, and only runs with the encoder 'small' read it"),
        ("--batch_size=2000", "1297 images are fewer than one batch of 2000. Use a smaller batch"),
        ("--dataset=nosuchset", "--dataset=nosuchset is not known. Known are digits, cifar10"),
        (
            "--dataset=folder",
            "--data_dir must be given: .* needs data_dir",
        ),
        ("--dataset=folder --data_dir=/no/where", "--data_dir=/no/where does not exist"),
        (
            "--warmup_epochs=2",
            "--warmup_epochs=2 is part of the 2 epochs and must be less",
        ),
        ("--learning_rate=0", "--learning_rate=0 is out of range; it must be a finite number > 0"),
        ("--weight_decay=-1", "--weight_decay=-1 is out of range; it must be a finite number >= 0"),
        ("--optimizer=sgd --momentum=1", "--momentum=1 is out of range; it must be .* < 1"),
        ("--momentum=0.5", "--momentum=0.5 is set, and only the optimizers sgd and lars read it"),
        ("--learning_rate=1e39", "--learning_rate=1e\\+39 is no number of float32, which holds"),
        ("--clip_norm=0", "--clip_norm=0 is out of range; it must be a finite number > 0"),
        ("--augmentation=foo", "--augmentation=foo is no augmentation policy: choose from simclr"),
        (
            "--second_view_overrides=cutout_prob=x",
            "--second_view_overrides=cutout_prob=x cannot be used: .* one number is needed",
        ),
        ("--augmentation_overrides=cutout_prob=x", "cutout_prob=x: one number is needed"),
        ("--workdir=/proc/none", "the run folder /proc/none cannot be made"),
    ],
)
def test_what_cannot_be_run_is_refused_by_flag(no_training, tmp_path, flags, message):
    with pytest.raises(RunError, match=message) as error:
        pretrain(tiny_values(f"--workdir={tmp_path}/run", *flags.split()))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_an_argument_that_is_a_flag_is_shown_as_one_and_nothing_else_is():
    for error, shown in (
        (ArgumentError("data_dir", "/x/seed=3", "is bad"), "--data_dir=/x/seed=3 is bad"),
        (ArgumentError("c", 0, "is out of range"), "--sigmoid_c=0 is out of range"),
        (ArgumentError("some_file", "x", "is bad"), "some_file=x is bad"),
        (ValueError("data_dir=/x and seed=3"), "data_dir=/x and seed=3"),
    ):
        with pytest.raises(RunError, match=f"^{re.escape(shown)}$"), plain_errors(make_values()):
            raise error


def test_a_folder_of_another_run_is_refused(no_training, tmp_path):
    workdir = f"--workdir={tmp_path}/run"
    with pytest.raises(AssertionError, match="it went on to train"):
        pretrain(tiny_values(workdir))
    with pytest.raises(RunError, match="holds a run with other flags: --seed is 0 there and 1 her"):
        pretrain(tiny_values(workdir, "--seed=1"))
    odd = tmp_path / "it's mine"
    shutil.move(tmp_path / "run", odd)
    with pytest.raises(RunError, match="It has saved nothing: delete ") as error:
        pretrain(tiny_values(f"--workdir={odd}", "--seed=1"))
    assert shlex.split(str(error.value).partition("go on by ")[2]) == [
        f"--flagfile={odd}/flags.txt",
        f"--workdir={odd}",
    ]
    (odd / "checkpoints" / "3").mkdir(parents=True)
    with pytest.raises(RunError, match="Use another --workdir, or go on with that run by '--flag"):
        pretrain(tiny_values(f"--workdir={odd}", "--seed=1"))


def test_without_a_workdir_the_run_names_its_own(no_training, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with pytest.raises(AssertionError, match="it went on to train"):
            pretrain(tiny_values())
    (run,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch("digits-alpha_direct-[0-9a-f]{8}", run.name)
    again = make_values(f"--flagfile={run / 'flags.txt'}", f"--workdir={run}")
    with pytest.raises(AssertionError, match="it went on to train"):
        pretrain(again)


def test_a_preview_is_a_picture_and_trains_nothing(no_training, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert pretrain(make_values("--preview=pairs.png")) is None
    assert [p.name for p in tmp_path.iterdir()] == ["pairs.png"]
    assert_picture(tmp_path / "pairs.png")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "augmented pairs: pairs.png"
    assert shown[1].startswith("augmentation: digits")


def test_a_preview_shows_the_second_view_by_its_own_policy(no_training, tmp_path, capsys):
    changes = "--second_view_overrides=affine_prob=0,noise_std=0"
    assert pretrain(make_values(f"--preview={tmp_path / 'pairs.png'}", changes)) is None
    assert_picture(tmp_path / "pairs.png")
    described = capsys.readouterr().out.splitlines()[1]
    assert described.startswith("augmentation: view 1 by digits: affine_prob=1 ")
    assert described.endswith("; view 2 by digits (changed): cutout_prob=0.5 cutout_size=0.35")


def _folder(path: Path) -> list[str]:
    return ["--dataset=folder", f"--data_dir={path}"]


def test_unlabelled_images_are_streamed_and_end_without_probes(flat_folder, tmp_path, capsys):
    workdir = tmp_path / "run"
    values = tiny_values(*_folder(flat_folder), "--memory_limit_mb=0", f"--workdir={workdir}")
    table = pretrain(values)
    assert table is not None
    assert "There are no labels, so no probe was run" in table
    position = next((workdir / "checkpoints" / "6" / "extra").glob("metadata")).read_text()
    assert json.loads(position)["position"]["data"]["kind"] == "streamed"
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    assert evaluation["step"] == 6
    assert "accuracy" not in evaluation
    for name in ("history.png", "spectrum.png", "map.png"):
        assert_picture(workdir / name)
    assert "24 images of 8x8x3" in capsys.readouterr().err
    # The same command again finds nothing left to train, and ends with the same table.
    assert pretrain(values) == table


def test_labels_without_test_images(class_folder, tmp_path):
    table = pretrain(tiny_values(*_folder(class_folder / "train"), f"--workdir={tmp_path}/run"))
    assert table is not None
    assert "There are no test images, so no probe was run" in table


def test_a_tfds_set_is_trained_from_without_tensorflow(tmp_path, monkeypatch):
    features = {
        "image": tfds.features.Image(shape=(8, 8, 3)),
        "label": tfds.features.ClassLabel(names=["bright", "dark"]),
    }

    class TinySquares(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i, pixels in enumerate(TRAIN_IMAGES):
                path = tmp_path / f"{i}.png"
                Image.fromarray(pixels).save(path)
                yield i, {"image": str(path), "label": i % 2}

    data_dir = tmp_path / "tfds"
    TinySquares(data_dir=data_dir).download_and_prepare(file_format="array_record")
    seen = []
    monkeypatch.setattr(
        pretraining, "evaluate_run", lambda run, encoder, *rest: seen.append(encoder)
    )
    data = ["--dataset=tiny_squares", f"--data_dir={data_dir}"]
    pretrain(tiny_values(*data, "--epochs=1", f"--workdir={tmp_path}/run"))
    assert seen[0].step == 3
    records = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert np.isfinite(json.loads(records[-1])["loss"])
    assert "tensorflow" not in sys.modules


def test_too_many_damaged_images_end_a_streamed_run_in_plain_words(flat_folder, tmp_path):
    for i in range(24):
        good = (flat_folder / f"{i:02}.png").read_bytes()
        (tmp_path / f"{i:02}.png").write_bytes(good if i < 4 else good[:60])
    arguments = [*_folder(tmp_path), "--image_size=8", "--memory_limit_mb=0"]
    with pytest.raises(RunError, match="images cannot be read, which leaves fewer than one batch"):
        pretrain(tiny_values(*arguments, f"--workdir={tmp_path}/run"))


def test_changed_data_is_refused_and_gone_on_with_on_request(flat_folder, tmp_path, capsys):
    """Four images are added, so that an epoch is longer; streamed, whose position is of the old."""
    data, workdir = tmp_path / "data", tmp_path / "run"
    shutil.copytree(flat_folder, data)
    arguments = [*_folder(data), "--memory_limit_mb=0", "--evaluate=none", f"--workdir={workdir}"]
    pretrain(tiny_values(*arguments))
    kept = json.loads((workdir / "preprocessing.json").read_text())
    for i in range(8):
        shutil.copy(data / f"{i:02}.png", data / f"new-{i}.png")
    changes = "images 24 then, 32 now"
    with pytest.raises(
        RunError, match=rf"{changes}\. .* To go on with these: .* --allow_changed_da"
    ):
        pretrain(tiny_values(*arguments))
    capsys.readouterr()
    for again in (["--allow_changed_data"], []):
        pretrain(tiny_values(*arguments, *again))
        err = capsys.readouterr().err
        assert (f"goes on with other images ({changes})" in err) == bool(again)
    assert load_encoder(workdir).step == 8
    after = json.loads((workdir / "preprocessing.json").read_text())
    assert after["data_changes"] == [changes]
    assert {name: after[name] for name in ("mean", "std")} == {
        name: kept[name] for name in ("mean", "std")
    }


def test_a_loss_that_is_not_finite_ends_the_run_in_plain_words(flat_folder, tmp_path):
    wild = ["--optimizer=sgd", "--learning_rate=1e30", "--save_every=1", "--epochs=4"]
    with pytest.raises(
        RunError,
        match=r"is (nan|inf) at step \d+; training stopped, .*\(given: --learning_rate=1e\+30, "
        r"--temperature=0\.5, no --clip_norm\)$",
    ):
        pretrain(tiny_values(*_folder(flat_folder), *wild, f"--workdir={tmp_path}/run"))


@pytest.mark.slow
def test_eight_devices_bfloat16_and_no_projector(flat_folder, tmp_path, monkeypatch, capsys):
    one_device = mesh.data_mesh

    def eight_devices(devices=None):
        return one_device(devices or jax.devices())

    monkeypatch.setattr(mesh, "data_mesh", eight_devices)
    with pytest.raises(RunError, match="batch of 12 cannot be split evenly over 8 devices"):
        pretrain(tiny_values("--batch_size=12"))
    monkeypatch.setattr(pretraining, "evaluate_run", lambda run, encoder, *rest: str(encoder.step))
    plain = [a for a in TINY if "projector" not in a]
    values = make_values(
        *plain,
        *_folder(flat_folder),
        "--dtype=bfloat16",
        "--projector_depth=0",
        "--negatives=same_view",
        "--block_size=3",
        f"--workdir={tmp_path}/run",
    )
    assert pretrain(values) == "6"
    assert "6 steps on 8 cpu devices," in capsys.readouterr().err
