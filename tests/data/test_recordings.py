"""Recordings by source: files of NumPy, the nine speakers, and what every source refuses alike."""

import doctest
import importlib.util

import numpy as np
import pytest

from alphacl_jax import extras
from alphacl_jax.data import recordings as recordings_module
from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.data.numbering import numbered_by
from alphacl_jax.data.recordings import load_recordings, recordings_from_arrays, save_recordings
from alphacl_jax.errors import ArgumentError

FIELDS = ("signal", "lengths", "labels", "moment_labels", "context")


def _some():
    return recordings_from_arrays(
        [np.arange(8.0).reshape(4, 2), np.ones((3, 2))],
        names=["näh", "fern"],
        labels=["b", None],
        moment_labels=[["x", "", "y", "y"], ["", "x", "x"]],
        context=[np.arange(4), np.arange(3)],
        rate=12.5,
    )


def assert_same(found, wanted):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field), strict=True)
    for field in ("names", "class_names", "moment_names", "rate"):
        assert getattr(found, field) == getattr(wanted, field)


@pytest.mark.parametrize(
    "recordings",
    [
        _some(),
        _some().select([1]),  # whose class is of no recording that is left
        recordings_from_arrays([np.arange(2), np.arange(1)], labels=[10, 9]),
        recordings_from_arrays(np.zeros((5, 3))),
    ],
)
def test_what_is_saved_is_read_again(recordings, tmp_path):
    save_recordings(tmp_path / "some.npz", recordings)
    assert_same(load_recordings("npz", tmp_path / "some.npz"), recordings)
    assert [file.name for file in tmp_path.iterdir()] == ["some.npz"]


def test_the_example_of_the_docstring(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(recordings_module)
    assert result.failed == 0
    assert result.attempted > 0


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    save_recordings(tmp_path / "some.npz", _some())
    monkeypatch.setattr(np, "savez", lambda file, **_: file.write(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_recordings(tmp_path / "some.npz", _some().select([0]))
    monkeypatch.undo()
    assert_same(load_recordings("npz", tmp_path / "some.npz"), _some())


def test_a_file_that_numpy_wrote(tmp_path, caplog):
    path = tmp_path / "own.npz"
    np.savez(path, signal=np.arange(6), lengths=[4, 2], labels=["b", "a"], more=3)
    found = load_recordings("npz", path, part="train")
    assert [found.of(i)[:, 0].tolist() for i in range(2)] == [[0, 1, 2, 3], [4, 5]]
    assert (found.labels.tolist(), found.class_names) == ([1, 0], ("a", "b"))
    assert "arrays of these names are not read: more" in caplog.text
    np.savez(path, signal=np.arange(6), moment_labels=[5, 5, -1, 3, 3, 3])
    found = load_recordings("npz", path)
    assert (found.lengths.tolist(), found.moment_names) == ([6], ("3", "5"))
    assert found.moment_labels.tolist() == [1, 1, -1, 0, 0, 0]


ONE = {"signal": np.zeros((5, 2))}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(3), "y": np.zeros(3)}, "has no array 'signal', only x, y"),
        ({**ONE, "names": np.array([["a"], None], object)}, "holds pickled Python objects, which"),
        ({**ONE, "lengths": [3, 3]}, "has `lengths` that sum to 6, and 5 moments in `signal`"),
        ({**ONE, "lengths": [6, -1]}, "has `lengths` that are not whole numbers .* above 0"),
        ({**ONE, "lengths": [2.5, 2.5]}, "has `lengths` that are not whole numbers"),
        ({**ONE, "labels": ["a", "b"]}, "cannot be used: labels=.* has 2 entries, and there are 1"),
        ({**ONE, "moment_labels": [1, 2]}, r"has `moment_labels` of shape \(2,\), and 5 moments"),
        ({**ONE, "context": np.zeros((4, 2))}, r"has `context` of shape \(4, 2\), and 5 moments"),
        ({**ONE, "labels": [2], "class_names": ["a", "b"]}, "has 2 in `labels`, and 2 words in"),
        (
            {**ONE, "labels": [0, 0], "class_names": ["a"]},
            r"has `labels` of shape \(2,\): it must be",
        ),
        ({**ONE, "labels": ["a"], "class_names": ["a"]}, "must have whole numbers in `labels` and"),
        ({**ONE, "rate": "fast"}, "has a `rate` that is not one number of moments per second"),
        ({**ONE, "rate": -1}, "cannot be used: rate=-1.0 must be"),
        ({"signal": np.full((2, 1), np.nan)}, "cannot be used: signals=.* is nan at moment 0"),
        ({"signal": np.zeros((0, 2))}, r"cannot be used: .* has shape \(0, 2\)"),
    ],
)
def test_arrays_that_do_not_fit(arrays, message, tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    with pytest.raises(ArgumentError, match=f"^data_dir={path} {message}"):
        load_recordings("npz", path)


def test_files_that_are_no_recordings(tmp_path):
    path = tmp_path / "own.npz"
    with pytest.raises(MissingDataError, match=r"own.npz does not exist\. Give the \.npz file"):
        load_recordings("npz", path)
    with pytest.raises(ArgumentError, match=r"is a folder\. Give the \.npz file"):
        load_recordings("npz", tmp_path)
    path.write_text("nothing of NumPy's")
    with pytest.raises(ArgumentError, match=r"is damaged, or no \.npz file\. Make it again"):
        load_recordings("npz", path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ArgumentError, match=r"holds a single array\. Save it by np\.savez"):
        load_recordings("npz", path)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "own.npz"
    save_recordings(path, _some())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArgumentError, match=r"own\.npz is damaged, or no \.npz file"):
        load_recordings("npz", path)
    flipped = bytearray(whole)
    start = whole.index(np.arange(8, dtype=np.float32).tobytes())
    flipped[start] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ArgumentError, match=r"own\.npz is damaged, .*CRC"):
        load_recordings("npz", path)


