"""Encoders of recordings: what they compute, whatever lies beside it, and what they refuse."""

import dataclasses

import jax
import numpy as np
import pytest

from alphacl_jax.data.sequences import windows_at, with_borders
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs import load_recording_encoder, pretrain_recordings
from alphacl_jax.runs.any_run import prepare_training
from alphacl_jax.runs.recording_data import RecordingData
from alphacl_jax.runs.recording_encoder import (
    compiled_of,
    on_one_device,
    recording_encoder_of,
    untrained_recording_encoder,
)
from alphacl_jax.runs.recording_methods import make_recording_method
from alphacl_jax.runs.recording_run import open_recording_run
from alphacl_jax.runs.recording_settings import RecordingDataSettings
from tests.tiny_recordings import cebra_settings, cpc_settings, turning

TURNS = turning(9)


def _encoder(settings, recordings=TURNS):
    """The encoder before the first step."""
    run = open_recording_run(settings, on_one_device(), RecordingData(recordings, None, "turns"))
    training = prepare_training(run)
    state = run.start(training.init)
    return recording_encoder_of(settings, run.describe(training.batches), state)


@pytest.fixture(scope="module")
def cpc():
    return _encoder(cpc_settings())


@pytest.fixture(scope="module")
def cebra():
    return _encoder(cebra_settings())


@pytest.mark.parametrize("own", [["--encoder=features"], ["--encoder=wave", "--window=400"]])
def test_the_number_of_steps_is_the_network_s(own):
    settings = cpc_settings(*own, "--encoder_layers=2", "--prediction_steps=1")
    made = make_recording_method(settings.method, 3, None, on_one_device())
    params, state = jax.eval_shape(
        made.method.init, jax.random.key(0), {**made.shapes, "recorded": None}
    )
    for time in (160, 201, 319, 320, 321, 465, 1000):
        signal = jax.ShapeDtypeStruct((1, time, 3), np.float32)
        found = jax.eval_shape(made.over_time, params, state, signal)
        assert found.shape == (1, made.steps(time), 8)
    assert made.steps(3) == (3 if made.stride == 1 else 0)


def _normalised(encoder, signal):
    mean, std = (np.array(of) for of in (encoder.description.mean, encoder.description.std))
    return ((signal - mean) / std).astype(np.float32)


def test_contexts_are_those_of_each_recording_by_itself(cpc):
    made, _ = compiled_of(cpc)
    signals = [TURNS.of(i) for i in range(len(TURNS))]
    found = cpc.over_time(signals)
    for signal, of_it in zip(signals, found, strict=True):
        assert of_it.shape == (len(signal), 8)
        assert of_it.dtype == np.float32
        direct = made.over_time(cpc.params, cpc.state, _normalised(cpc, signal)[None])[0]
        np.testing.assert_allclose(of_it, direct, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cpc(signals[4]), found[4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        cpc.of_recording(signals[4]), found[4].mean(axis=0), rtol=1e-5, atol=1e-6
    )


def test_an_embedding_is_that_of_the_window_around_its_moment(cebra):
    made, _ = compiled_of(cebra)
    signal = TURNS.of(3)
    found = cebra(signal)
    assert found.shape == (len(signal), 3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    padded = with_borders(_normalised(cebra, signal), made.before, made.after)
    windows = windows_at(padded, np.arange(len(signal)) + made.before, made.before, made.after)
    np.testing.assert_array_equal(windows[0, made.before], _normalised(cebra, signal)[0])
    expected = made.method.features(cebra.params, cebra.state, windows)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("time", [1, 63, 64, 65, 100, 500])
def test_a_recording_of_any_length(cebra, time):
    """Also where it is exactly as long as what is compiled for."""
    signal = np.random.default_rng(0).standard_normal((time, 3))
    alone, beside = cebra(signal), cebra.over_time([signal, signal[:1]])[0]
    assert alone.shape == (time, 3)
    np.testing.assert_allclose(alone, beside, rtol=1e-5, atol=1e-6)


def test_waves_are_seen_in_steps():
    rng = np.random.default_rng(0)
    recordings = dataclasses.replace(turning(2, 1), signal=np.zeros((2, 1), np.float32))
    recordings = dataclasses.replace(
        recordings,
        signal=rng.standard_normal((3200, 1)).astype(np.float32),
        lengths=np.array([1600, 1600]),
        moment_labels=np.full(3200, -1, np.int32),
        moment_names=(),
        context=np.zeros((3200, 0), np.float32),
        rate=16000.0,
    )
    settings = cpc_settings("--window=1600", "--prediction_steps=2", "--encoder_layers=2")
    encoder = _encoder(settings, recordings)
    assert encoder.stride == 160
    signals = [recordings.of(0), recordings.of(1)[:901]]
    found = encoder.over_time(signals)
    assert [len(of) for of in found] == [10, 5]
    # What comes after a recording is silence, however much of it is computed.
    longer = encoder(np.concatenate([signals[1][:, 0], np.full(700, encoder.description.mean[0])]))
    np.testing.assert_allclose(found[1], longer[:5], rtol=1e-4, atol=1e-5)
    with pytest.raises(ArgumentError, match="of 3 moments is too short: the encoder makes no ste"):
        encoder(signals[0][:3])


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (np.zeros((4, 2)), r"signal=<array of shape \(4, 2\)> has 2 channels, and the encoder tak"),
        (np.zeros(4), "has 1 channels, and the encoder takes 3"),
        (np.zeros((1, 4, 3)), r"must be \[time, channels\], or \[time\] of one channel"),
        (np.full((4, 3), np.nan), "of recording 0 is nan at moment 0, column 0, as one of 12 such"),
        (np.array([["a"] * 3]), "of recording 0 has type <U1: it must hold numbers"),
        (
            np.zeros((0, 3)),
            r"of recording 0 has shape \(0, 3\): it must be \[time, columns\], none",
        ),
    ],
)
def test_signals_that_cannot_be_encoded(cpc, signal, message):
    with pytest.raises(ArgumentError, match=message):
        cpc(signal)


