"""TFDS: sets prepared here, for real, by builders of the test's own; no network, no TensorFlow."""

import io
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from jax.sharding import AxisType
from PIL import Image

from alphacl_jax.data import batches, sources, tfds_source

RGB = tfds.features.Image(shape=(6, 5, 3))
ANY_SIZE = tfds.features.Image(shape=(None, None, 3))
GREY = tfds.features.Image(shape=(6, 5, 1))
CLASSES = tfds.features.ClassLabel(names=["bar", "dot"])


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


def _examples(count: int, label: int | None = None, shape=(6, 5, 3)) -> list[dict]:
    """Image i is filled with i and has class i % 2, or `label`."""
    return [
        {"image": _png(np.full(shape, i, np.uint8)), "label": i % 2 if label is None else label}
        for i in range(count)
    ]


def _builder(folder: Path, features: dict, splits: dict[str, list[dict]], version: str = "1.0.0"):
    """A TFDS builder named tiny_bars that TFDS has no registered code for."""

    class TinyBars(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            yield from enumerate(splits[split])

    return TinyBars(data_dir=folder)


def _prepare(folder: Path, features: dict, splits: dict[str, list[dict]], **options) -> Path:
    builder = _builder(folder, features, splits, **options)
    builder.download_and_prepare(file_format="array_record")
    return Path(builder.data_path)


SUPERVISED = {"image": RGB, "label": CLASSES}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    _prepare(folder, SUPERVISED, {"train": _examples(20), "test": _examples(6)})
    return folder


def test_a_prepared_set_is_read_without_tensorflow(tiny):
    data = sources.load("tiny_bars", tiny)
    assert data.class_names == ("bar", "dot")
    assert data.image_shape == (6, 5, 3)
    assert data.pretrain is data.train
    assert data.train.labelled
    for split, count in ((data.train, 20), (data.test, 6)):
        pixels, labels = sources.to_arrays(split, 10**6)
        assert sorted(pixels[:, 3, 2, 1].tolist()) == list(range(count))
        assert (labels == pixels[:, 0, 0, 0] % 2).all()
    np.testing.assert_allclose(data.mean, np.mean(range(20)) / 255, rtol=1e-6)
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("limit", [10**6, 0])
def test_a_prepared_set_can_be_trained_from(tiny, limit):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    data = sources.load("tiny_bars:1.0.0", str(tiny), image_size=4)
    iterator = batches.open_batches(data.pretrain, 8, mesh, 0, limit)
    batch = next(iterator)
    assert batch["images"].shape == (8, 4, 4, 3)
    np.testing.assert_array_equal(batch["images"][:, 0, 0, 0] % 2, batch["labels"])


def test_grey_images_and_a_newer_version_on_disk_than_none(tmp_path):
    features = {"image": GREY, "label": CLASSES}
    examples = {"train": _examples(3, shape=(6, 5, 1))}
    _prepare(tmp_path, features, examples)
    _prepare(tmp_path, features, {"train": examples["train"][:2]}, version="1.1.0")
    data = sources.load("tiny_bars", tmp_path)
    assert data.image_shape == (6, 5, 1)
    assert data.test is None
    assert len(data.train.source) == 2


def test_an_older_version_than_the_code_is_found_on_disk(tmp_path, monkeypatch):
    _prepare(tmp_path, SUPERVISED, {"train": _examples(3)})
    newer = _builder(tmp_path, SUPERVISED, {}, version="2.0.0")
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: newer)
    assert len(sources.load("tiny_bars", tmp_path).train.source) == 3


def test_a_set_is_brought_to_the_shape_of_an_encoder(tiny):
    data = sources.load("tiny_bars", tiny, image_shape=(4, 7, 1))
    assert data.image_shape == (4, 7, 1)
    pixels, labels = sources.to_arrays(data.test, 10**6)
    assert pixels.shape == (6, 4, 7, 1)
    assert (labels == pixels[:, 0, 0, 0] % 2).all()
    assert sources.load("tiny_bars", tiny, image_shape=(4, 7, None)).image_shape == (4, 7, 3)
    assert next(sources.in_order_named(data.test, 3, 0))[2] is None


