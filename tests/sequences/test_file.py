"""Saving and loading: the same bit by bit, whole or not at all; a message for every other file."""

import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from sklearn.exceptions import NotFittedError

from alphacl_jax import files
from alphacl_jax.errors import ArgumentError
from alphacl_jax.sequences import CEBRA
from tests.sequences.tiny import CONTEXT, LABELS, OTHER, X, tiny


@pytest.fixture(scope="module")
def fitted():
    return tiny().fit(X, CONTEXT)


@pytest.fixture
def saved(fitted, tmp_path):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    return path


def test_what_is_loaded_is_what_was_saved(fitted, saved):
    loaded = CEBRA.load(str(saved))
    assert loaded.get_params() == fitted.get_params()
    assert loaded.model_.problem == fitted.model_.problem
    assert loaded.n_features_in_ == 6
    assert not hasattr(loaded, "feature_names_in_")
    for name in ("loss_", "goodness_", "temperature_"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(fitted, name))
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    assert loaded.score(X, CONTEXT) == fitted.score(X, CONTEXT)


def test_training_goes_on_as_if_it_had_not_been_saved(saved, tmp_path):
    loaded = CEBRA.load(saved).partial_fit(X, CONTEXT)
    whole = tiny(max_iterations=24).fit(X, CONTEXT)
    np.testing.assert_array_equal(loaded.loss_, whole.loss_)
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(CEBRA.load(tmp_path / "again").transform(X), whole.transform(X))


def test_sessions_labels_and_changed_parameters_are_kept(tmp_path):
    pair = [X, OTHER], [LABELS, LABELS], [CONTEXT, CONTEXT]
    found = tiny(max_iterations=2).fit(*pair)
    found.set_params(learning_rate=np.float64(0.5), output_dimension=7)
    found.save(tmp_path / "pair")
    loaded = CEBRA.load(tmp_path / "pair")
    assert loaded.get_params() == found.get_params()
    assert loaded.n_features_in_ == (6, 9)
    with pytest.raises(ArgumentError, match="output_dimension=7 was 3"):
        loaded.transform([X, OTHER])
    loaded.set_params(output_dimension=3)
    found.set_params(output_dimension=3)
    for one, same in zip(loaded.transform(pair[0]), found.transform(pair[0]), strict=True):
        np.testing.assert_array_equal(one, same)


def test_names_of_columns_are_kept(fitted, tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcdef"))
    tiny().fit(table, CONTEXT).save(tmp_path / "named")
    loaded = CEBRA.load(tmp_path / "named")
    assert list(loaded.feature_names_in_) == list("abcdef")
    np.testing.assert_array_equal(loaded.transform(table), fitted.transform(X))
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.transform(table[list("abcdfe")])


def test_the_arrays_are_there_for_other_programs(fitted, saved):
    with safetensors.safe_open(saved, framework="numpy") as file:
        names, header = set(file.keys()), json.loads(file.metadata()["alphacl_jax"])
        np.testing.assert_array_equal(file.get_tensor("histories/loss"), fitted.loss_)
    assert any(name.startswith("params/encoder/") for name in names)
    assert header["parameters"]["output_dimension"] == 3
    assert header["positives"]["rule"] == "time_delta"


def test_a_file_is_replaced_whole_or_not_at_all(fitted, saved, monkeypatch):
    before = saved.read_bytes()

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_sync", full)
    with pytest.raises(OSError, match="No space left"):
        tiny(max_iterations=3).fit(X, CONTEXT).save(saved)
    assert saved.read_bytes() == before
    assert [each.name for each in saved.parent.iterdir()] == [saved.name]


def test_what_cannot_be_saved(fitted, tmp_path):
    with pytest.raises(NotFittedError):
        tiny().save(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="missing"):
        fitted.save(tmp_path / "missing" / "model")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no_such_file"):
        CEBRA.load(tmp_path / "no_such_file")


def _cut(content):
    return content[:-50]


def _one_bit(content):
    changed = bytearray(content)
    changed[-3] ^= 1
    return bytes(changed)


def _other_name(content):
    """The names of arrays are in the header, which has no other checksum."""
    assert content.count(b"histories/loss") == 1
    return content.replace(b"histories/loss", b"histories/lost")


def _other_setting(content):
    # Within JSON within JSON.
    setting = rb"\"time_offset\": 2"
    assert content.count(setting) == 2
    return content.replace(setting, rb"\"time_offset\": 3")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_cut, "is damaged, or no file of CEBRA.save"),
        (_one_bit, "is damaged: its checksum differs"),
        (_other_name, "is damaged: its checksum differs"),
        (_other_setting, "is damaged: its checksum differs"),
        (lambda content: b"", "is damaged, or no file of CEBRA.save"),
        (lambda content: b"some words, and no arrays", "is damaged, or no file of CEBRA.save"),
        (lambda content: safetensors.numpy.save({"x": np.zeros(3)}), "holds arrays, but no fitted"),
        (
            lambda content: safetensors.numpy.save({"x": np.zeros(3)}, {"alphacl_jax": "{}"}),
            "holds arrays, but no fitted CEBRA",
        ),
        (
            lambda content: safetensors.numpy.save({"x": np.zeros(3)}, {"alphacl_jax": "{"}),
            "is damaged: Expecting",
        ),
        (
            lambda content: content.replace(rb"\"format_version\": 1", rb"\"format_version\": 9"),
            "has version 9 of the format, and 1 is what this version",
        ),
    ],
)
def test_another_file_or_a_damaged_one(saved, damage, words):
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(ArgumentError, match=words) as caught:
        CEBRA.load(saved)
    assert (caught.value.argument, caught.value.value) == ("path", saved)
