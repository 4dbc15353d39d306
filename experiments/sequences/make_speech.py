"""Synthetic speech with its speakers and phones, made here without a network.

    pip install -e '.[speech]'
    python -m experiments.sequences.make_speech --output=runs/speech

It is synthetic: the speech synthesiser eSpeak NG says sentences of a small grammar in voices that
differ in vocal tract, pitch and speed. Each voice's recordings lie in OUTPUT/train/speakerNN and
OUTPUT/test/speakerNN as .wav (16 bits, one channel), each beside a .csv with the header
start,end,label: from when to when, in seconds, which phone sounds. No sentence comes twice, so none
of the test set is in the training set. All recordings have the same loudness. README.txt in the
folder, which is written last, says what it holds, and sentences.csv what is said.

The same seed gives the same files to the bit, with the same version of the synthesiser: each
sentence is said in a process of its own.

eSpeak NG is free software under the GNU General Public License, version 3 or later. It comes with
the package espeakng-loader, which brings the library and its data, and whose metadata names no
licence of its own. Neither is part of this project, nor copied into what is written.
"""

import csv
import importlib.metadata
import io
import tempfile
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from scipy.signal import resample_poly

from alphacl_jax.errors import RunError
from alphacl_jax.files import replaced, write_text_atomically
from alphacl_jax.runs.common_settings import LARGEST_SEED
from experiments.benchmarks.benchmarking import usable_cores
from experiments.sequences.espeak import Voice, require_espeak, speak
from experiments.sequences.phones import Interval, intervals
from experiments.sequences.spoken_sentences import sentences
from experiments.sequences.voices import draw_voices
from experiments.theory.lab import no_empty_folder, progress

# The root mean square of a recording, where its highest sample stays below the other; 1 is the most
# that 16 bits hold. Without it a speaker would be told by the loudness alone.
_LOUDNESS, _PEAK = 0.05, 0.98
_LOWEST_RATE, _HIGHEST_RATE = 8_000, 48_000

_ABOUT = """\
Synthetic speech

Nobody spoke this. The speech synthesiser eSpeak NG {version} said sentences of a small grammar.
Made by experiments/sequences/make_speech.py of alphacl_jax with
  --seed={seed} --speakers={speakers} --sentences={sentences} --test_sentences={test_sentences}
  --rate={rate}
What is measured on it says something about synthetic speech, which varies less than people's.

train/speakerNN, test/speakerNN   one voice's recordings: {rate:,} samples per second, 16 bits
NUMBER.wav                        one sentence: sentences.csv says which; no two are equal, the
                                  words are those of one vocabulary
NUMBER.csv                        start,end,label: the phones, in seconds; "sil" is silence

{recordings:,} recordings, {minutes:.1f} minutes. All have the same loudness, and their silences
are exactly 0, but for the ripple of resampling in a millisecond at their borders.

Licences. eSpeak NG is under the GNU General Public License, version 3 or later. It came with the
package espeakng-loader {loader}, whose metadata names no licence of its own. Neither the program
nor its data are here, only what it said.

speaker    eSpeak NG's variant    pitch (0 to 99)    its range    words per minute
{voices}
"""


class Recording(NamedTuple):
    """One sentence of one speaker: where it lies, and what is drawn for it."""

    split: str
    speaker: str
    number: int
    voice: Voice
    text: str
    seed: int


class Made(NamedTuple):
    """What became of a recording: its length, and the synthesiser's version."""

    seconds: float
    version: str


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_string("output", "runs/speech", "The folder, new or empty.", flag_values=values)
    flags.DEFINE_integer("speakers", 24, "Voices.", 1, 999, flag_values=values)
    flags.DEFINE_integer(
        "sentences", 40, "Of each speaker, for training.", 1, 9_999, flag_values=values
    )
    flags.DEFINE_integer(
        "test_sentences", 10, "Of each speaker, for testing.", 0, 9_999, flag_values=values
    )
    flags.DEFINE_integer(
        "seed", 0, "Of voices, sentences and noise.", 0, LARGEST_SEED, flag_values=values
    )
    flags.DEFINE_integer(
        "rate",
        16_000,
        "Samples per second.",
        _LOWEST_RATE,
        _HIGHEST_RATE,
        flag_values=values,
    )


