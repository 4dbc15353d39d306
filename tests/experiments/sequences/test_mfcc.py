"""Cepstral coefficients against plain loops over their definition."""

import math

import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from experiments.sequences.mfcc import hertz_of, mel_filters, mel_of, mfcc, with_slopes

RATE, HOP, FRAME, FILTERS, KEPT = 800.0, 8, 20, 6, 4
SIGNAL = np.random.default_rng(0).normal(size=67)


def _by_hand(signal):
    """Loops over frames, frequencies, triangles and coefficients."""
    steps, points = len(signal) // HOP, 32  # the power of two from 20 on
    found = np.zeros((steps, KEPT))
    mel = [i * 2595 * math.log10(1 + RATE / 2 / 700) / (FILTERS + 1) for i in range(FILTERS + 2)]
    edges = [700 * (10 ** (m / 2595) - 1) for m in mel]
    for step in range(steps):
        start = step * HOP + HOP // 2 - FRAME // 2
        frame = [
            (signal[start + i] if 0 <= start + i < len(signal) else 0.0)
            * (0.5 - 0.5 * math.cos(2 * math.pi * i / FRAME))
            for i in range(FRAME)
        ]
        logs = []
        for f in range(FILTERS):
            energy = 0.0
            for b in range(points // 2 + 1):
                frequency = b * RATE / points
                x = sum(frame[i] * np.exp(-2j * math.pi * b * i / points) for i in range(FRAME))
                low, middle, high = edges[f : f + 3]
                if low < frequency < high:
                    up, down = (
                        (frequency - low) / (middle - low),
                        (high - frequency) / (high - middle),
                    )
                    energy += min(up, down) * abs(x) ** 2 / points
            logs.append(math.log(max(energy, 1e-10)))
        for c in range(KEPT):
            scale = math.sqrt((1 if c == 0 else 2) / FILTERS)
            angles = [math.pi * c * (2 * f + 1) / (2 * FILTERS) for f in range(FILTERS)]
            found[step, c] = scale * sum(
                log * math.cos(angle) for log, angle in zip(logs, angles, strict=True)
            )
    return found


@pytest.mark.parametrize("signal", [SIGNAL, np.zeros(40), SIGNAL[:8]], ids=["noise", "0", "one"])
def test_coefficients_are_those_of_the_definition(signal):
    found = mfcc(signal, RATE, HOP, frame=FRAME, filters=FILTERS, coefficients=KEPT)
    np.testing.assert_allclose(found, _by_hand(signal), rtol=1e-9, atol=1e-9)


def test_a_tone_is_in_the_triangle_of_its_frequency():
    filters = mel_filters(257, 16_000, 26)
    middle = hertz_of(np.linspace(0, mel_of(np.array(8000.0)), 28))[1:-1]
    assert filters.shape == (26, 257)
    for number in (5, 12, 20):
        nearest = round(middle[number] / 8000 * 256)
        assert filters[:, nearest].argmax() == number
    np.testing.assert_allclose(hertz_of(mel_of(np.array(440.0))), 440)


def test_loudness_moves_the_first_coefficient_alone():
    soft, loud = (
        mfcc(a * SIGNAL, RATE, HOP, frame=FRAME, filters=6, coefficients=4) for a in (1, 10)
    )
    moved = loud - soft
    np.testing.assert_allclose(moved[:, 0], math.sqrt(6) * math.log(100), rtol=1e-6)
    np.testing.assert_allclose(moved[:, 1:], 0, atol=1e-6)


def test_slopes_of_lines_are_their_slopes():
    x = np.column_stack([3.0 * np.arange(12), np.full(12, 5.0)])
    found = with_slopes(x)
    assert found.shape == (12, 6)
    np.testing.assert_array_equal(found[:, :2], x)
    np.testing.assert_allclose(found[2:-2, 2:4], [[3, 0]] * 8, atol=1e-12)
    np.testing.assert_allclose(found[4:-4, 4:], 0, atol=1e-12)
    # At the start the first step stands for those before it: (0·-2 + 0·-1 + 0 + 3·1 + 6·2) / 10.
    assert found[0, 2] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop": 0}, "hop=0 must be at least 1 and at most the signal's 67 moments"),
        ({"hop": 68}, "hop=68 must be at least 1"),
        ({"frame": 7}, "frame=7 must be at least the hop, 8 moments"),
        ({"coefficients": 27}, "coefficients=27 must be at least 1 and at most the 26 filters"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ArgumentError) as error:
        mfcc(SIGNAL, RATE, **{"hop": HOP, "frame": FRAME, **options})
    assert message in str(error.value)
