"""The range of pixels of more than 8 bits goes with the run, and to whatever images it is given."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from alphacl_jax.cli import embed, evaluate
from alphacl_jax.cli.data_flags import data_settings_of, open_data
from alphacl_jax.cli.embed import parts_of
from alphacl_jax.cli.pretrain import pretrain
from alphacl_jax.data.decoding import MAX_MEGAPIXELS, Decoding
from alphacl_jax.data.folder import open_files
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.runs import OptimizerSettings, RunSettings, load_encoder
from alphacl_jax.runs import pretrain as pretrain_images
from alphacl_jax.runs.any_run import prepare_training
from alphacl_jax.runs.description import Description, write_description
from alphacl_jax.runs.exported import write_export
from alphacl_jax.runs.folder import OtherRunError, claim_workdir
from alphacl_jax.runs.run import open_run
from alphacl_jax.training.mesh import data_mesh
from tests.tiny_runs import script_values, tiny_settings, tiny_values

HIGH = 4095


def _images(root: Path, parts: tuple[str, ...], high: int) -> Path:
    """Bright and dark squares of up to `high` in 16 bits."""
    rng = np.random.default_rng(0)
    for part in parts:
        for name, least in (("bright", high // 2), ("dark", 0)):
            (root / part / name).mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(least, high // 2 + least + 1, (8, 8)).astype(np.uint16)
                pixels[0, 0], pixels[0, 1] = 0, high
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return _images(tmp_path_factory.mktemp("wide"), ("train", "test"), HIGH)


def test_the_measured_range_is_part_of_what_a_run_stores(folder):
    settings = tiny_settings("--dataset=folder", f"--data_dir={folder}", "--pixel_range=auto")
    run = open_run(settings, data_mesh())
    assert run.preprocessing.pixel_range == (0, HIGH)
    description = run.describe(prepare_training(run).batches)
    stored = json.loads(json.dumps(description.to_json()))
    assert stored["pixel_range"] == [0, HIGH]
    assert Description.from_json(stored) == description


def test_a_run_that_goes_on_reads_by_the_range_that_it_began_with(folder, tmp_path):
    settings = tiny_settings("--dataset=folder", f"--data_dir={folder}", "--pixel_range=auto")
    run = open_run(settings, data_mesh())
    begun = run.describe(prepare_training(run).batches)
    write_description(tmp_path, begun)
    wider = _images(tmp_path / "wider", ("train", "test"), 2 * HIGH)
    run = open_run(
        tiny_settings("--dataset=folder", f"--data_dir={wider}", "--pixel_range=auto"), data_mesh()
    )
    training = prepare_training(run)
    changes = begun.changes(replace(run.describe(training.batches), fingerprint=begun.fingerprint))
    assert changes == [f"values of the pixels 0:{HIGH} then, 0:{2 * HIGH} now"]
    run, training = run.as_begun(training, tmp_path)
    assert run.preprocessing == begun.preprocessing
    assert run.dataset.pretrain.source.decoding.pixel_range == (0, HIGH)
    # What is trained on, too: half of the values lie above that range.
    assert np.mean(np.asarray(next(training.batches)["images"]) == 255) > 0.3


def test_arrays_in_a_folder_of_wide_pixels_are_another_run(folder, tmp_path):
    settings = tiny_settings("--dataset=folder", f"--data_dir={folder}", "--pixel_range=auto")
    run = open_run(settings, data_mesh())
    claim_workdir(tmp_path, settings)
    write_description(tmp_path, run.describe(prepare_training(run).batches))
    images = np.zeros((64, 8, 8, 1), np.uint8)
    own = RunSettings(optimizer=OptimizerSettings(batch_size=8))
    with pytest.raises(OtherRunError) as error:
        pretrain_images(images, own, workdir=tmp_path)
    assert error.value.differing["dataset"] == ("folder", "arrays")


class _Encoder:
    """What the commands ask an encoder for before they apply it."""

    def __init__(self, folder: Path, pixel_range: tuple[float, float]):
        arguments = ("--dataset=folder", f"--data_dir={folder}", "--pixel_range=auto")
        self.settings = tiny_settings(*arguments)
        self.preprocessing = Preprocessing((8, 8, 1), (0.5,), (0.2,), pixel_range)
        self.description = SimpleNamespace(fingerprint=None)


@pytest.mark.parametrize("given", [[], ["--max_megapixels=0.5"], ["--memory_limit_mb=7"]])
def test_the_own_data_are_read_by_the_stored_range(folder, given):
    encoder = _Encoder(folder, (0, 1000))
    for script in (evaluate, embed):
        data = data_settings_of(script_values(script, *given), encoder.settings.data)
        dataset = open_data(encoder, data)
        limit = 0.5 if given[:1] == ["--max_megapixels=0.5"] else MAX_MEGAPIXELS
        assert dataset.test.source.decoding == Decoding((0, 1000), limit)
        assert dataset.pixel_range == (0, 1000)
        assert set(parts_of(encoder, data)) == {"train", "test"}


def test_other_data_are_read_by_the_stored_range(folder, tmp_path):
    other = _images(tmp_path / "other", ("",), 1000)
    encoder = _Encoder(folder, (0, HIGH))
    values = script_values(embed, "--dataset=folder", f"--data_dir={other}")
    data = data_settings_of(values, encoder.settings.data)
    split, _ = parts_of(encoder, data)["images"]
    assert split.source.decoding.pixel_range == (0, HIGH)
    assert split.source[0]["image"].max() == round(1000 / HIGH * 255)
    # Or by another range, given or measured.
    for text, highest in (("0:2000", 128), ("auto", 255)):
        data = data_settings_of(
            script_values(
                embed, "--dataset=folder", f"--data_dir={other}", f"--pixel_range={text}"
            ),
            encoder.settings.data,
        )
        assert parts_of(encoder, data)["images"][0].source[0]["image"].max() == highest
    # Sets that have no such files take it without a word.
    digits = data_settings_of(script_values(embed, "--dataset=digits"), encoder.settings.data)
    assert len(open_data(encoder, digits).test.source) == 500


@pytest.mark.slow
def test_run_and_export_give_the_features_of_the_mapped_pixels(folder, tmp_path):
    data = ("--dataset=folder", f"--data_dir={folder}", "--pixel_range=auto", "--epochs=1")
    pretrain(tiny_values(*data, "--evaluate=none", f"--workdir={tmp_path}/run"))
    stored = json.loads((tmp_path / "run" / "preprocessing.json").read_text())
    assert stored["pixel_range"] == [0, HIGH]
    encoder = load_encoder(tmp_path / "run")
    write_export(encoder, tmp_path / "out")
    path = folder / "test" / "bright" / "0.png"
    with Image.open(path) as image:
        mapped = np.rint(np.asarray(image) / HIGH * 255).astype(np.uint8)
    for loaded in (encoder, load_encoder(tmp_path / "out")):
        own = loaded.preprocessing
        source = open_files([path], own.image_shape, own.decoding)
        np.testing.assert_array_equal(source[0]["image"][..., 0], mapped)
        assert loaded([source[0]["image"]]).tobytes() == encoder(mapped[None]).tobytes()