def test_unlabelled_images_are_pretrained_on_too(tmp_path):
    parts = {"train": _examples(4), "unlabelled": _examples(7, label=-1), "test": _examples(2)}
    _prepare(tmp_path, SUPERVISED, parts)
    data = sources.load("tiny_bars", tmp_path)
    assert not data.pretrain.labelled
    assert data.train.labelled
    assert len(data.train.source) == 4
    labels = sources.to_arrays(data.pretrain, 10**6)[1]
    assert sorted(labels.tolist()) == [-1] * 7 + [0, 0, 1, 1]


def test_validation_stands_for_a_test_split_without_labels(tmp_path):
    parts = {"train": _examples(4), "validation": _examples(3), "test": _examples(2, label=-1)}
    _prepare(tmp_path, SUPERVISED, parts)
    assert len(sources.load("tiny_bars", tmp_path).test.source) == 3


def test_sizes_that_vary(tmp_path):
    features = {"image": ANY_SIZE, "label": CLASSES}
    _prepare(tmp_path, features, {"train": _examples(4)})
    assert sources.load("tiny_bars", tmp_path).image_shape == (6, 5, 3)
    mixed = tmp_path / "mixed"
    _prepare(mixed, features, {"train": _examples(4) + _examples(2, shape=(8, 9, 3))})
    with pytest.raises(ValueError, match=r"tiny_bars differ in size: 5x6 \(4\), 9x8 \(2\)"):
        sources.load("tiny_bars", mixed)
    data = sources.load("tiny_bars", mixed, image_size=5)
    assert sources.to_arrays(data.train, 10**6)[0].shape == (6, 5, 5, 3)


def test_a_damaged_record_is_named(tmp_path, caplog):
    damaged = {"image": b"no image", "label": 0}
    _prepare(tmp_path, SUPERVISED, {"train": [*_examples(4), damaged]})
    data = sources.load("tiny_bars", tmp_path)
    assert len(sources.to_arrays(data.train, 10**6)[0]) == 4
    assert "1 of 5 images cannot be read: tiny_bars train, record" in caplog.text


def test_a_record_whose_bytes_are_wrong_is_damaged(tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), np.uint8)
    examples = [{"image": _png(pixels), "label": i % 2} for i, pixels in enumerate(noise)]
    (file,) = _prepare(tmp_path, SUPERVISED, {"train": examples}).glob("*.array_record-*")
    data = bytearray(file.read_bytes())
    data[3000] ^= 1  # of a record: all of them lie in the first kilobytes
    file.write_bytes(data)
    split = tfds_source.open_tfds("tiny_bars", tmp_path, (6, 5), 3)[1]
    assert 0 < len(sources.to_arrays(sources.Split(split, True), 10**6)[0]) < 40
    assert "Corrupted" in caplog.text


def test_files_that_are_away_are_opened_again_once_they_are_back(tmp_path):
    folder = _prepare(tmp_path, SUPERVISED, {"train": _examples(6)})
    source = tfds_source.open_tfds("tiny_bars", tmp_path, (6, 5), 3)[1]
    (file,) = folder.glob("*.array_record-*")
    away = file.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(OSError, match=r"tiny_bars train, record 2: open\(\) failed"):
            source[2]
    away.rename(file)
    assert source[2]["image"].shape == (6, 5, 3)


@pytest.mark.parametrize("name", ["cifar10", "stl10", "imagenet_resized/32x32"])
def test_a_set_that_needs_preparing_without_tensorflow(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source, "_has_tensorflow", lambda: False)
    with pytest.raises(FileNotFoundError) as error:
        sources.load(name, tmp_path)
    message = str(error.value)
    assert f"{name} is not prepared yet" in message
    assert "pip install -e '.[tfds]'" in message
    assert f"tfds build {name} --data_dir={tmp_path} --file_format=array_record" in message
    assert not any(tmp_path.iterdir())


