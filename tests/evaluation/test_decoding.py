"""Decoding: scikit-learn's own neighbours and ridge, rings, how time is parted, bad inputs."""

import doctest

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation import held_out
from alphacl_jax.evaluation.decoding import (
    decode_class,
    decode_position,
    decode_position_linearly,
)
from alphacl_jax.evaluation.held_out import time_split


def test_examples():
    assert doctest.testmod(held_out).failed == 0


@pytest.mark.parametrize("lengths", [[100], [30, 30, 40], [1] * 100, [60, 5, 35]])
@pytest.mark.parametrize(("fraction", "gap"), [(0.3, 0), (0.3, 4), (0.4, 10), (0.01, 3)])
def test_time_is_held_out_at_the_end_and_a_gap_before_it_in_its_recording(lengths, fraction, gap):
    split = time_split(lengths, fraction, gap=gap)
    recording = np.repeat(np.arange(len(lengths)), lengths)
    first = 100 - round(100 * fraction)
    np.testing.assert_array_equal(split.test, np.arange(first, 100))
    # A moment is left out where it is of the first held-out moment's recording and near it.
    left_out = (recording == recording[first]) & (np.arange(100) >= first - gap)
    np.testing.assert_array_equal(split.train, np.flatnonzero(~left_out[:first]))
    for moments, parts in ((split.train, split.train_lengths), (split.test, split.test_lengths)):
        np.testing.assert_array_equal(parts, np.unique(recording[moments], return_counts=True)[1])


def curve(n, seed=0, noise=0.05):
    """An embedding `[n, 3]` of a position in [0, 1] that wanders, with noise."""
    rng = np.random.default_rng(seed)
    at = 0.5 + 0.5 * np.sin(np.cumsum(rng.uniform(0, 0.1, n)))
    z = np.column_stack([np.cos(3 * at), np.sin(3 * at), np.full(n, 0.5)])
    return z + noise * rng.normal(size=z.shape), at


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dims", [1, 2])
def test_position_is_that_of_scikit_learns_neighbours(metric, dims):
    z, at = curve(900)
    z *= np.random.default_rng(1).uniform(1, 3, size=(900, 1))
    y = at if dims == 1 else np.column_stack([at, at**2])
    split = time_split([900], 0.3)
    tune = time_split([len(split.train)], 0.2)

    def fitted(k, moments):
        return KNeighborsRegressor(k, metric=metric).fit(z[moments], y[moments])

    ks = (1, 5, 25, 500)
    held_out = split.train[tune.test]
    errors = [
        ((fitted(k, split.train[tune.train]).predict(z[held_out]) - y[held_out]) ** 2).mean()
        for k in ks
    ]
    got = decode_position(
        z[split.train], y[split.train], z[split.test], y[split.test],
        metric=metric, neighbors=ks[::-1],
    )  # fmt: skip
    assert got.chosen == ks[int(np.argmin(errors))]
    assert not got.at_end
    best = fitted(got.chosen, split.train)
    want = best.predict(z[split.test]).reshape(-1, dims)
    np.testing.assert_allclose(got.prediction, want, atol=1e-12)
    error = np.sqrt(((want - y[split.test].reshape(-1, dims)) ** 2).sum(axis=1))
    assert got.median_error == pytest.approx(np.median(error))
    assert got.r2 == pytest.approx(best.score(z[split.test], y[split.test]))
    assert got.r2 > 0.8


def test_class_is_that_of_scikit_learns_neighbours():
    z, at = curve(600, noise=0.3)
    y = (at * 2.999).astype(int)
    split = time_split([600], 0.3)
    got = decode_class(z[split.train], y[split.train], z[split.test], y[split.test], neighbors=(6,))
    best = KNeighborsClassifier(6, metric="cosine").fit(z[split.train], y[split.train])
    np.testing.assert_array_equal(got.prediction, best.predict(z[split.test]))
    assert got.accuracy == pytest.approx(best.score(z[split.test], y[split.test]))
    frequent = np.argmax(np.bincount(y[split.train]))
    assert got.most_frequent == pytest.approx((y[split.test] == frequent).mean())
    assert got.accuracy > got.most_frequent + 0.1
    assert (got.chosen, got.at_end) == (6, True)