def test_classes_get_the_numbers_of_others():
    train = recordings_from_arrays(
        [np.ones(1)] * 3, labels=["c", "a", "b"], moment_labels=[["p"], ["q"], ["r"]]
    )
    test = recordings_from_arrays(
        [np.ones(1)] * 3, labels=["c", None, "b"], moment_labels=[["r"], [""], ["q"]]
    )
    found = numbered_by(test, train.class_names, train.moment_names)
    assert (found.labels.tolist(), found.class_names) == ([2, -1, 1], ("a", "b", "c"))
    assert (found.moment_labels.tolist(), found.moment_names) == ([2, -1, 1], ("p", "q", "r"))
    assert (found.labels.dtype, found.moment_labels.dtype) == (np.int32, np.int32)
    assert_same(numbered_by(test), test)
    unlabelled = numbered_by(recordings_from_arrays([1.0]), ["a"])
    assert (unlabelled.labels.tolist(), unlabelled.class_names) == ([-1], ("a",))
    with pytest.raises(ArgumentError, match=r"class_names=<1 names> lack b, of which"):
        numbered_by(test, ["c"])
    with pytest.raises(ArgumentError, match=r"moment_names=<0 names> lack q, r, of which"):
        numbered_by(test, moment_names=[])


@pytest.mark.parametrize(
    ("source", "data_dir", "options", "message"),
    [
        (
            "mp3",
            None,
            {},
            "source=mp3 is not known. Known are japanese_vowels, npz, table, wav and",
        ),
        ("wav", None, {}, "data_dir=None must be given: the source 'wav' reads a file or folder"),
        ("japanese_vowels", "x", {}, "data_dir=x cannot be used: .* reads no file of yours"),
        ("npz", "x", {"rate": 3}, "rate=3 is no option of the source 'npz', which has none"),
        ("wav", "x", {"labels": 3}, "labels=3 is no option of .* which has part, rate"),
        ("npz", "x", {"part": "test"}, "part=test cannot be had: the source 'npz' has no parts"),
        ("table", "x", {"time_column": "t"}, "signal_columns=None must be given: the source 'tab"),
        ("table", "x", {}, "time_column=None must be given"),
    ],
)
def test_options_that_do_not_fit_the_source(source, data_dir, options, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        load_recordings(source, data_dir, **options)


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for library, source, options in [
        ("aeon", "japanese_vowels", {}),
        ("soundfile", "wav", {"data_dir": tmp_path}),
        ("pyarrow", "table", {"data_dir": "x", "time_column": "t", "signal_columns": "s"}),
    ]:
        needed = rf"{library}, of the extra \[sequences\]\. .* 'alphacl_jax\[sequences\]'"
        with pytest.raises(ModuleNotFoundError, match=needed) as error:
            load_recordings(source, **options)
        assert error.value.name == library
    assert {"aeon", "soundfile", "pyarrow"} == set(extras.SEQUENCES)


def test_the_nine_speakers():
    pytest.importorskip("aeon")
    train, test = (load_recordings("japanese_vowels", part=part) for part in ("train", "test"))
    assert (len(train), len(test)) == (270, 370)
    for part in (train, test):
        assert part.signal.shape[1] == 12
        assert (part.lengths.min(), part.lengths.max()) == (7, 29 if part is test else 26)
        assert part.class_names == tuple("123456789")
        assert part.rate == pytest.approx(156.25)
    assert np.bincount(train.labels).tolist() == [30] * 9
    assert np.bincount(test.labels).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert_same(load_recordings("japanese_vowels"), train)
    with pytest.raises(ArgumentError, match="part=val must be 'train' or 'test'"):
        load_recordings("japanese_vowels", part="val")
