"""Folders of sound made up for tests: a pitch for each speaker, and one for what is said."""

from pathlib import Path

import numpy as np

from experiments.sequences.make_speech import write_intervals, write_wav

RATE = 8000


def tone(hertz: float, moments: int, rng: np.random.Generator) -> np.ndarray:
    """Int16, with a little noise."""
    wave = np.sin(2 * np.pi * hertz * np.arange(moments) / RATE)
    return np.round(3000 * (wave + 0.1 * rng.normal(size=moments))).astype(np.int16)


def write_speech(folder: Path, *, speakers: int = 2, train: int = 5, test: int = 2) -> None:
    """As `make_speech` does: a voice is a pitch; silence, "aa", "iy", each 100 ms."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for speaker in range(speakers):
            place = folder / part / f"speaker{speaker:02}"
            place.mkdir(parents=True)
            for number in range(count):
                pieces = [np.zeros(RATE // 10, np.int16)]
                pieces += [
                    tone(200 * (speaker + 1) + hertz, RATE // 10, rng) for hertz in (300, 2300)
                ]
                write_wav(place / f"{number:05}.wav", np.concatenate(pieces), RATE)
                phones = [(0.0, 0.1, "sil"), (0.1, 0.2, "aa"), (0.2, 0.3, "iy")]
                write_intervals(place / f"{number:05}.csv", phones)


def write_digits(folder: Path, *, speakers: int = 2, indices: int = 8) -> None:
    """As SPEAKER/DIGIT_INDEX.wav, of 150 ms and more."""
    rng = np.random.default_rng(0)
    for speaker in range(speakers):
        place = folder / f"speaker{speaker}"
        place.mkdir(parents=True)
        for digit in range(10):
            for index in range(indices):
                samples = tone(300 * (digit + 1) + 50 * speaker, 1200 + 100 * index, rng)
                write_wav(place / f"{digit}_{index:02}.wav", samples, RATE)
