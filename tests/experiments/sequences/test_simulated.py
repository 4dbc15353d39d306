"""Simulated neurons: the published law, tuning, sessions, seeds; latents found again from them."""

import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from experiments.sequences.simulated import (
    published_benchmark,
    reconstruction,
    ring,
    track_sessions,
    two_way_track,
)

SMALL = {
    "benchmark": lambda seed: published_benchmark(seed, samples=500, neurons=20),
    "ring": lambda seed: ring(seed, samples=500, neurons=12),
    "track": lambda seed: two_way_track(seed, runs=4, neurons=12),
    "session": lambda seed: track_sessions(seed, neurons=(3, 12), runs=4)[1],
}


@pytest.mark.parametrize("name", SMALL)
def test_a_pure_function_of_its_seed(name):
    first, again, other = SMALL[name](1), SMALL[name](1), SMALL[name](2)
    for one, same in zip(first[1:], again[1:], strict=True):
        np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(first.recordings.signal, again.recordings.signal)
    # Behind the first moments that they share: an animal starts at an end of the track.
    assert first.latents.shape != other.latents.shape or not np.allclose(
        first.latents, other.latents
    )
    assert len(first.latents) == len(first.rates) == first.recordings.lengths.sum()
    assert first.recordings.signal.shape == first.rates.shape


@pytest.mark.parametrize("name", SMALL)
def test_counts_are_poisson(name):
    """Sum and variance about the rates, within five standard deviations of Poisson's."""
    drawn = SMALL[name](3)
    counts, rates = drawn.recordings.signal, drawn.rates
    assert (counts == np.round(counts)).all()
    assert abs((counts - rates).sum()) < 5 * np.sqrt(rates.sum())
    # (x − λ)²/λ has mean 1 and variance 2 + 1/λ.
    squares = (counts - rates) ** 2 / rates
    assert abs(squares.mean() - 1) < 5 * np.sqrt((2 + 1 / rates).mean() / rates.size)


def test_the_benchmarks_latents_have_the_published_law():
    drawn = published_benchmark(0)
    assert drawn.recordings.signal.shape == (15_000, 100)
    assert drawn.recordings.rate is None
    u = drawn.recordings.context[:, 0].astype(np.float64)
    assert 0 <= u.min() < 0.01
    assert 2 * np.pi - 0.01 < u.max() <= 2 * np.pi
    variance = 0.3 * np.abs(np.sin(u))
    variance = np.column_stack([0.6 - variance, variance])
    standard = (drawn.latents - np.column_stack([u, 2 * np.sin(u)])) / np.sqrt(variance)
    assert np.abs(standard.mean(axis=0)).max() < 5 / np.sqrt(15_000)
    assert np.abs(standard.var(axis=0) - 1).max() < 5 * np.sqrt(2 / 15_000)
    assert abs(np.corrcoef(standard.T)[0, 1]) < 5 / np.sqrt(15_000)
    # Within exp(±2.2), and mixed: every neuron varies with z.
    assert np.exp(-2.2) <= drawn.rates.min() < drawn.rates.max() <= np.exp(2.2)
    assert drawn.rates.std(axis=0).min() > 0.02


def test_the_benchmarks_rates_are_a_function_of_z_that_tells_z():
    """Neighbours by their rates are neighbours by z: the mixing is continuous and injective."""
    drawn = published_benchmark(0, samples=4000)
    found = reconstruction(drawn.rates, drawn.latents, [4000], metric="euclidean")
    assert found.neighbors > 0.99
    assert found.linear > 0.95


def test_the_ring_is_tuned_to_its_angle_and_wanders():
    drawn = ring(0, samples=4000)
    np.testing.assert_allclose(np.linalg.norm(drawn.latents, axis=1), 1)
    np.testing.assert_allclose(drawn.recordings.context, drawn.latents, atol=1e-6)
    theta = np.unwrap(np.arctan2(*drawn.latents.T[::-1]))
    assert np.abs(np.diff(theta)).max() < 0.025 * 2 * 5  # five deviations of the velocity
    assert np.std(np.diff(theta)) == pytest.approx(0.025 * 2, rel=0.3)
    for rates in drawn.rates.T[:5]:
        peak, base = rates.max(), 0.5 * 0.025
        preferred = theta[np.argmax(rates)]
        shape = np.exp(4 * (np.cos(theta - preferred) - 1))
        np.testing.assert_allclose(rates, base + (peak - base) * shape, atol=0.02)
    assert drawn.recordings.rate == 40


def test_the_tracks_runs_are_recordings_and_its_cells_know_the_direction():
    drawn = two_way_track(0, neurons=200, selective=0.5)
    recordings = drawn.recordings
    assert len(recordings) == 80
    assert recordings.class_names == ("down", "up")
    np.testing.assert_array_equal(recordings.labels, [1, 0] * 40)
    np.testing.assert_array_equal(recordings.moment_labels, (drawn.latents[:, 1] > 0).astype(int))
    np.testing.assert_allclose(recordings.context[:, 0], drawn.latents[:, 0], atol=1e-6)
    assert recordings.lengths.min() >= 3 / 0.025 - 1
    assert recordings.lengths.max() <= 6 / 0.025
    for number in range(80):
        start = recordings.starts[number]
        position = drawn.latents[start : start + recordings.lengths[number], 0]
        assert (np.diff(position) * (1 - 2 * (number % 2)) >= 0).all()
    up = drawn.latents[:, 1] > 0
    silent = (drawn.rates[up].max(axis=0) < 0.013) | (drawn.rates[~up].max(axis=0) < 0.013)
    assert abs(silent.sum() - 100) < 5 * np.sqrt(200 * 0.25)
    all_alike = two_way_track(0, neurons=50, selective=0.0)
    assert all_alike.rates[all_alike.latents[:, 1] > 0].max(axis=0).min() > 0.1


def test_sessions_have_their_own_neurons_and_runs():
    some, more = track_sessions(4, neurons=(5, 7), runs=4), track_sessions(4, runs=4)
    assert [s.recordings.signal.shape[1] for s in some] == [5, 7]
    assert [s.recordings.signal.shape[1] for s in more] == [40, 60, 80]
    np.testing.assert_array_equal(some[0].recordings.lengths, more[0].recordings.lengths)
    assert some[0].recordings.lengths.tolist() != some[1].recordings.lengths.tolist()


def test_reconstruction_of_latents_and_of_noise():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(1000, 2))
    curved = np.column_stack([latents, latents**3]) @ rng.normal(size=(4, 4))
    known = reconstruction(curved, latents, [400, 600], metric="euclidean")
    assert known.linear == pytest.approx(1)
    assert known.neighbors > 0.95
    noise = reconstruction(rng.normal(size=(1000, 3)), latents, [1000])
    assert max(noise) < 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: published_benchmark(0, samples=0), "samples=0 must be at least 1"),
        (lambda: published_benchmark(0, neurons=7), "neurons=7 must be even and at least 4"),
        (lambda: ring(0, samples=0), "samples=0 must be at least 1"),
        (lambda: ring(0, neurons=0), "neurons=0 must be at least 1"),
        (lambda: two_way_track(0, runs=0), "runs=0 must be at least 1"),
        (lambda: two_way_track(0, selective=1.5), "selective=1.5 must lie in"),
        (lambda: track_sessions(0, neurons=()), "must be one number for each session"),
    ],
)
def test_bad_inputs(call, message):
    with pytest.raises(ArgumentError) as error:
        call()
    assert message in str(error.value)