def plan(values: flags.FlagValues) -> list[list[Recording]]:
    """What is to be said, for each speaker."""
    for_voices, for_sentences, for_noise = np.random.default_rng(values.seed).spawn(3)
    voices = draw_voices(values.speakers, for_voices)
    each = values.sentences + values.test_sentences
    said = sentences(values.speakers * each, for_sentences)
    seeds = for_noise.integers(2**31, size=len(said))
    recordings = [
        Recording(
            "train" if number % each < values.sentences else "test",
            f"speaker{number // each:02}",
            number,
            voices[number // each],
            text,
            int(seeds[number]),
        )
        for number, text in enumerate(said)
    ]
    return [recordings[start : start + each] for start in range(0, len(said), each)]


def at_rate(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Int16 samples `[time]` at another rate, and all of them at one loudness."""
    ratio = Fraction(wanted, rate)
    signal = resample_poly(samples.astype(np.float64), ratio.numerator, ratio.denominator)
    signal /= max(np.sqrt(np.mean(signal**2)) / _LOUDNESS, np.abs(signal).max() / _PEAK, 1e-9)
    return np.round(signal * np.iinfo(np.int16).max).astype(np.int16)


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """Writes int16 samples `[time]` of one channel, whole or not at all."""
    with replaced(path) as partial, wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def write_intervals(path: Path, phones: Sequence[Interval]) -> None:
    """Writes start,end,label of each phone, whole or not at all."""
    rows = [(f"{start:.6f}", f"{end:.6f}", label) for start, end, label in phones]
    write_text_atomically(path, _table([("start", "end", "label"), *rows]))


def _table(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def make(folder: Path, rate: int, recording: Recording) -> Made:
    """Says one sentence, and writes the sound and its phones."""
    said = speak(recording.voice, recording.text, recording.seed)
    place = folder / recording.split / recording.speaker
    write_wav(place / f"{recording.number:05}.wav", at_rate(said.samples, said.rate, rate), rate)
    phones = intervals(said.phonemes, said.samples, said.rate)
    write_intervals(place / f"{recording.number:05}.csv", phones)
    return Made(len(said.samples) / said.rate, said.version)


def _ready(output: str) -> Path:
    """The folder, which is there then, is empty and can be written to."""
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RunError(f"--output={output} is not empty: empty it, or name another folder")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(f"--output={output} cannot be made or written to: {error}") from error
    return folder


def _describe(
    folder: Path,
    values: flags.FlagValues,
    planned: Sequence[Sequence[Recording]],
    made: Sequence[Made],
    minutes: float,
) -> None:
    """Writes what is said, and then what all this is."""
    rows = [
        (of.split, of.speaker, f"{of.number:05}", of.text)
        for recordings in planned
        for of in recordings
    ]
    write_text_atomically(
        folder / "sentences.csv", _table([("split", "speaker", "number", "text"), *rows])
    )
    voices = [(recordings[0].speaker, recordings[0].voice) for recordings in planned]
    about = _ABOUT.format(
        **values.flag_values_dict()
        | {
            "version": made[0].version,
            "loader": importlib.metadata.version("espeakng-loader"),
            "recordings": len(made),
            "minutes": minutes,
            "voices": "\n".join(
                f"{name:<11}{of.variant:<23}{of.pitch:<19}{of.range:<13}{of.rate}"
                for name, of in voices
            ),
        }
    )
    write_text_atomically(folder / "README.txt", about)


def run(values: flags.FlagValues) -> None:
    """Makes all recordings.

    Raises:
      RunError: where the synthesiser is missing or fails, or the folder cannot be used.
    """
    require_espeak()
    if not values.output:
        raise RunError("--output= is empty: name a folder, or leave it out")
    with no_empty_folder(Path(values.output)):
        folder = _ready(values.output)
        planned = plan(values)
        made: list[Made] = []
        with ThreadPoolExecutor(usable_cores()) as pool:
            for recordings in progress(planned, lambda of: of[0].speaker):
                for split in {of.split for of in recordings}:
                    (folder / split / recordings[0].speaker).mkdir(parents=True)
                made += pool.map(lambda of: make(folder, values.rate, of), recordings)
        minutes = sum(of.seconds for of in made) / 60
        _describe(folder, values, planned, made, minutes)
    size = sum(path.stat().st_size for path in folder.rglob("*.*")) / 1e6
    print(
        f"{folder}: {len(made):,} recordings of {len(planned)} synthetic voices, "
        f"{minutes:.1f} minutes, {size:,.1f} MB"
    )


if __name__ == "__main__":
    from alphacl_jax.cli.start import plain_errors, run_main

    def main(argv: Sequence[str]) -> None:
        del argv
        with plain_errors(flags.FLAGS):
            run(flags.FLAGS)

    define_flags()
    run_main(main, __doc__)
