"""Speech and the moments of its phones by eSpeak NG, through the package espeakng-loader."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from alphacl_jax.errors import RunError

_CHILD = Path(__file__).with_name("espeak_child.py")
_LANGUAGE = "en-us"
_SECONDS = 120.0  # more than a sentence takes on a machine that is busy with other things


@dataclass(frozen=True)
class Voice:
    """Who speaks.

    Attributes:
      variant: of eSpeak NG's voices: a vocal tract and a manner, of which it has some dozens.
      pitch: 0 to 99, 50 is the variant's own.
      range: of the pitch, 0 (monotone) to 99.
      rate: words per minute, of which the variant's own is a multiple.
    """

    variant: str
    pitch: int
    range: int
    rate: int


@dataclass(frozen=True, eq=False)
class Utterance:
    """What one voice said.

    Attributes:
      samples: int16 `[time]`.
      rate: samples per second.
      phonemes: the first sample of each, and its name as eSpeak NG has it, in the order of time.
      version: eSpeak NG's.
    """

    samples: np.ndarray
    rate: int
    phonemes: tuple[tuple[int, str], ...]
    version: str


def require_espeak() -> None:
    """Refuses to begin where the synthesiser is missing.

    Raises:
      RunError: naming what to install.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise RunError(
            "espeakng-loader is not installed, and it brings the synthesiser eSpeak NG: "
            "pip install -e '.[speech]'"
        )


def speak(voice: Voice, text: str, seed: int) -> Utterance:
    """Says a text; the same arguments give the same samples, in any order of calls.

    Args:
      voice: who says it.
      text: English.
      seed: of the synthesiser's noise, 0 to 2³¹ − 1.

    Raises:
      RunError: where the synthesiser fails, with what it said.
    """
    import espeakng_loader

    request = {
        "library": espeakng_loader.get_library_path(),
        "data": espeakng_loader.get_data_path(),
        "voice": f"{_LANGUAGE}+{voice.variant}",
        **asdict(voice),
        "text": text,
        "seed": seed,
    }
    # Isolated and without packages, which would be most of its start.
    command = [sys.executable, "-I", "-S", str(_CHILD)]
    try:
        done = subprocess.run(
            command, input=json.dumps(request).encode(), capture_output=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        problem = f"eSpeak NG did not end in {_SECONDS:.0f} s"
        raise RunError(f"{problem} on {text!r} in the voice {voice}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise RunError(f"eSpeak NG failed on {text!r} in the voice {voice}: {said}")
    header, _, samples = done.stdout.partition(b"\n")
    told = json.loads(header)
    return Utterance(
        np.frombuffer(samples, np.int16),
        told["rate"],
        tuple((sample, name) for sample, name in told["phonemes"]),
        told["version"],
    )
