"""Sound of TFDS: sets prepared here by TFDS's own writer and feature, read without TensorFlow."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.features import audio_feature

from alphacl_jax.data import audio_tfds
from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.data.recordings import load_recordings
from alphacl_jax.errors import ArgumentError

LENGTHS = (40, 25, 60)


def _wave(number, dtype=np.int16):
    return (np.arange(LENGTHS[number]) * 100 - 1000 * number).astype(dtype)


def _prepare(folder, features, splits):
    class TinySounds(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            yield from enumerate(splits[split])

    builder = TinySounds(data_dir=folder)
    builder.download_and_prepare(file_format="array_record")
    return builder.data_path


@pytest.fixture(autouse=True)
def no_tensorflow(monkeypatch):
    """The two places of the feature that ask for it, and would for no array."""
    monkeypatch.setattr(audio_feature._AudioDecoder, "__init__", lambda *_, **__: None)
    monkeypatch.setattr(audio_feature.Audio, "dtype", property(lambda self: self.np_dtype))


def _audio(**options):
    return tfds.features.Audio(file_format="wav", sample_rate=8000, **options)


WORDS = tfds.features.ClassLabel(names=["yes", "no", "maybe"])


@pytest.fixture
def spoken(tmp_path):
    examples = [{"audio": _wave(i), "label": i % 2} for i in range(3)]
    splits = {"train": examples, "test": examples[1:2]}
    _prepare(tmp_path, {"audio": _audio(dtype=np.int16), "label": WORDS}, splits)
    return tmp_path


def test_a_prepared_set_is_read(spoken, monkeypatch):
    monkeypatch.undo()  # as it is read where nothing of the writer is replaced
    found = load_recordings("tfds:tiny_sounds", spoken)
    by_length = {length: number for number, length in enumerate(LENGTHS)}
    order = [by_length[length] for length in found.lengths]
    assert sorted(order) == [0, 1, 2]
    for place, number in enumerate(order):
        np.testing.assert_array_equal(found.of(place)[:, 0], _wave(number) / np.float32(2**15))
    assert found.labels.tolist() == [number % 2 for number in order]
    assert found.class_names == ("yes", "no", "maybe")  # also of what is not there
    assert found.rate == 8000
    test = load_recordings("tfds:tiny_sounds", spoken, part="test")
    assert (test.lengths.tolist(), test.labels.tolist()) == ([25], [1])
    assert test.class_names == found.class_names
    assert load_recordings("tfds:tiny_sounds", spoken, part="train[:2]").lengths.tolist() == (
        found.lengths[:2].tolist()
    )
    assert load_recordings("tfds:tiny_sounds", spoken, rate=4000).lengths.tolist() == (
        [-(-length // 2) for length in found.lengths]
    )


def test_speakers_by_number_and_another_name_of_the_sound(tmp_path):
    features = {
        "speech": _audio(),  # of int64, as TFDS has it by default
        "speaker_id": np.int64,
        "text": tfds.features.Text(),
    }
    examples = [{"speech": _wave(i, np.int64), "speaker_id": 90 - i, "text": "a"} for i in range(3)]
    _prepare(tmp_path, features, {"train_clean100": examples})
    with pytest.raises(ArgumentError, match=r"part=train is no split of .* has train_clean100"):
        load_recordings("tfds:tiny_sounds", tmp_path)
    found = load_recordings("tfds:tiny_sounds", tmp_path, part="train_clean100")
    assert found.class_names == ("88", "89", "90")
    by_length = dict(zip(found.lengths.tolist(), found.labels.tolist(), strict=True))
    assert by_length == {40: 2, 25: 1, 60: 0}
    texts = load_recordings("tfds:tiny_sounds", tmp_path, part="train_clean100", label="text")
    assert texts.class_names == ("a",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "val"}, "part=val is no split of tiny_sounds, which has test, train"),
        ({"part": "train[9:7:5]"}, r"part=train\[9:7:5\] is no part of a split with"),
        ({"part": "train[:0]"}, r"part=train\[:0\] is no part of a split with recordings: "),
        ({"label": "word"}, "label=word is no feature of tiny_sounds, which has audio, label"),
        ({"rate": 0}, "rate=0 must be a whole number"),
    ],
)
def test_options_that_do_not_fit_the_set(options, message, spoken):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        load_recordings("tfds:tiny_sounds", spoken, **options)


def test_sets_that_cannot_be_used(tmp_path):
    examples = [{"label": 0}]
    _prepare(tmp_path / "a", {"label": WORDS}, {"train": examples})
    with pytest.raises(ArgumentError, match="must have one feature of sound, and has none among l"):
        load_recordings("tfds:tiny_sounds", tmp_path / "a")
    no_rate = {"audio": tfds.features.Audio(file_format="wav")}
    _prepare(tmp_path / "b", no_rate, {"train": [{"audio": _wave(0, np.int64)}]})
    assert load_recordings("tfds:tiny_sounds", tmp_path / "b").rate is None
    with pytest.raises(
        ArgumentError, match="rate=8000 cannot be reached: tiny_sounds does not say"
    ):
        load_recordings("tfds:tiny_sounds", tmp_path / "b", rate=8000)


def test_a_format_that_only_tensorflow_reads(spoken):
    (info,) = spoken.rglob("dataset_info.json")
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(ArgumentError, match=r"as tfrecord, .* file_format='array_record'"):
        load_recordings("tfds:tiny_sounds", spoken)


def test_encoded_sound_is_not_read(spoken):
    (features,) = spoken.rglob("features.json")
    features.write_text(
        features.read_text().replace('"fileFormat"', '"lazyDecode": true, "fileFormat"')
    )
    with pytest.raises(ArgumentError, match="holds encoded files, which are not read"):
        load_recordings("tfds:tiny_sounds", spoken)


def test_a_python_class_that_a_prepared_set_names_is_not_imported(spoken):
    (features,) = spoken.rglob("features.json")
    assert "core.features.audio_feature.Audio" in features.read_text()
    features.write_text(features.read_text().replace("class_label_feature", "from_outside"))
    text = features.read_text().replace("tensorflow_datasets.core.features.from_outside", "outside")
    features.write_text(text)
    with pytest.raises(
        ArgumentError, match=r"class 'outside\.ClassLabel', which is none of TFDS's"
    ):
        load_recordings("tfds:tiny_sounds", spoken)


def test_sets_that_are_not_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_tfds.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match=r"is not prepared yet in .*takes TensorFlow, once"):
        load_recordings("tfds:spoken_digit", tmp_path)
    with pytest.raises(
        ArgumentError, match=r"is not prepared in .*, and TFDS has no set 'spoken_d'"
    ):
        load_recordings("tfds:spoken_d", tmp_path)
    with pytest.raises(ArgumentError, match=r"source=tfds:huggingface:x is no name of a set"):
        load_recordings("tfds:huggingface:x", tmp_path)
