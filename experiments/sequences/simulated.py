"""Neurons whose latents are known: the published benchmark, a ring, a track, several sessions.

Each is a pure function of its seed, drawn by NumPy.

The published benchmark was made for pi-VAE and taken over by CEBRA. Where its numbers are from:

- u uniform in [0, 2π], independent for each of 15,000 samples; z Gaussian with mean (u, 2 sin u)
  and variance (0.6 − 0.3|sin u|, 0.3|sin u|); 98 zeros beside it; RealNVP of four blocks of two
  coupling layers, with a permutation between blocks; rates exp(2.2 tanh(·)) of 100 neurons; counts:
  `simulate_cont_data_diff_var` of `code/pi_vae.py` in github.com/zhd96/pi-vae, called with these
  sizes in its `examples/simulate_data.ipynb`. CEBRA's `cebra/datasets/generate_synthetic_data.py`
  is the same.
- of a coupling layer: networks of 25, 25 and 100 units with ReLU, log scales 0.1 tanh(·), no
  condition on their sum: `realnvp_layer` there. Its weights are Keras's default for dense layers,
  Glorot's uniform ones, and biases 0.
- the score, R² of the linear regression from the embedding to z on the same samples, in 100 runs:
  caption and code of figure 1b in github.com/AdaptiveMotorControlLab/cebra-figures.

What could not be verified: the weights that the published file of data was made with have no seed,
and the file was not at hand, so these data have the same law and not the same numbers. Permutations
are drawn from the seed here, and there from the number of the block.

References:
  Zhou and Wei 2020, "Learning identifiable and interpretable latent models of high-dimensional
  neural activity using pi-VAE" (arXiv:2011.04798).
  Schneider, Lee and Mathis 2023 (doi:10.1038/s41586-023-06031-6).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from alphacl_jax.data.sequences import Recordings, recordings_from_arrays
from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.consistency import linear_r2
from alphacl_jax.evaluation.decoding import decode_position
from alphacl_jax.evaluation.held_out import time_split

DIRECTIONS = ("down", "up")
_BLOCKS, _LAYERS = 4, 2
_SECONDS = 0.025  # of a bin, as the recordings of hippocampus have it
# Rates in spikes per second: away from any field, and at the middle of one.
_BASE_RATE, _PEAK_RATES = 0.5, (5.0, 30.0)


class Simulated(NamedTuple):
    """Counts of spikes, and what they were drawn from.

    Attributes:
      recordings: `signal` holds counts `[time, neurons]`, `context` what an animal's behaviour
        would show.
      latents: float64 `[time, dims]`.
      rates: float64 `[time, neurons]`, the expected counts.
    """

    recordings: Recordings
    latents: np.ndarray
    rates: np.ndarray


class Reconstruction(NamedTuple):
    """How well latents are known from an embedding, as R².

    Attributes:
      linear: of the linear map, on the samples that it is fitted to: the published score.
      neighbors: of kNN regression, on the time that was held out.
    """

    linear: float
    neighbors: float


def reconstruction(
    embedding: ArrayLike,
    latents: ArrayLike,
    lengths: ArrayLike,
    *,
    metric: str = "cosine",
    fraction: float = 0.2,
) -> Reconstruction:
    """How well the latents are known from an embedding of the same moments.

    Args:
      embedding: `[time, dim]`.
      latents: `[time, dims]`.
      lengths: of the recordings.
      metric: of the neighbours, as `decode_position` takes it.
      fraction: of time that is held out for them.

    Raises:
      AssertionError, ArgumentError, ValueError: as `linear_r2`, `time_split`, `decode_position`.
    """
    z, y = np.asarray(embedding), np.asarray(latents)
    linear = linear_r2(z, y)
    train, test, _, _ = time_split(lengths, fraction)
    decoded = decode_position(z[train], y[train], z[test], y[test], metric=metric)
    return Reconstruction(linear, decoded.r2)


def published_benchmark(seed: int, *, samples: int = 15_000, neurons: int = 100) -> Simulated:
    """The published benchmark: latents z of a label u, mixed by an injective network.

    Args:
      seed: of the network and the data.
      samples: independent of each other, in one recording.
      neurons: even.

    Returns:
      Its context is u `[time, 1]`, its latents z `[time, 2]`.

    Raises:
      ArgumentError: for numbers out of range.
    """
    _require_at_least("samples", samples, 1)
    if neurons < 4 or neurons % 2:
        raise ArgumentError("neurons", neurons, "must be even and at least 4: it is halved")
    rng = np.random.default_rng(seed)
    u = rng.uniform(0, 2 * np.pi, samples)
    mean = np.column_stack([u, 2 * np.sin(u)])
    second = 0.3 * np.abs(np.sin(u))
    z = mean + np.sqrt(np.column_stack([0.6 - second, second])) * rng.normal(size=mean.shape)
    mixed = np.hstack([z, np.zeros((samples, neurons - 2))])
    for block in range(_BLOCKS):
        mixed = mixed[:, rng.permutation(neurons)] if block else mixed
        for _ in range(_LAYERS):
            mixed = _coupled(mixed, rng)
    rates = np.exp(2.2 * np.tanh(mixed))
    return Simulated(_recorded(rates, rng, [samples], u[:, None]), z, rates)


def ring(seed: int, *, samples: int = 12_000, neurons: int = 50) -> Simulated:
    """Poisson neurons with von Mises tuning to an angle that wanders, in bins of 25 ms.

        rate_i(θ) = 0.5 + peak_i · exp(4 (cos(θ − μ_i) − 1)) per second, peak_i in [5, 30]

    The angle's velocity is an Ornstein-Uhlenbeck process of 2 radians per second and 1 second.

    Returns:
      Its context and its latents are (cos θ, sin θ) `[time, 2]`.

    Raises:
      ArgumentError: for numbers out of range.
    """
    _require_at_least("samples", samples, 1)
    _require_at_least("neurons", neurons, 1)
    rng = np.random.default_rng(seed)
    kept = np.exp(-_SECONDS)
    pushes = 2 * np.sqrt(1 - kept**2) * rng.normal(size=samples)
    velocity, angle = np.empty(samples), 2 * np.pi * rng.uniform()
    velocity[0] = 2 * rng.normal()
    for i in range(1, samples):
        velocity[i] = kept * velocity[i - 1] + pushes[i]
    theta = angle + np.cumsum(velocity) * _SECONDS
    preferred, peak = rng.uniform(0, 2 * np.pi, neurons), rng.uniform(*_PEAK_RATES, neurons)
    tuned = np.exp(4 * (np.cos(theta[:, None] - preferred) - 1))
    rates = (_BASE_RATE + peak * tuned) * _SECONDS
    latents = np.column_stack([np.cos(theta), np.sin(theta)])
    return Simulated(_recorded(rates, rng, [samples], latents, 1 / _SECONDS), latents, rates)


def two_way_track(
    seed: int | Sequence[int], *, runs: int = 80, neurons: int = 60, selective: float = 0.7
) -> Simulated:
    """Place cells of an animal that runs along a track and back, in bins of 25 ms.

    Each run is a recording of 3 to 6 seconds, from one end (0) to the other (1) or back. Each cell
    has one Gaussian field in each direction, of width 0.05 to 0.12 and a peak of 5 to 30 per
    second; of `selective` of the cells one of the two is silent, and their places are independent.

    Args:
      seed: one number, or several.
      runs: in turn up and down.
      neurons: at least 1.
      selective: the share of cells with one direction alone, in [0, 1].

    Returns:
      Its context is the position `[time, 1]`, its labels, of recordings and of moments, the
      direction, its latents are (position, −1 down or 1 up) `[time, 2]`.

    Raises:
      ArgumentError: for numbers out of range.
    """
    _require_at_least("runs", runs, 1)
    _require_at_least("neurons", neurons, 1)
    if not 0 <= selective <= 1:
        raise ArgumentError("selective", selective, "must lie in [0, 1]")
    rng = np.random.default_rng(seed)
    lengths = (rng.uniform(3, 6, runs) / _SECONDS).astype(int)
    up = np.repeat(np.arange(runs) % 2 == 0, lengths)
    along = np.concatenate([(1 - np.cos(np.linspace(0, np.pi, n))) / 2 for n in lengths])
    position = np.where(up, along, 1 - along)
    centre = rng.uniform(0, 1, (2, neurons))
    width, peak = rng.uniform(0.05, 0.12, (2, neurons)), rng.uniform(*_PEAK_RATES, (2, neurons))
    silent = rng.integers(2, size=neurons)
    peak[silent, np.arange(neurons)] *= rng.uniform(size=neurons) >= selective
    of = up.astype(int)
    field = np.exp(-(((position[:, None] - centre[of]) / width[of]) ** 2) / 2)
    rates = (_BASE_RATE + peak[of] * field) * _SECONDS
    recordings = _recorded(rates, rng, lengths, position[:, None], 1 / _SECONDS, up)
    return Simulated(recordings, np.column_stack([position, 2.0 * up - 1]), rates)


def track_sessions(
    seed: int, *, neurons: Sequence[int] = (40, 60, 80), runs: int = 80
) -> tuple[Simulated, ...]:
    """Sessions of the same behaviour, each with its own runs and its own neurons.

    Args:
      seed: of all; the first of more sessions are the sessions of fewer.
      neurons: of each session.
      runs: of each session.

    Raises:
      ArgumentError: for numbers out of range.
    """
    if not len(neurons):
        raise ArgumentError("neurons", neurons, "must be one number for each session")
    return tuple(
        two_way_track((seed, i), runs=runs, neurons=count) for i, count in enumerate(neurons)
    )


def _coupled(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One coupling layer: the second half scaled and shifted by what a network makes of the first,
    and then put before it."""
    first, second = np.split(x, 2, axis=1)
    half = first.shape[1]
    hidden = first
    for units in (half // 2, half // 2):
        hidden = np.maximum(hidden @ _glorot(hidden.shape[1], units, rng), 0)
    log_scale, shift = np.split(hidden @ _glorot(hidden.shape[1], 2 * half, rng), 2, axis=1)
    return np.hstack([second * np.exp(0.1 * np.tanh(log_scale)) + shift, first])


def _glorot(inputs: int, outputs: int, rng: np.random.Generator) -> np.ndarray:
    limit = np.sqrt(6 / (inputs + outputs))
    return rng.uniform(-limit, limit, (inputs, outputs))


def _recorded(
    rates: np.ndarray,
    rng: np.random.Generator,
    lengths: ArrayLike,
    context: np.ndarray,
    rate: float | None = None,
    up: np.ndarray | None = None,
) -> Recordings:
    borders = np.cumsum(lengths)[:-1]
    words = None if up is None else np.split(np.where(up, DIRECTIONS[1], DIRECTIONS[0]), borders)
    return recordings_from_arrays(
        np.split(rng.poisson(rates), borders),
        labels=None if words is None else [str(of_run[0]) for of_run in words],
        moment_labels=words,
        context=np.split(context, borders),
        rate=rate,
    )


def _require_at_least(argument: str, value: int, least: int) -> None:
    if value < least:
        raise ArgumentError(argument, value, f"must be at least {least}")