def test_k_of_a_class_is_the_most_accurate_on_the_last_part_of_training():
    """Labels that are noise but for a majority: one neighbour is worse than many."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(500, 2)), (rng.uniform(size=500) < 0.2).astype(np.int32)
    got = decode_class(z[:400], y[:400], z[400:], y[400:], neighbors=(1, 100))
    assert got.chosen == 100
    assert got.accuracy == got.most_frequent


def test_linear_decoding_is_scikit_learns_ridge_of_the_penalty_chosen():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(120, 30)) * np.arange(1, 31)
    y = z[:, 4:6] + 4 + 10 * rng.normal(size=(120, 2))
    penalties = (1e-3, 30.0, 1e6)

    def fitted(penalty, last):
        centre, scale = z[:last].mean(axis=0), z[:last].std(axis=0)
        ridge = Ridge(penalty).fit((z[:last] - centre) / scale, y[:last])
        return lambda at: ridge.predict((at - centre) / scale)

    errors = [((fitted(p, 80)(z[80:100]) - y[80:100]) ** 2).mean() for p in penalties]
    got = decode_position_linearly(z[:100], y[:100], z[100:], y[100:], penalties=penalties)
    assert got.chosen == penalties[int(np.argmin(errors))] == 30.0
    assert not got.at_end
    np.testing.assert_allclose(got.prediction, fitted(30.0, 100)(z[100:]), atol=1e-9)


def test_penalties_at_either_end_are_told():
    z = np.random.default_rng(0).normal(size=(60, 2))
    got = decode_position_linearly(z[:40], z[:40] @ [1, 2], z[40:], z[40:] @ [1, 2])
    assert got.r2 > 0.99999
    assert (got.chosen, got.at_end) == (1e-3, True)


@pytest.mark.parametrize("decode", [decode_position, decode_position_linearly])
@pytest.mark.parametrize("period", [2 * np.pi, 10.0])
def test_on_a_ring_means_and_errors_go_the_shorter_way(decode, period):
    rng = np.random.default_rng(0)
    at = rng.uniform(0, 1, 800)
    at[600:650] = rng.uniform(-0.002, 0.002, 50) % 1
    z = np.column_stack([np.cos(2 * np.pi * at), np.sin(2 * np.pi * at)])
    z += 0.02 * rng.normal(size=z.shape)
    position = at * period + period * rng.integers(-2, 3, 800)  # turns do not matter
    got = decode(z[:600], position[:600], z[600:], position[600:], period=period)
    assert got.median_error < 0.005 * period
    assert got.r2 > 0.99
    assert got.prediction.min() >= 0
    assert got.prediction.max() < period
    error = np.abs(got.prediction[:, 0] / period - at[600:])
    assert np.minimum(error, 1 - error).max() < 0.05
    assert error.max() > 0.9  # some lie on either side of 0


def test_held_out_noise_is_not_decoded():
    rng = np.random.default_rng(0)
    z, at = rng.normal(size=(800, 3)), rng.uniform(size=800)
    got = decode_position(z[:600], at[:600], z[600:], at[600:])
    assert got.r2 < 0.05
    assert got.median_error == pytest.approx(0.25, abs=0.05)


Z, AT = np.ones((20, 2)), np.arange(20.0)
ARGUMENTS = Z, AT, Z, AT


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: time_split([], 0.5), "must be whole numbers [recordings], each at least 1"),
        (lambda: time_split([3, 0], 0.5), "lengths=<array of shape (2,)> must be whole numbers"),
        (lambda: time_split([3], 1.0), "fraction=1.0 must lie in (0, 1)"),
        (lambda: time_split([30], 0.5, gap=-1), "gap=-1 must be at least 0"),
        (lambda: time_split([3], 0.1), "fraction=0.1 leaves no moment to hold out"),
        (lambda: time_split([3], 0.9), "fraction=0.9 leaves no moment to train on"),
        (lambda: time_split([10], 0.5, gap=5), "leaves no moment to train on"),
        (lambda: decode_position(*ARGUMENTS, metric="l1"), "metric=l1 must be one of cosine, eucl"),
        (lambda: decode_position(*ARGUMENTS, neighbors=()), "neighbors=() must be some"),
        (lambda: decode_position(*ARGUMENTS, neighbors=(0, 2)), "(0, 2) must be some, each at"),
        (
            lambda: decode_class(Z, AT.astype(int), Z, AT.astype(int), neighbors=(17, 30)),
            "neighbors=(17, 30) are all more than the 16 moments",
        ),
        (lambda: decode_position_linearly(*ARGUMENTS, penalties=(0, 1)), "penalties=(0, 1) must"),
        (lambda: decode_position(Z, AT, Z[:, :1], AT), "test_x=<array of shape (20, 1)> must have"),
        (lambda: decode_position(Z, AT[:3], Z, AT), "train_y=<array of shape (3, 1)> must have a"),
        (lambda: decode_position(Z, Z, Z, AT), "test_y=<array of shape (20, 1)> must have as many"),
        (lambda: decode_position(*ARGUMENTS, period=0), "period=0 must be a number above 0"),
        (lambda: decode_position(Z, Z, Z, Z, period=1), "period=1 is of one angle; train_y has 2"),
        (
            lambda: decode_position(*ARGUMENTS, validation=2),
            "validation=2 must leave some of the 20 training",
        ),
    ],
)
def test_bad_inputs(call, message):
    with pytest.raises(ArgumentError) as error:
        call()
    assert message in str(error.value)


def test_values_that_are_not_finite_and_labels_below_0():
    with pytest.raises(ValueError, match="1 of the 20 values in test_y are NaN"):
        decode_position(Z, AT, Z, np.where(AT > 18, np.nan, AT))
    with pytest.raises(ValueError, match="train_y must lie in"):
        decode_class(Z, AT.astype(int) - 1, Z, AT.astype(int))
    with pytest.raises(ValueError, match="train_y must be integers"):
        decode_class(Z, AT, Z, AT.astype(int))
