"""Weighted kNN against a loop over test samples."""

import numpy as np
import pytest

from alphacl_jax.evaluation import knn
from alphacl_jax.evaluation.knn import knn_accuracy

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 5))


def blobs(n: int):
    y = RNG.integers(0, 4, n)
    return CENTRES[y] + 1.2 * RNG.normal(size=(n, 5)), y


def by_loop(train_x, train_y, test_x, test_y, k, temperature) -> float:
    right = 0
    for x, y in zip(test_x, test_y, strict=True):
        cosine = train_x @ x / np.linalg.norm(train_x, axis=1) / np.linalg.norm(x)
        scores = np.zeros(4)
        for i in np.argsort(-cosine)[:k]:
            scores[train_y[i]] += np.exp(cosine[i] / temperature)
        right += scores.argmax() == y
    return right / len(test_y)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.1), (60, 0.1), (60, 10.0)])
def test_matches_a_loop(k, temperature):
    train, test = blobs(60), blobs(50)
    got = knn_accuracy(*train, *test, 4, k=k, temperature=temperature)
    assert got == pytest.approx(by_loop(*train, *test, k, temperature), abs=1e-6)
    assert 0.25 < got < 1 or k == 60


def test_weights_decide_where_the_majority_is_further_away():
    train_x = np.array([[1, 0], [0.7, 0.7], [0.7, 0.7]])
    train_y = np.array([0, 1, 1])
    test_x, test_y = np.array([[1.0, 0.0]]), np.array([0])
    assert knn_accuracy(train_x, train_y, test_x, test_y, 2, k=3, temperature=0.1) == 1.0
    assert knn_accuracy(train_x, train_y, test_x, test_y, 2, k=3, temperature=10.0) == 0.0


def test_blocks_give_the_same(monkeypatch):
    train, test = blobs(60), blobs(47)
    whole = knn_accuracy(*train, *test, 4, k=5)
    monkeypatch.setattr(knn, "_BLOCK_SIZE", 60 * 10)  # four blocks of 10 and one of 7
    assert knn_accuracy(*train, *test, 4, k=5) == whole


def test_extreme_scales_zero_rows_and_small_temperature():
    train, (test_x, test_y) = blobs(60), blobs(50)
    plain = knn_accuracy(*train, test_x, test_y, 4, k=9, temperature=1e-3)
    assert plain == pytest.approx(by_loop(*train, test_x, test_y, 9, 1e-2), abs=0.1)
    for scale in (1e30, 1e-30):
        assert knn_accuracy(*train, test_x * scale, test_y, 4, k=9, temperature=1e-3) == plain
    zeros = np.zeros((10, 5))
    assert 0 <= knn_accuracy(zeros, np.arange(10) % 4, zeros, np.arange(10) % 4, 4) <= 1


@pytest.mark.parametrize(("n", "k"), [(3, 3), (60, 5), (500, 5), (1297, 12), (50_000, 200)])
def test_default_k(monkeypatch, n, k):
    seen = []
    monkeypatch.setattr(knn, "_predict", lambda *args: seen.append(args[4]) or [0])
    knn_accuracy(np.ones((n, 1)), np.zeros(n, int), np.ones((1, 1)), np.zeros(1, int), 2)
    assert seen == [k]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0 must lie between 1 and the 6 training samples"),
        ({"k": 7}, "k=7 must lie between 1 and the 6 training samples"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
    ],
)
def test_bad_options(options, message):
    x, y = np.eye(6), np.arange(6)
    with pytest.raises(ValueError, match=message):
        knn_accuracy(x, y, x, y, 6, **options)
