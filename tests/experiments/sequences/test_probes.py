"""Probes whose penalties are chosen on held-out recordings."""

import numpy as np
import pytest

from experiments.sequences import probes
from experiments.sequences.probes import Samples


def _samples(rng, recordings, moments=4, noise=0.3):
    """Moments around the place of their class, and, the same in each recording, around its own."""
    y = np.repeat(np.arange(recordings) % 3, moments)
    own = np.repeat(rng.normal(size=(recordings, 2)), moments, axis=0)
    x = np.column_stack([np.cos(2 * y), np.sin(2 * y), own]) + noise * rng.normal(size=(len(y), 4))
    return Samples(x.astype(np.float32), y, np.repeat(np.arange(recordings), moments))


def test_folds_are_of_whole_recordings_and_each_has_all_classes():
    recording = np.repeat(np.arange(30), 3)
    labels = np.repeat(np.arange(30) % 3, 3)
    found = probes.folds(recording, labels, 5)
    for number in range(30):
        assert len(set(found[recording == number])) == 1
    for fold in range(5):
        counts = np.bincount(labels[found == fold], minlength=3)
        np.testing.assert_array_equal(counts, [6, 6, 6])


def test_probes_find_what_is_there():
    rng = np.random.default_rng(0)
    train, test = _samples(rng, 30), _samples(rng, 12)
    for found in (
        probes.linear(train, test, 3),
        probes.one_hidden_layer(train, test, 0, epochs=300, width=32),
    ):
        assert found.right.shape == (48,)
        assert found.right.mean() > 0.9


def test_the_penalty_is_that_of_the_best_held_out_recordings(monkeypatch):
    rng = np.random.default_rng(1)
    train, test = _samples(rng, 30), _samples(rng, 12)
    seen = []

    def fit_probe(train_x, train_y, test_x, test_y, num_classes, *, l2):
        seen.append((l2, len(train_x), len(test_x)))
        share = {0.1: 0.9, 10.0: 0.9}.get(l2, 0.5)

        class Found:
            correct = (np.arange(len(test_x)) < share * len(test_x))[None]

        return Found

    monkeypatch.setattr(probes, "fit_probe", fit_probe)
    found = probes.linear(train, test, 3, held_out=2)
    # 10 comes before 0.1 in the list.
    assert (found.penalty, found.at_end) == (10.0, False)
    assert seen[-1] == (10.0, len(train.x), len(test.x))
    assert len(seen) == 2 * len(probes.L2_GRID) + 1
    assert {(kept + out, out) for _, kept, out in seen[:-1]} == {(len(train.x), len(train.x) // 5)}


def test_an_end_of_the_list_is_told(monkeypatch):
    rng = np.random.default_rng(1)
    train = _samples(rng, 15)
    monkeypatch.setattr(probes, "L2_GRID", (1e4, 1.0))
    assert probes.linear(train, train, 3).at_end


def test_the_hidden_layer_tells_what_no_line_does():
    rng = np.random.default_rng(2)
    corners = rng.choice([-1, 1], (600, 2))
    x = (corners + 0.3 * rng.normal(size=corners.shape)).astype(np.float32)
    samples = Samples(x, (corners[:, 0] == corners[:, 1]).astype(int), np.arange(600) // 10)
    train, test = samples.where(np.arange(600) < 400), samples.where(np.arange(600) >= 400)
    assert probes.linear(train, test, 2).right.mean() < 0.7
    assert probes.one_hidden_layer(train, test, 0, epochs=200, width=32).right.mean() > 0.9


def test_recordings_of_few_labels_are_right_in_a_share_of_draws():
    rng = np.random.default_rng(4)
    train, test = _samples(rng, 30, moments=1), _samples(rng, 12, moments=1)
    few, all_labels = (probes.of_recordings(train, test, 3, labels_per_class=k) for k in (1, None))
    assert set(all_labels.right) <= {0.0, 1.0}
    np.testing.assert_allclose(20 * few.right, np.round(20 * few.right))
    assert few.right.mean() < all_labels.right.mean()
    np.testing.assert_array_equal(few.recording, test.recording)
    assert few.penalty == 1  # with one label each nothing can be held out


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_is_the_same_network(seed):
    rng = np.random.default_rng(3)
    train, test = _samples(rng, 15), _samples(rng, 6)
    one, again = (probes.one_hidden_layer(train, test, seed, epochs=3, width=4) for _ in range(2))
    np.testing.assert_array_equal(one.right, again.right)
