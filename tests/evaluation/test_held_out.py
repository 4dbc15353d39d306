"""What is held out of recordings: their ends, and whole ones in folds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.held_out import ends_split, folds


@pytest.mark.parametrize(
    ("lengths", "fraction", "train", "test"),
    [
        ([10], 0.2, [8], [2]),
        ([10, 20, 5], 0.2, [8, 16, 4], [2, 4, 1]),
        ([10, 2, 5], 0.2, [8, 2, 4], [2, 1]),  # of two moments rounding holds none out
        ([1, 10, 1], 0.7, [1, 3, 1], [7]),  # and of one moment all, which is as little
        ([4, 4], 0.9, None, None),
    ],
)
def test_the_end_of_each_recording_is_held_out(lengths, fraction, train, test):
    if train is None:
        with pytest.raises(
            ArgumentError, match=r"parts none of 2 recordings, .* 4 moments: hold o"
        ):
            ends_split(lengths, fraction)
        return
    split = ends_split(lengths, fraction)
    assert split.train_lengths.tolist() == train
    assert split.test_lengths.tolist() == test


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.floats(0.05, 0.95))
def test_a_moment_is_in_one_part_and_held_out_ones_come_last_in_their_recording(lengths, fraction):
    out = [round(fraction * length) for length in lengths]
    out = [0 if own == length else own for own, length in zip(out, lengths, strict=True)]
    if not any(out):
        with pytest.raises(ArgumentError, match=f"parts none of {len(lengths)} recordings"):
            ends_split(lengths, fraction)
        return
    split = ends_split(lengths, fraction)
    train, test, moment = [], [], 0
    for length, own in zip(lengths, out, strict=True):
        for place in range(length):
            (test if place >= length - own else train).append(moment)
            moment += 1
    np.testing.assert_array_equal(split.train, train)
    np.testing.assert_array_equal(split.test, test)
    recording = np.repeat(np.arange(len(lengths)), lengths)
    for moments, parts in ((split.train, split.train_lengths), (split.test, split.test_lengths)):
        np.testing.assert_array_equal(parts, np.unique(recording[moments], return_counts=True)[1])


@pytest.mark.parametrize(
    ("lengths", "fraction", "message"),
    [
        ([], 0.5, "must be whole numbers \\[recordings\\], each at least 1"),
        ([3, 0], 0.5, "must be whole numbers \\[recordings\\], each at least 1"),
        ([3], 0.0, "fraction=0.0 must lie in"),
        ([3, 2], 0.1, "fraction=0.1 parts none of 2 recordings, .* has 3 moments: hold out more"),
        ([3, 2], 0.9, "fraction=0.9 parts none of 2 recordings, .* has 3 moments: hold out less"),
    ],
)
def test_what_cannot_be_parted(lengths, fraction, message):
    with pytest.raises(ArgumentError, match=message):
        ends_split(lengths, fraction)


def test_folds_are_of_whole_recordings_in_any_order():
    rng = np.random.default_rng(0)
    order = rng.permutation(60)
    recording, labels = (np.repeat(of, 4)[order] for of in (np.arange(15), np.arange(15) % 3))
    found = folds(recording, labels, 5)
    for number in range(15):
        assert len(set(found[recording == number])) == 1
    for fold in range(5):
        np.testing.assert_array_equal(np.bincount(labels[found == fold], minlength=3), [4, 4, 4])
