"""Synthetic speech: what needs no synthesiser, and, where there is one, what it says."""

import csv
import importlib.util
import wave
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from alphacl_jax.errors import RunError
from experiments.sequences import make_speech, phones
from experiments.sequences.espeak import Voice, speak
from experiments.sequences.phones import intervals
from experiments.sequences.spoken_sentences import sentences
from experiments.sequences.voices import draw_voices

HAS_ESPEAK = importlib.util.find_spec("espeakng_loader") is not None
needs_espeak = pytest.mark.skipif(not HAS_ESPEAK, reason="needs the extra [speech]")
RATE = 22_050


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def settings(output: Path | str, **given: int) -> flags.FlagValues:
    values = flags.FlagValues()
    make_speech.define_flags(values)
    values.mark_as_parsed()
    for name, value in {"output": str(output), **given}.items():
        setattr(values, name, value)
    return values


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_sentences_are_different_and_repeat():
    said = sentences(2000, rng())
    assert len(set(said)) == 2000
    assert said == sentences(2000, rng())
    assert said != sentences(2000, rng(1))
    assert all(text[0].isupper() and text[-1] in ".?" for text in said)


def test_articles_and_verbs_agree():
    said = sentences(5000, rng())
    texts = " ".join(said).lower()
    assert " an old " in texts
    assert " a old " not in texts
    assert " an youth " not in texts
    for wrong in ("a farmers ", "these farmer ", "every farmers ", "the farmers watches "):
        assert wrong not in texts
    # In the present one does and many do; in a question the verb has no ending.
    subjects = {text.split()[1] for text in said if text.startswith("Do ")}
    assert subjects <= {"the", "these", "those", "some", "many", "two", "three", "four", "seven",
                        "eight"}  # fmt: skip
    subjects = {text.split()[1] for text in said if text.startswith("Does ")}
    assert subjects <= {"the", "a", "an", "this", "that", "every", "one"}


def test_voices_are_different_and_a_longer_draw_begins_as_a_shorter_one():
    voices = draw_voices(200, rng())
    assert len(set(voices)) == 200
    assert draw_voices(24, rng()) == voices[:24]
    # No tract speaks twice before all have spoken.
    assert len({voice.variant for voice in voices[:30]}) == 30
    assert draw_voices(24, rng(1)) != voices[:24]
    assert all(0 <= voice.pitch <= 99 and 80 <= voice.rate <= 450 for voice in voices)


def test_plan_says_nothing_twice_and_splits_each_speaker():
    planned = make_speech.plan(settings("x", speakers=3, sentences=5, test_sentences=2))
    assert [[of.split for of in each] for each in planned] == [["train"] * 5 + ["test"] * 2] * 3
    assert [each[0].speaker for each in planned] == ["speaker00", "speaker01", "speaker02"]
    assert [of.number for each in planned for of in each] == list(range(21))
    texts = {
        split: {of.text for each in planned for of in each if of.split == split}
        for split in ("train", "test")
    }
    assert len(texts["train"]) == 15
    assert len(texts["test"]) == 6
    assert not texts["train"] & texts["test"]
    assert len({of.seed for each in planned for of in each}) == 21
    again = make_speech.plan(settings("x", speakers=3, sentences=5, test_sentences=2))
    assert planned == again
    other = make_speech.plan(settings("x", speakers=3, sentences=5, test_sentences=2, seed=1))
    assert {of.text for each in other for of in each}.isdisjoint(texts["train"])
    assert {each[0].voice for each in other} != {each[0].voice for each in planned}


def test_intervals_follow_one_another_and_closures_are_silence():
    samples = np.ones(1000, np.int16)
    samples[:10] = samples[260:300] = samples[395:400] = samples[800:] = 0
    phonemes = [(10, "'A@"), (300, "t"), (400, "@2"), (500, ";"), (500, "s"), (800, "_:"),
                (1000, "_")]  # fmt: skip
    found = [(start, end, label) for start, end, label in intervals(phonemes, samples, 1)]
    # At one sample a second every zero before the next phone is long enough.
    assert found == [
        (0, 10, "sil"),
        (10, 260, "aar"),
        (260, 300, "sil"),
        (300, 395, "t"),
        (395, 400, "sil"),
        (400, 500, "ax"),
        (500, 800, "s"),
        (800, 1000, "sil"),
    ]
    # At 4,000 the five zeros, 1.25 ms, lie within a sound.
    at_4000 = intervals(phonemes, samples, 4000)
    assert [label for _, _, label in at_4000] == ["sil", "aar", "sil", "t", "ax", "s", "sil"]
    assert at_4000[3] == (300 / 4000, 400 / 4000, "t")


def test_intervals_of_nothing_and_of_events_beyond_the_end():
    assert intervals([], np.zeros(100, np.int16), 100) == [(0, 1, "sil")]
    assert intervals([(0, "s"), (700, "z")], np.ones(100, np.int16), 100) == [(0, 1, "s")]


@pytest.mark.parametrize(
    ("phoneme", "phone"),
    [("'i:", "iy"), (",aU", "aw"), ("_:", "sil"), ("t", "t"), ("@2", "ax"), ("Q!", "Q!")],
)
def test_names_have_no_stress(phoneme, phone):
    assert phones.phone_of(phoneme) == phone


