"""Raw waves: cepstra step by step beside the encoder's, what settings must fit, bad folders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.data.sequences import recordings_from_arrays
from alphacl_jax.errors import ArgumentError
from experiments.sequences import speech, spoken_digits, waves
from experiments.sequences.mfcc import mfcc
from experiments.sequences.speech import Moments
from experiments.sequences.training import Trained
from experiments.studies.report import as_bits
from tests.experiments.sequences.made_waves import RATE, write_digits, write_speech
from tests.experiments.sequences.test_experiment import make_experiment
from tests.tiny_runs import assert_picture


def test_an_encoder_makes_as_many_steps_as_there_are_cepstra():
    rng = np.random.default_rng(0)
    lengths = (waves.HOP * 7, waves.HOP * 7 + 159, 40)
    recordings = recordings_from_arrays([rng.normal(size=n) for n in lengths], rate=RATE)
    found = waves.cepstra(recordings)
    assert [of.shape for of in found] == [(7, 39), (7, 39), (1, 39)]
    np.testing.assert_array_equal(found[0][:, :13], mfcc(recordings.of(0)[:, 0], RATE, waves.HOP))
    encoder, _, hop = waves.networks_of(waves.WaveSettings(width=4))
    shape = jax.eval_shape(
        lambda x: encoder.init_with_output(jax.random.key(0), x, train=False)[0],
        jnp.zeros((1, 7 * hop, 1)),
    ).shape
    assert shape == (1, 7, 4)


def test_a_window_must_be_longer_than_what_is_predicted():
    message = "window=1920 makes 12 steps of 160 moments, and predicted_steps=12 are to come"
    with pytest.raises(ArgumentError, match=message):
        waves.WaveSettings(window=1920)
    assert waves.WaveSettings(window=2080).window == 2080


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("speech")
    write_speech(root)
    return root


@pytest.fixture(scope="module")
def data(folder):
    return speech.load_speech(speech.SpeechSettings(data_dir=str(folder)))


def test_moments_are_steps_whose_phone_is_known(data):
    assert data.train.moment_names == ("aa", "iy", "sil")
    steps = [np.arange(15.0)[:, None] + 100 * i for i in range(4)]
    found = Moments(data.test).of(steps, "phone")
    # A step has 20 ms: the first five are silent.
    np.testing.assert_array_equal(found.recording, np.repeat(np.arange(4), 10))
    np.testing.assert_array_equal(found.y, np.tile([0] * 5 + [1] * 5, 4))
    np.testing.assert_array_equal(found.x[10:20, 0], 100 + np.arange(5, 15))
    np.testing.assert_array_equal(Moments(data.test).of(steps, "speaker").y, [0] * 20 + [1] * 20)
    some = Moments(data.test, 7)
    assert len(some.of(steps, "phone").x) == 7
    np.testing.assert_array_equal(some.of(steps, "phone").x, some.of(steps, "speaker").x)
    assert (np.diff(some.of(steps, "phone").recording) >= 0).all()


def test_cepstra_tell_made_up_phones_and_speakers(data):
    own = speech.SpeechSettings(probe_moments=60)
    found = speech.figures(own, data, *map(waves.cepstra, data), 0)
    assert set(found) == {"speaker", "speaker_hidden", "phone", "phone_hidden", "speaker_whole"}
    assert found["phone"].shares().mean() > 0.9
    assert found["speaker_whole"].right.all()


def test_a_supervised_network_is_asked_for_what_it_was_trained_for(data):
    kernel = np.eye(3)[:2]
    trained = Trained({"classifier": {"kernel": kernel, "bias": np.zeros(3)}}, {}, {})
    # What says "aa" for five steps of sound and "iy" for the next, and speaker 0 always.
    says = np.repeat([[1.0, 0], [1, 0], [0, 1.001]], 5, axis=0)
    test = [says] * 4
    assert speech.own_layer(speech.OF_PHONES, trained, data, test)["phone"].right.all()
    (found,) = speech.own_layer(speech.OF_SPEAKERS, trained, data, test).values()
    np.testing.assert_array_equal(found.right, [True, True, False, False])
    assert speech.own_layer(speech.CPC, trained, data, test) == {}


def test_a_folder_without_phones_or_parts_is_refused(tmp_path):
    write_digits(tmp_path / "digits", indices=1)
    with pytest.raises(ArgumentError, match="has no test part"):
        speech.load_speech(speech.SpeechSettings(data_dir=str(tmp_path / "digits")))
    write_speech(tmp_path / "speech", train=1, test=1)
    for path in (tmp_path / "speech").rglob("*.csv"):
        path.unlink()
    with pytest.raises(ArgumentError, match="says of no moment which phone sounds"):
        speech.load_speech(speech.SpeechSettings(data_dir=str(tmp_path / "speech")))


def test_digits_are_parted_by_their_index(tmp_path):
    write_digits(tmp_path)
    found = spoken_digits.load_digits(str(tmp_path))
    assert (len(found.train), len(found.test)) == (2 * 10 * 3, 2 * 10 * 5)
    for part in found:
        wanted = [int(name.split("/")[-1][0]) for name in part.names]
        np.testing.assert_array_equal(spoken_digits.digits_of(part), wanted)
    assert {name.split("_")[-1] for name in found.train.names} == {"05.wav", "06.wav", "07.wav"}
    assert found.train.class_names == ("speaker0", "speaker1")


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (("0_00.wav", "zero.wav"), r"has speaker0/zero\.wav, whose name is no DIGIT_INDEX"),
        (None, "must have files of indices below 5, to test, and of others, to train on"),
    ],
)
def test_digits_of_other_names_are_refused(tmp_path, rename, message):
    write_digits(tmp_path, indices=1)
    if rename:
        (tmp_path / "speaker0" / rename[0]).rename(tmp_path / "speaker0" / rename[1])
    with pytest.raises(ArgumentError, match=message):
        spoken_digits.load_digits(str(tmp_path))


def _cells(*accuracies):
    right = {
        key: as_bits(np.arange(400) < 400 * accuracy)
        for key, accuracy in zip(("speaker", "phone", "digit"), accuracies, strict=True)
    }
    return [{"correct": right}] * 3


@pytest.mark.parametrize(
    ("module", "target", "of_target"),
    [
        (speech, "phone", speech.OF_PHONES),
        (spoken_digits, "digit", spoken_digits.OF_DIGITS),
    ],
)
def test_the_published_order_is_claimed_of_each_target(module, target, of_target):
    rows = {
        waves.UNTRAINED: _cells(0.5, 0.2, 0.2),
        waves.MFCC: _cells(0.4, 0.4, 0.4),
        module.CPC: _cells(0.9, 0.6, 0.6),
        module.OF_SPEAKERS: _cells(0.9, 0, 0),
        of_target: _cells(0, 0.8, 0.8),
    }
    found = {claim.text: claim.verdict for claim in module.claims(rows)}
    assert found == {
        "speaker, linear: MFCC is better than untrained network": "does not hold",
        "speaker, linear: CPC is better than untrained network": "holds",
        "speaker, linear: CPC is better than MFCC": "holds",
        "speaker, linear: supervised, speakers is better than CPC": "not settled",
        f"{target}, linear: MFCC is better than untrained network": "holds",
        f"{target}, linear: CPC is better than untrained network": "holds",
        f"{target}, linear: CPC is better than MFCC": "holds",
        f"{target}, linear: {of_target} is better than CPC": "holds",
    }


@pytest.mark.slow
@pytest.mark.parametrize("module", [speech, spoken_digits])
def test_quick(tmp_path, capsys, module):
    write = write_speech if module is speech else write_digits
    write(tmp_path / "sound", speakers=4)
    arguments = ("--quick", f"--data_dir={tmp_path / 'sound'}", "--batch_size=8")
    module.run(make_experiment(tmp_path / "out", *arguments, own=module.OWN))
    out = capsys.readouterr().out
    assert "of 4 voices" in out or "that 4 people said" in out
    for row in (waves.UNTRAINED, waves.MFCC, module.CPC, module.OF_SPEAKERS):
        assert f"\n{row} " in out
    assert_picture(tmp_path / "out" / ("speech.png" if module is speech else "digits.png"))
