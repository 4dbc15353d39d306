"""Says one sentence by eSpeak NG; a program that `espeak.py` runs in a process of its own.

The library keeps a state between sentences that its seed does not reset, so that only the first of
a process can be repeated to the bit; and where it crashes, it takes no other sentence along. This
reads a request as JSON and writes a line of JSON, then the samples. It imports Python's own modules
alone, since the start is most of its time.
"""

import ctypes
import json
import sys
from typing import Any

_SYNCHRONOUS, _DEFAULT_BUFFER = 2, 0
_PHONEME_EVENTS, _RETURN_ERRORS = 0x0001, 0x8000  # options of espeak_Initialize
_UTF8, _FROM_CHARACTER = 1, 1
_PHONEME = 7  # a type of event; 0 ends a list of them
# The numbers of the parameters that a request may set.
_PARAMETERS = {"rate": 1, "pitch": 3, "range": 4}


class _Id(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # in ms; `sample` is the same in samples
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def _say(request: dict[str, Any]) -> tuple[str, int, list[tuple[int, str]], bytes]:
    """The library's version, the rate, the first sample and name of each phoneme, the samples."""
    library = ctypes.CDLL(request["library"])
    options = _PHONEME_EVENTS | _RETURN_ERRORS
    rate = library.espeak_Initialize(
        _SYNCHRONOUS, _DEFAULT_BUFFER, request["data"].encode(), options
    )
    if rate <= 0:
        sys.exit(f"espeak_Initialize finds no data in {request['data']}")
    samples, phonemes = bytearray(), []

    @_Callback
    def receive(wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            samples.extend(ctypes.string_at(wave, count * ctypes.sizeof(ctypes.c_short)))
        number = 0
        while (event := events[number]).type:
            if event.type == _PHONEME:
                phonemes.append((event.sample, event.id.string.decode()))
            number += 1
        return 0

    library.espeak_SetSynthCallback(receive)
    # Without it the seed is the time.
    library.espeak_ng_SetRandSeed(ctypes.c_long(request["seed"]))
    if library.espeak_SetVoiceByName(request["voice"].encode()):
        sys.exit(f"there is no voice {request['voice']}")
    for name, number in _PARAMETERS.items():
        library.espeak_SetParameter(number, request[name], 0)
    text = request["text"].encode()
    size = ctypes.c_size_t(len(text) + 1)
    if library.espeak_Synth(text, size, 0, _FROM_CHARACTER, 0, _UTF8, None, None):
        sys.exit("espeak_Synth failed")
    library.espeak_Info.restype = ctypes.c_char_p
    version = library.espeak_Info(ctypes.byref(ctypes.c_char_p())).decode()
    return version, rate, phonemes, bytes(samples)


def _main() -> None:
    version, rate, phonemes, samples = _say(json.load(sys.stdin))
    header = json.dumps({"version": version, "rate": rate, "phonemes": phonemes})
    sys.stdout.buffer.write(header.encode() + b"\n" + samples)


if __name__ == "__main__":
    _main()