def test_tables_of_phones(tmp_path):
    path = tmp_path / "a.csv"
    make_speech.write_intervals(path, [(0.0, 1 / 3, "sil"), (1 / 3, 0.5, 'o",')])
    assert path.read_text().startswith("start,end,label\n0.000000,0.333333,sil\n")
    rows = rows_of(path)
    assert [row["label"] for row in rows] == ["sil", 'o",']
    assert list(tmp_path.iterdir()) == [path]


def test_sound_files(tmp_path):
    path = tmp_path / "a.wav"
    samples = np.array([0, 1, -2, 32767, -32768], np.int16)
    make_speech.write_wav(path, samples, 16_000)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        assert np.array_equal(np.frombuffer(file.readframes(9), "<i2"), samples)
    assert list(tmp_path.iterdir()) == [path]


def test_another_rate_keeps_the_tone_and_its_time():
    time = np.arange(RATE) / RATE
    tone = (3000 * np.sin(2 * np.pi * 440 * time) * (time > 0.5)).astype(np.int16)
    made = make_speech.at_rate(tone, RATE, 16_000)
    assert len(made) == 16_000
    spectrum = np.abs(np.fft.rfft(made[8_000:] / 2**15))
    assert np.argmax(spectrum) == 220  # of half a second: 440 Hz
    level = np.sqrt(np.mean((made / 2**15) ** 2))
    assert level == pytest.approx(0.05, rel=1e-3)
    assert np.abs(made[:7_900]).max() <= 3  # the filter's ripple, of 16 bits
    # What is loud and what is quiet become one; a click stays below full scale; nothing stays so.
    assert np.abs(make_speech.at_rate(tone // 4, RATE, 16_000) - made).max() <= 8
    click = np.zeros(RATE, np.int16)
    click[1000] = 20_000
    assert np.abs(make_speech.at_rate(click, RATE, 16_000)).max() <= 0.98 * 2**15
    assert not make_speech.at_rate(np.zeros(RATE, np.int16), RATE, 16_000).any()


def test_a_missing_synthesiser_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"espeakng-loader is not installed.*'\.\[speech\]'"):
        make_speech.run(settings(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_folders_that_cannot_be_used(tmp_path, monkeypatch):
    monkeypatch.setattr(make_speech, "require_espeak", lambda: None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("x")
    with pytest.raises(RunError, match="is not empty: empty it, or name another"):
        make_speech.run(settings(tmp_path / "full"))
    for path in (tmp_path / "full" / "kept", tmp_path / "full" / "kept" / "below"):
        with pytest.raises(RunError, match=r"--output=.*cannot be made or written to"):
            make_speech.run(settings(path))
    with pytest.raises(RunError, match="--output= is empty"):
        make_speech.run(settings(""))
    assert (tmp_path / "full" / "kept").read_text() == "x"


def test_a_synthesiser_that_fails_says_on_what(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    child.write_text("import sys; sys.exit('no voice')")
    module = type("Loader", (), {"get_library_path": lambda: "", "get_data_path": lambda: ""})
    monkeypatch.setitem(__import__("sys").modules, "espeakng_loader", module)
    monkeypatch.setattr("experiments.sequences.espeak._CHILD", child)
    with pytest.raises(RunError, match=r"failed on 'Hm\.' in the voice .*: no voice"):
        speak(Voice("m3", 50, 50, 170), "Hm.", 0)
    child.write_text("import os; os.abort()")
    with pytest.raises(RunError, match="exit code -6"):
        speak(Voice("m3", 50, 50, 170), "Hm.", 0)


@needs_espeak
def test_speech_is_the_same_again_and_its_phones_fit_its_sound(tmp_path):
    for name in ("a", "b"):
        given = {"speakers": 2, "sentences": 2, "test_sentences": 1}
        make_speech.run(settings(tmp_path / name, **given))
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 2 + 2 * 6
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    about = (tmp_path / "a" / "README.txt").read_text()
    for word in ("Nobody spoke this", "eSpeak NG 1.", "--seed=0", "General Public License"):
        assert word in about
    loud = {"quiet": [], "sounding": []}
    for path in (tmp_path / "a").rglob("0*.wav"):
        with wave.open(str(path)) as file:
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 2**15
        rows = rows_of(path.with_suffix(".csv"))
        ends = [float(row["end"]) for row in rows]
        assert [float(row["start"]) for row in rows] == [0.0, *ends[:-1]]
        assert ends[-1] == pytest.approx(len(sound) / 16_000, abs=1e-4)
        assert {row["label"] for row in rows} <= set(phones.NAMES)
        for row, end in zip(rows, ends, strict=True):
            # What is left out is the resampling filter's reach.
            part = sound[round(float(row["start"]) * 16_000) + 16 : round(end * 16_000) - 16]
            kind = "quiet" if row["label"] == phones.SILENCE else "sounding"
            loud[kind] += [np.sqrt(np.mean(part**2))] if len(part) else []
    assert len(loud["sounding"]) > 100
    assert max(loud["quiet"]) < 1e-3
    assert min(loud["sounding"]) > 1e-3


@needs_espeak
def test_voices_are_the_synthesisers(monkeypatch):
    import espeakng_loader

    known = {path.name for path in (Path(espeakng_loader.get_data_path()) / "voices/!v").iterdir()}
    assert {voice.variant for voice in draw_voices(30, rng())} <= known
    monkeypatch.setattr("experiments.sequences.espeak._LANGUAGE", "xx")
    with pytest.raises(RunError, match=r"there is no voice xx\+m3"):
        speak(Voice("m3", 50, 50, 170), "Hm.", 0)