def test_of_several_the_one_that_cannot_be_encoded_is_named(cpc):
    with pytest.raises(ArgumentError, match=r"^signal=.* of recording 1 is inf at moment 0"):
        cpc.over_time([TURNS.of(0), np.full((4, 3), np.inf)])


def test_the_untrained_encoder_is_made_again(cpc):
    again = untrained_recording_encoder(dataclasses.replace(cpc, params=None, state=None, step=7))
    assert again.step == 0
    jax.tree.map(np.testing.assert_array_equal, again.params, cpc.params)


@pytest.mark.parametrize(
    "settings",
    [pytest.param(cpc_settings(), marks=pytest.mark.slow), cebra_settings()],
    ids=["cpc", "cebra"],
)
def test_what_was_trained_on_recordings_in_memory_is_loaded(tmp_path, settings):
    plain = dataclasses.replace(settings, data=RecordingDataSettings())
    encoder = pretrain_recordings(TURNS, plain, workdir=tmp_path / "run", mesh=on_one_device())
    loaded = load_recording_encoder(tmp_path / "run")
    assert loaded.step == encoder.step == encoder.description.total_steps(settings)
    assert loaded.description == encoder.description
    assert loaded.description.data == "arrays"
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, encoder.variables)
    np.testing.assert_array_equal(loaded(TURNS.of(0)), encoder(TURNS.of(0)))
    assert repr(loaded) == (
        f"RecordingEncoder({settings.method.label} on arrays, 3 channels, step {loaded.step})"
    )
    start = untrained_recording_encoder(loaded)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), start.params, loaded.params)
    assert max(jax.tree.leaves(moved)) > 1e-4


def test_folders_that_hold_no_such_encoder(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        load_recording_encoder(tmp_path)
    (tmp_path / "flags.txt").write_text("--method=contrastive\n")
    with pytest.raises(RunError, match="method contrastive is trained on images, and this is for"):
        load_recording_encoder(tmp_path)
    (tmp_path / "flags.txt").write_text("--method=cpc\n--num_seeds=2\n--seed=4\n")
    with pytest.raises(RunError, match=r"holds 2 runs, one per seed: give one .*/seed-4"):
        load_recording_encoder(tmp_path)


def test_settings_that_recordings_in_memory_do_not_read():
    with pytest.raises(ArgumentError, match="num_seeds=2 must be 1 here"):
        pretrain_recordings(TURNS, dataclasses.replace(cpc_settings(), num_seeds=2))
    with pytest.raises(ArgumentError, match="dataset=npz is set, and recordings in memory are"):
        pretrain_recordings(TURNS, cpc_settings("--dataset=npz"))