def test_a_set_that_needs_preparing_is_prepared_where_tensorflow_is(tmp_path, monkeypatch):
    fresh = _builder(tmp_path, SUPERVISED, {"train": _examples(5)})
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: fresh)
    monkeypatch.setattr(tfds_source, "_has_tensorflow", lambda: True)
    assert len(sources.load("tiny_bars", tmp_path).train.source) == 5
    monkeypatch.undo()
    assert len(sources.load("tiny_bars", tmp_path).train.source) == 5  # from disk, now


def test_a_format_that_only_tensorflow_reads(tmp_path):
    info = _prepare(tmp_path, SUPERVISED, {"train": _examples(2)}) / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match=r"as tfrecord, .*--file_format=array_record"):
        sources.load("tiny_bars", tmp_path)


def test_sets_that_are_no_image_classification(tmp_path):
    with pytest.raises(ValueError, match=r"'image' .* and 'label' .*, and has .*description"):
        sources.load("ag_news_subset", tmp_path)  # said before anything is downloaded
    _prepare(tmp_path, {"image": RGB}, {"train": [{"image": e["image"]} for e in _examples(2)]})
    with pytest.raises(ValueError, match="tiny_bars is not an image classification set"):
        sources.load("tiny_bars", tmp_path)


def test_one_class_only(tmp_path):
    one = {"image": RGB, "label": tfds.features.ClassLabel(names=["bar"])}
    _prepare(tmp_path, one, {"train": _examples(2, label=0)})
    with pytest.raises(ValueError, match="tiny_bars has one class only"):
        sources.load("tiny_bars", tmp_path)


def test_no_train_split(tmp_path):
    _prepare(tmp_path, SUPERVISED, {"other": _examples(2)})
    with pytest.raises(ValueError, match="no split 'train', only other"):
        sources.load("tiny_bars", tmp_path)


@pytest.mark.parametrize("name", ["huggingface:mnist", "Huggingface:a/b", "kaggle:x", "robotics:x"])
def test_sets_of_other_collections_are_refused_before_anything_is_imported(name, tmp_path):
    with pytest.raises(ValueError, match=f"^dataset={name} is a set of another collection, '") as e:
        sources.load(name, tmp_path)
    assert "dataset=folder with data_dir" in str(e.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist/a=True", "has arguments that are not read: a. Give NAME, NAME/CONFIG or"),
        ("mnist/zoo", "cannot be opened by TFDS: .* zoo not found"),
        ("mnist:9.9.9", "cannot be opened by TFDS: .* cannot be loaded at version 9.9.9, only"),
    ],
)
def test_configurations_and_versions_that_there_are_not(name, message, tmp_path):
    with pytest.raises(ValueError, match=f"^dataset={name} {message}"):
        sources.load(name, tmp_path)


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
def test_a_python_class_that_a_prepared_set_names_is_not_imported(file, tmp_path, monkeypatch):
    folder = _prepare(tmp_path, SUPERVISED, {"train": _examples(2)})
    marker = tmp_path / "ran"
    (tmp_path / "from_outside.py").write_text(f"open({str(marker)!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    features = json.loads((folder / "features.json").read_text())
    features["featuresDict"]["features"]["label"]["pythonClassName"] = "from_outside.Label"
    if file == "features.json":
        (folder / file).write_text(json.dumps(features))
    else:
        info = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(info | {"features": features}))
    with pytest.raises(ValueError, match=r"^dataset=tiny_bars .* class 'from_outside.Label'"):
        sources.load("tiny_bars", tmp_path)
    assert not marker.exists()
    assert "from_outside" not in sys.modules
