"""Speakers for a speech synthesiser: vocal tracts, pitches and speeds, drawn."""

from dataclasses import astuple

import numpy as np

from experiments.sequences.espeak import Voice

# Those of eSpeak NG's variants that speak plainly, and without an echo, which would fill the
# silences: first women, then men.
_VARIANTS = (
    "f1", "Andrea", "Annie", "anika", "aunty", "belinda", "grandma", "linda", "shelby", "steph",
    "Alex", "Andy", "Denis", "Gene", "Hugo", "Mario", "Mike", "Nguyen", "boris", "ed", "gustave",
    "kaukovalta", "m1", "m3", "m4", "m6", "m7", "m8", "paul", "quincy",
)  # fmt: skip
_PITCHES, _RANGES, _RATES = (30, 70), (30, 70), (140, 200)


def draw_voices(count: int, rng: np.random.Generator) -> list[Voice]:
    """Voices of which no two are equal; each variant speaks once before any speaks again."""
    found: dict[tuple, Voice] = {}
    while len(found) < count:
        for variant in rng.permutation(_VARIANTS):
            pitch, spread, rate = (
                int(rng.integers(low, high, endpoint=True))
                for low, high in (_PITCHES, _RANGES, _RATES)
            )
            voice = Voice(str(variant), pitch, spread, rate)
            found[astuple(voice)] = voice
    return list(found.values())[:count]
