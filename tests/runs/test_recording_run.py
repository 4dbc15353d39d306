"""Runs on recordings: what they open, normalise and refuse; one device is eight."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from alphacl_jax.data.sequences import recordings_from_arrays
from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.any_run import prepare_training
from alphacl_jax.runs.description import write_description
from alphacl_jax.runs.recording_data import RecordingData, hold_out
from alphacl_jax.runs.recording_run import open_recording_run
from alphacl_jax.runs.recording_settings import RecordingDataSettings
from tests.tiny_recordings import cebra_settings, cpc_settings, turning


def _mesh(devices):
    return jax.make_mesh((devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices])


ONE = _mesh(1)
DATA = hold_out(turning(), 0.2, "turns", in_time=False)


@pytest.mark.parametrize(
    ("settings", "windows", "others"),
    [
        (cpc_settings(), {"windows": (8, 8, 3)}, {"recordings", "labels", "moment_labels"}),
        (
            cebra_settings("--positives=label", "--hybrid"),
            dict.fromkeys(("reference", "positive", "negative", "later"), (32, 5, 3)),
            set(),
        ),
    ],
    ids=["cpc", "cebra"],
)
def test_windows_are_normalised_by_the_training_recordings(settings, windows, others):
    run = open_recording_run(settings, ONE, DATA)
    raw = next(run.open_batches())
    batch = run.make_batch(jax.random.key(0), raw)
    assert set(batch) == {*windows, *others}
    signal = DATA.train.signal
    for name, shape in windows.items():
        assert batch[name].shape == shape
        expected = (np.asarray(raw[name]) - signal.mean(axis=0)) / signal.std(axis=0)
        np.testing.assert_allclose(batch[name], expected, rtol=1e-4, atol=1e-5)
    plain = dataclasses.replace(settings, data=RecordingDataSettings(normalize=False))
    as_they_are = open_recording_run(plain, ONE, DATA)
    assert as_they_are.mean == (0.0, 0.0, 0.0)
    own = as_they_are.make_batch(jax.random.key(0), raw)
    for name in windows:
        np.testing.assert_array_equal(own[name], raw[name])


def test_shapes_are_those_of_what_is_drawn():
    run = open_recording_run(cpc_settings(), ONE, DATA)
    raw = next(run.open_batches())
    shapes = run.raw_shapes(8)
    assert {name: of.shape for name, of in shapes.items()} == {n: x.shape for n, x in raw.items()}
    assert run.raw_shapes(2)["windows"].shape == (2, 8, 3)


def test_a_run_in_words():
    title, below = open_recording_run(cpc_settings("--window=25"), ONE, DATA).in_words(None)
    assert title == "turns: 16 recordings of 401 moments, 3 channels at 50 per second"
    assert [length < 25 for length in DATA.train.lengths].count(True) == 5
    assert below == (
        "encoder features, 2 steps ahead in windows of 25 moments (5 shorter recordings are left "
        "out); for tests: 4 recordings\n"
    )
    alone = RecordingData(turning(3), None, "turns")
    below = open_recording_run(cebra_settings(), ONE, alone).in_words(None)[1]
    assert below == "embeddings of 3 numbers, each of 5 moments; nothing is kept for tests\n"


PLAIN = RecordingData(
    recordings_from_arrays([np.random.default_rng(0).standard_normal((30, 2))] * 3), None, "plain"
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (cpc_settings("--window=40"), "window=40 is longer than all recordings, .* 26 moments"),
        (
            cpc_settings("--prediction_steps=8"),
            "prediction_steps=8 are too many: of a window of 8 moments the encoder makes 8 steps",
        ),
        (
            cpc_settings("--encoder=wave", "--encoder_layers=2", "--window=3"),
            "window=3 is too short: the encoder makes no step of it",
        ),
        (cebra_settings("--receptive_field=7"), "receptive_field=7 must be one of 1, 5, 10, 36"),
        (
            cebra_settings("--time_offset=30"),
            "time_offset=30 leaves no moment with a whole window of which the later one has one",
        ),
    ],
)
def test_settings_that_the_recordings_do_not_fit(settings, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        open_recording_run(settings, ONE, DATA)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            cpc_settings("--negatives=same"),
            "negatives=same are told by the recordings' labels, and plain has none",
        ),
        (
            cebra_settings("--positives=label"),
            "positives=label are told by the class of each moment, and plain has none",
        ),
        (
            cebra_settings("--positives=gaussian"),
            "positives=gaussian are told by the context of each moment, and plain has none",
        ),
    ],
)
def test_what_is_read_must_be_there(settings, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        open_recording_run(settings, ONE, PLAIN)


def test_a_batch_must_be_divided_by_the_devices():
    with pytest.raises(ArgumentError, match=r"batch_size=12 does not fit: .* over 8 devices"):
        open_recording_run(cpc_settings("--batch_size=12"), _mesh(8), DATA)


def test_impossible_settings_are_refused_before_data_is_looked_for():
    settings = cebra_settings("--receptive_field=7", "--dataset=npz", "--data_dir=/gone")
    with pytest.raises(ArgumentError, match="receptive_field=7"):
        open_recording_run(settings, ONE)


def test_a_run_goes_on_with_the_mean_that_it_began_with(tmp_path):
    run = open_recording_run(cpc_settings(), ONE, DATA)
    training = prepare_training(run)
    assert run.as_begun(training, tmp_path) == (run, training)
    described = run.describe(training.batches)
    assert described.steps_per_epoch == training.batches.steps_per_epoch == 6
    assert described.total_steps(run.settings) == training.schedule.total_steps == 12
    write_description(tmp_path, described)
    assert run.as_begun(training, tmp_path) == (run, training)
    other = dataclasses.replace(described, mean=(7.0, 8.0, 9.0))
    write_description(tmp_path, other)
    begun, again = run.as_begun(training, tmp_path)
    assert begun.mean == (7.0, 8.0, 9.0)
    assert again.batches is training.batches
    # Of other channels, which the folder then refuses.
    write_description(tmp_path, dataclasses.replace(described, mean=(0.0,), channels=1))
    assert run.as_begun(training, tmp_path) == (run, training)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        cpc_settings("--negatives=same_excluded", "--optimizer=sgd", "--learning_rate=0.1"),
        cebra_settings(
            *("--positives=time_delta", "--within_labels", "--hybrid", "--min_temperature=0.1"),
            *("--optimizer=sgd", "--learning_rate=0.1"),
        ),
    ],
    ids=["cpc", "cebra"],
)
def test_eight_devices_train_as_one(settings):
    ends = []
    for mesh in (ONE, _mesh(8)):
        run = open_recording_run(settings, mesh, DATA)
        training = prepare_training(run)
        state, found = run.start(training.init), []
        for _ in range(3):
            state, metrics = training.step(state, next(training.batches), True)
            found.append(jax.device_get(metrics))
        ends.append((jax.device_get(state.params), found))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *ends)
