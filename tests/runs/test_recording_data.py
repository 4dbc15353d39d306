"""Recordings of a run: what is kept for tests, how channels are measured, what is described."""

import dataclasses
import json

import numpy as np
import pytest

from alphacl_jax.data.policies import NONE
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.data.recordings import save_recordings
from alphacl_jax.data.sequences import recordings_from_arrays
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs import recording_data
from alphacl_jax.runs.description import (
    Description,
    read_description,
    read_description_of_images,
    write_description,
)
from alphacl_jax.runs.recording_data import RecordingData, channel_statistics, hold_out, load_data
from alphacl_jax.runs.recording_description import RecordingDescription
from alphacl_jax.runs.recording_settings import CPCRunSettings, RecordingDataSettings
from tests.tiny_recordings import turning


def _numbered(lengths, labels=None):
    """Recordings whose signal is the number of the moment among all."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    signals = [np.arange(*of, dtype=float) for of in zip(starts, ends, strict=True)]
    return recordings_from_arrays(
        signals,
        labels=labels,
        moment_labels=[signal.astype(int) for signal in signals],
        context=[signal * 2 for signal in signals],
    )


def test_of_each_class_the_same_share_is_held_out():
    labels = ["a"] * 20 + ["b"] * 10 + [None] * 5
    recordings = _numbered([3] * 35, labels)
    data = hold_out(recordings, 0.2, "data", in_time=False)
    counts = [np.bincount(part.labels + 1, minlength=3) for part in (data.train, data.test)]
    np.testing.assert_array_equal(counts, [[4, 16, 8], [1, 4, 2]])
    assert data.held_out == "7 recordings"
    both = [set(part.names) for part in (data.train, data.test)]
    assert both[0] | both[1] == set(recordings.names)
    assert not both[0] & both[1]
    again = hold_out(recordings, 0.2, "data", in_time=False)
    assert again.test.names == data.test.names


@pytest.mark.parametrize(
    ("lengths", "share", "train", "test"),
    [([4, 6], 0.4, [4, 2], [4]), ([4, 6], 0.7, [3], [1, 6]), ([10], 0.3, [7], [3])],
)
def test_the_last_part_of_the_time_is_held_out(lengths, share, train, test):
    recordings = _numbered(lengths)
    data = hold_out(recordings, share, "data", in_time=True)
    assert list(data.train.lengths) == train
    assert list(data.test.lengths) == test
    for part, moments in ((data.train, range(sum(train))), (data.test, range(sum(train), 10))):
        np.testing.assert_array_equal(part.signal[:, 0], moments)
        np.testing.assert_array_equal(part.moment_labels, moments)
        np.testing.assert_array_equal(part.context[:, 0], 2 * np.array(moments))
    # Whose moments they are.
    assert data.test.names == recordings.names[len(lengths) - len(test) :]
    assert data.train.names == recordings.names[: len(train)]
    assert data.held_out == f"the last {100 * share:g} % of the time"


def test_of_a_single_recording_the_end_is_held_out():
    data = hold_out(_numbered([10]), 0.2, "data", in_time=False)
    assert (len(data.train.signal), len(data.test.signal)) == (8, 2)


def test_of_recordings_with_classes_the_end_of_each_is_held_out():
    """By files in the order of their classes, the last part of all would be the last class."""
    recordings = _numbered([10, 2, 5, 10], labels=["a", "a", "b", "b"])
    data = hold_out(recordings, 0.2, "data", in_time=True)
    assert list(data.train.lengths) == [8, 2, 4, 8]
    assert list(data.test.lengths) == [2, 1, 2]
    held_out = [8, 9, 16, 25, 26]
    for part, moments in (
        (data.train, [moment for moment in range(27) if moment not in held_out]),
        (data.test, held_out),
    ):
        np.testing.assert_array_equal(part.signal[:, 0], moments)
        np.testing.assert_array_equal(part.moment_labels, moments)
        np.testing.assert_array_equal(part.context[:, 0], 2 * np.array(moments))
    assert (data.train.names, data.test.names) == (("0", "1", "2", "3"), ("0", "2", "3"))
    assert (list(data.train.labels), list(data.test.labels)) == ([0, 0, 1, 1], [0, 1, 1])
    assert data.held_out == "the last 20 % of each recording but for 1 that is too short"
    longer = hold_out(_numbered([10, 5], labels=["a", "b"]), 0.2, "data", in_time=True)
    assert longer.held_out == "the last 20 % of each recording"


@pytest.mark.parametrize(
    ("labels", "share", "test"),
    [
        (["a", "b", "c"], 0.2, 1),
        (["a", "b", "c"], 0.5, 2),
        (["a", "b", "c"], 0.9, 2),
        (["a", "a", "b", "b"], 0.2, 1),
        (["a", "b"], 0.6, 1),
        ([None] * 3, 0.1, 1),
        ([None] * 30, 0.99, 29),
    ],
)
def test_of_few_recordings_in_each_class_some_are_drawn_of_all(labels, share, test):
    data, again = (
        hold_out(_numbered([3] * len(labels), labels), share, "data", in_time=False)
        for _ in range(2)
    )
    assert (len(data.train), len(data.test)) == (len(labels) - test, test)
    assert data.test.names == again.test.names
    assert not set(data.train.names) & set(data.test.names)
    assert data.held_out == f"{test} recording{'s' * (test > 1)}"
    # What nothing is trained on is unknown.
    own = [labels[int(name)] for name in data.test.names]
    there = {labels[int(name)] for name in data.train.names}
    names = [data.test.class_names[i] if i >= 0 else None for i in data.test.labels]
    assert names == [name if name in there else None for name in own]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (None, "leaves no moment to hold out: hold out more"),
        (["a", "b"], "parts none of 2 recordings, of which the longest has 3 moments: hold out mo"),
    ],
)
def test_a_share_that_leaves_nothing(labels, problem):
    with pytest.raises(ArgumentError, match=f"held_out=0.01 {problem}"):
        hold_out(_numbered([3, 3], labels), 0.01, "data", in_time=True)


def _in_parts(monkeypatch, train, test):
    """What `load_data` makes of a source with these parts."""
    parts = {"train": train, "test": test}
    monkeypatch.setattr(
        recording_data, "load_recordings", lambda source, data_dir, *, part: parts[part]
    )
    return load_data(RecordingDataSettings(), in_time=False)


def test_a_class_has_the_number_of_the_training_part(monkeypatch):
    """Those of each part are numbered by themselves where a source does not know all of them."""
    train = _numbered([3] * 4, labels=[19, 26, 27, 32])
    test = _numbered([3] * 4, labels=[61, 26, 32, None])
    moments = [np.array(names) for names in (["a", "b", "c"], ["b", "d", ""])]
    train, test = (
        recordings_from_arrays(
            [of.of(i) for i in range(4)],
            labels=[of.class_names[i] if i >= 0 else "" for i in of.labels],
            moment_labels=[own] * 4,
        )
        for of, own in zip((train, test), moments, strict=True)
    )
    assert test.labels.tolist() == [2, 0, 1, -1]
    data = _in_parts(monkeypatch, train, test)
    assert data.train is train
    assert data.test.class_names == data.train.class_names == ("19", "26", "27", "32")
    assert data.test.labels.tolist() == [-1, 1, 3, -1]
    assert data.test.moment_names == ("a", "b", "c")
    assert data.test.moment_labels.tolist() == [1, -1, -1] * 4
    np.testing.assert_array_equal(data.test.signal, test.signal)


def test_a_class_that_has_a_name_but_no_training_recording_is_unknown(monkeypatch):
    train = _numbered([3] * 3, labels=["a", "b", "c"])
    data = _in_parts(monkeypatch, train.select([0, 2]), train)
    assert data.test.labels.tolist() == [0, -1, 2]


def test_classes_of_one_part_alone_are_no_classes(monkeypatch):
    plain, labelled = _numbered([3] * 2), _numbered([3] * 2, labels=["a", "b"])
    data = _in_parts(monkeypatch, plain, labelled)
    assert (data.test.labels.tolist(), data.test.class_names) == ([-1, -1], ())
    data = _in_parts(monkeypatch, labelled, plain)
    assert (data.test.labels.tolist(), data.test.class_names) == ([-1, -1], ("a", "b"))


def test_parts_without_a_class_in_common_are_refused(monkeypatch):
    signals = [np.zeros(2)] * 2
    speakers = [recordings_from_arrays(signals, labels=of) for of in ([19, 26], [61, 121])]
    with pytest.raises(
        ArgumentError,
        match=r"^test_part=test has the classes 121, 61 of recordings, and the part to train on "
        r"19, 26: none in common\. Give parts, or a label, that share some",
    ):
        _in_parts(monkeypatch, *speakers)
    phones = [recordings_from_arrays(signals, moment_labels=[of] * 2) for of in ([1, 1], [2, 3])]
    with pytest.raises(
        ArgumentError, match=r"test_part=test has the classes 2, 3 of moments, .* on 1: no"
    ):
        _in_parts(monkeypatch, *phones)


def test_channels_are_measured_over_all_moments():
    rng = np.random.default_rng(0)
    signals = [5 + 3 * rng.standard_normal((n, 3)) for n in (7, 4)]
    for signal in signals:
        signal[:, 1] = 0.1  # which float32 cannot hold exactly
    mean, std = channel_statistics(recordings_from_arrays(signals))
    everything = np.concatenate(signals)
    np.testing.assert_allclose(mean, everything.mean(axis=0), rtol=1e-6)
    expected = everything.std(axis=0)
    expected[1] = 1
    np.testing.assert_allclose(std, expected, rtol=1e-6)


def test_what_a_file_holds_is_parted(tmp_path):
    save_recordings(tmp_path / "turns.npz", turning())
    own = RecordingDataSettings("npz", str(tmp_path / "turns.npz"), held_out=0.3)
    data = load_data(own, in_time=False)
    assert data.title == "turns"
    assert (len(data.train), len(data.test)) == (14, 6)
    in_time = load_data(own, in_time=True)
    assert (len(in_time.train), len(in_time.test)) == (20, 20)
    assert data.fingerprint == load_data(own, in_time=False).fingerprint
    assert data.fingerprint != in_time.fingerprint
    sample = data.sample()
    assert next(iter(sample)) == "recording 0"
    assert sample["recording 13"].startswith(f"{data.train.names[13]}, contents ")


@pytest.mark.parametrize("array", ["signal", "moment_labels", "context", "labels"])
def test_a_fingerprint_changes_with_what_is_trained_on(array):
    recordings = turning(4)
    changed = dataclasses.replace(recordings, **{array: getattr(recordings, array) + 1})
    found = {RecordingData(of, None, "data").fingerprint for of in (recordings, changed)}
    assert len(found) == 2


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ({"dataset": "digits"}, "dataset=digits is not known. Known are japanese_vowels"),
        ({"dataset": "npz"}, "data_dir=None must be given"),
        ({"dataset": "npz", "data_dir": "/gone.npz"}, "data_dir=/gone.npz does not exist"),
        ({"dataset": "npz", "data_dir": "HERE", "rate": 3}, "rate=3 is no option of the source"),
        ({"dataset": "npz", "data_dir": "HERE", "test_part": "test"}, "test_part=test cannot be "),
        ({"dataset": "npz", "data_dir": "HERE", "train_part": "a"}, "train_part=a cannot be had"),
        ({"dataset": "arrays"}, "dataset=arrays are recordings that were in memory, which are not"),
    ],
)
def test_data_that_cannot_be_used(tmp_path, own, problem):
    save_recordings(tmp_path / "turns.npz", turning(4))
    own = {k: str(tmp_path / "turns.npz") if v == "HERE" else v for k, v in own.items()}
    with pytest.raises(ArgumentError, match=f"^{problem}"):
        load_data(RecordingDataSettings(**own), in_time=False)


@pytest.mark.parametrize("with_test", [True, False])
def test_a_folder_of_sound_has_a_test_part_or_one_is_drawn(tmp_path, with_test):
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for part, count in (("train", 5), *([("test", 2)] if with_test else [])):
        for name in ("ada", "bo"):
            for i in range(count):
                folder = tmp_path / part / name if with_test else tmp_path / name
                folder.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(80), 8000)
    data = load_data(RecordingDataSettings("wav", str(tmp_path)), in_time=False)
    assert (len(data.train), len(data.test)) == ((10, 4) if with_test else (8, 2))
    assert data.held_out == ("" if with_test else "2 recordings")
    assert data.title == tmp_path.name


def _description(**changes):
    found = {
        "channels": 2,
        "rate": 50.0,
        "mean": (0.5, -1.0),
        "std": (1.0, 2.5),
        "class_names": ("a", "b"),
        "moment_names": (),
        "data": "turns",
        "num_recordings": 9,
        "num_moments": 99,
        "steps_per_epoch": 4,
        "fingerprint": "0123",
    }
    return RecordingDescription(**{**found, **changes})


def test_descriptions_are_kept_and_told_apart(tmp_path):
    described = _description(data_changes=("before",), rate=None)
    write_description(tmp_path, described)
    assert read_description(tmp_path) == described
    with pytest.raises(RunError, match=r"preprocessing.json is of a run on recordings, and not on"):
        read_description_of_images(tmp_path)
    colours = Preprocessing((8, 8, 1), (0.5,), (0.2,))
    images = Description(colours, NONE, (), "digits", 9, None)
    write_description(tmp_path, images)
    assert read_description(tmp_path) == read_description_of_images(tmp_path) == images


@pytest.mark.parametrize("text", ["[]", "{}", '{"of": "recordings"}', "{"])
def test_a_description_that_cannot_be_read(tmp_path, text):
    (tmp_path / "preprocessing.json").write_text(text)
    with pytest.raises(RunError, match=r"preprocessing.json cannot be read: .* Train the run agai"):
        read_description(tmp_path)


def test_a_description_is_json():
    assert json.loads(json.dumps(_description().to_json()))["class_names"] == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "words", "fits"),
    [
        ({}, [], True),
        ({"mean": (9.0, 9.0)}, [], True),
        ({"fingerprint": "4567"}, ["as many recordings and moments, but not the same ones"], True),
        (
            {"num_recordings": 8, "num_moments": 90},
            ["recordings 9 then, 8 now", "moments 99 then, 90 now"],
            True,
        ),
        ({"channels": 3}, ["channels 2 then, 3 now"], False),
        ({"rate": None}, ["moments per second 50.0 then, None now"], False),
        (
            {"class_names": ("b", "c", "d"), "moment_names": ("x",)},
            [
                "classes that are gone: a",
                "classes that are new: c, d",
                "classes of moments that are new: x",
            ],
            True,
        ),
    ],
)
def test_changes_of_the_data_in_words(changes, words, fits):
    then, now = _description(), _description(**changes)
    found = then.changes(now)
    assert len(found) == len(words)
    assert all(line.startswith(word) for line, word in zip(found, words, strict=True))
    assert then.fits(now) == fits


def test_a_run_that_goes_on_with_other_data_keeps_how_it_normalises():
    now = _description(num_recordings=8, mean=(0.0, 0.0), steps_per_epoch=3)
    went_on = _description().with_data_of(now)
    assert went_on.mean == (0.5, -1.0)
    assert (went_on.num_recordings, went_on.steps_per_epoch) == (8, 3)
    assert went_on.data_changes == ("recordings 9 then, 8 now",)
    assert not went_on.changes(now)
    settings = CPCRunSettings()
    assert went_on.total_steps(settings) == 3 * settings.optimizer.epochs
