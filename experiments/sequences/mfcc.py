"""Mel-frequency cepstral coefficients: what speech was recognised by before networks learned it.

Of each frame: the power spectrum under a Hann window, its energies in triangles that are equally
wide and apart in mel, their logarithms, and of these the first coefficients of the cosine transform
of type II, orthonormal.

References:
  Davis and Mermelstein 1980, "Comparison of parametric representations for monosyllabic word
  recognition in continuously spoken sentences" (doi:10.1109/TASSP.1980.1163420).
"""

import numpy as np
from scipy.fft import dct, rfft
from scipy.signal import get_window

from alphacl_jax.errors import ArgumentError

_FLOOR = 1e-10  # of an energy: the logarithm of a silence
_REACH = 2  # steps on either side that a slope is fitted to


def mel_of(hertz: np.ndarray) -> np.ndarray:
    """The mel scale of O'Shaughnessy: 2595 log₁₀(1 + f / 700)."""
    found: np.ndarray = 2595 * np.log10(1 + hertz / 700)
    return found


def hertz_of(mel: np.ndarray) -> np.ndarray:
    """The inverse of `mel_of`."""
    found: np.ndarray = 700 * (10 ** (mel / 2595) - 1)
    return found


def mel_filters(bins: int, rate: float, filters: int) -> np.ndarray:
    """Triangles `[filters, bins]` over the frequencies from 0 to half of `rate`.

    Each rises from 0 at the middle of the one before to 1 at its own, and falls to 0 at the middle
    of the next; middles are equally far apart in mel.
    """
    frequency = np.linspace(0, rate / 2, bins)
    edges = hertz_of(np.linspace(0, mel_of(np.array(rate / 2)), filters + 2))
    low, middle, high = (edges[i : i + filters, None] for i in range(3))
    rising = (frequency - low) / (middle - low)
    falling = (high - frequency) / (high - middle)
    found: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    return found


def mfcc(
    signal: np.ndarray,
    rate: float,
    hop: int,
    *,
    frame: int | None = None,
    filters: int = 26,
    coefficients: int = 13,
) -> np.ndarray:
    """Coefficients `[steps, coefficients]` of a signal `[time]`, a step for each `hop` moments.

    Frame i has its middle at moment `i·hop + hop/2`, with zeros before the start and after the end.

    Args:
      signal: of one channel.
      rate: moments per second.
      hop: moments from one frame to the next.
      frame: moments of a frame; None for 25 ms.
      filters: triangles.
      coefficients: how many are kept, the first, the energy, among them.

    Raises:
      ArgumentError: for numbers that do not fit, or a signal without a step.
    """
    width = round(0.025 * rate) if frame is None else frame
    if not 1 <= hop <= len(signal):
        problem = f"must be at least 1 and at most the signal's {len(signal)} moments"
        raise ArgumentError("hop", hop, problem)
    if width < hop:
        raise ArgumentError("frame", width, f"must be at least the hop, {hop} moments")
    if not 1 <= coefficients <= filters:
        problem = f"must be at least 1 and at most the {filters} filters"
        raise ArgumentError("coefficients", coefficients, problem)
    steps = len(signal) // hop
    before = width // 2 - hop // 2
    after = max(0, (steps - 1) * hop + width - before - len(signal))
    padded = np.pad(np.asarray(signal, np.float64), (before, after))
    frames = padded[np.arange(steps)[:, None] * hop + np.arange(width)]
    points = 2 ** (width - 1).bit_length()
    power = np.abs(rfft(frames * get_window("hann", width), points)) ** 2 / points
    energies = power @ mel_filters(power.shape[1], rate, filters).T
    logs = np.log(np.maximum(energies, _FLOOR))
    found: np.ndarray = dct(logs, norm="ortho")[:, :coefficients]
    return found


def with_slopes(features: np.ndarray) -> np.ndarray:
    """Features `[steps, dim]`, beside them their slopes, and the slopes of these: `[steps, 3 dim]`.

    A slope is that of the least-squares line through five steps; at the ends the first and the last
    step are repeated.
    """
    first = _slopes(features)
    return np.hstack([features, first, _slopes(first)])


def _slopes(x: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((_REACH, _REACH), (0, 0)), mode="edge")
    weights = np.arange(-_REACH, _REACH + 1)
    moved = (w * padded[_REACH + w : _REACH + w + len(x)] for w in weights)
    found: np.ndarray = sum(moved, np.zeros_like(x)) / (weights**2).sum()
    return found
