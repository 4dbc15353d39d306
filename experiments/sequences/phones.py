"""Which phone is spoken when: from the synthesiser's events to intervals with the phones' names."""

from collections.abc import Sequence

import numpy as np

SILENCE = "sil"
_PAUSES = ("_", "_:")
# eSpeak NG's American English in the names of ARPAbet. Sounds that it tells apart by their stress
# or length alone have one name; vowels with an r, or a vowel, that it makes in one piece keep one.
_NAMES = {
    **dict.fromkeys(_PAUSES, SILENCE),
    **{name: name for name in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t")},
    **{name: name for name in ("v", "w", "z")},
    **{"h": "hh", "j": "y", ";": "y", "r-": "r", "t#": "dx"},
    **{"D": "dh", "T": "th", "S": "sh", "Z": "zh", "tS": "ch", "dZ": "jh", "N": "ng"},
    **{"@": "ax", "@2": "ax", "a#": "ax", "@L": "el", "3": "er", "3:": "er"},
    **{"I": "ih", "I2": "ih", "I#": "ih", "i": "iy", "i:": "iy", "E": "eh", "a": "ae", "aa": "ae"},
    **{"0": "aa", "A:": "aa", "O:": "ao", "O2": "ao", "V": "ah", "U": "uh", "u:": "uw"},
    **{"eI": "ey", "aI": "ay", "OI": "oy", "oU": "ow", "aU": "aw"},
    **{"A@": "aar", "O@": "aor", "o@": "aor", "e@": "ehr", "i@3": "ihr", "U@": "uhr"},
    **{"aI3": "ayr", "aI@": "ayax", "i@": "iyax"},
}
NAMES = tuple(sorted(set(_NAMES.values())))
_STRESSES = "',%="
# Shorter stretches of zeros may lie within a sound.
_SHORTEST_SILENCE = 0.005

Interval = tuple[float, float, str]


def phone_of(phoneme: str) -> str:
    """The phone's name; that of a phoneme which is not listed is its own, without its stress."""
    plain = phoneme.lstrip(_STRESSES)
    return _NAMES.get(plain, plain)


def intervals(
    phonemes: Sequence[tuple[int, str]], samples: np.ndarray, rate: int
) -> list[Interval]:
    """Who sounds from when to when, without gaps from 0 to the end.

    The synthesiser tells when a phone begins. What is exactly silent before the next one, as the
    closure of a stop is, for which there is no event, counts as silence and not as that phone.

    Args:
      phonemes: the first sample of each and its name, in the order of time.
      samples: int16 `[time]`, what was spoken.
      rate: samples per second.

    Returns:
      Start and end in seconds, and the phone; no phone is empty, no silence follows another.
    """
    sounding = np.flatnonzero(samples)
    begins = [*(min(start, len(samples)) for start, _ in phonemes), len(samples)]
    pieces = [(0, begins[0], SILENCE)]
    for (_, name), start, end in zip(phonemes, begins[:-1], begins[1:], strict=True):
        phone = phone_of(name)
        last = int(np.searchsorted(sounding, end))
        quiet = max(start, int(sounding[last - 1]) + 1 if last else 0)
        if phone == SILENCE or end - quiet < _SHORTEST_SILENCE * rate:
            quiet = end
        pieces += [(start, quiet, phone), (quiet, end, SILENCE)]
    joined: list[tuple[int, int, str]] = []
    for start, end, phone in pieces:
        if start == end:
            continue
        if joined and phone == SILENCE == joined[-1][2]:
            start = joined.pop()[0]
        joined.append((start, end, phone))
    return [(start / rate, end / rate, phone) for start, end, phone in joined]
