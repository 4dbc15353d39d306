"""Quick probes while training, and warnings of collapse."""

import numpy as np
import pytest

from alphacl_jax.evaluation import knn, logistic, monitor
from alphacl_jax.evaluation.knn import knn_accuracy
from alphacl_jax.evaluation.linear import linear_probe
from alphacl_jax.evaluation.monitor import collapse_warnings, quick_probe, quick_sample


def blobs(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return np.eye(6)[y] * 2 + rng.normal(size=(n, 6)), y


def test_a_small_set_is_taken_whole():
    train, test = blobs(60, 0), blobs(50, 1)
    assert quick_probe(train, test, 3) == {
        "knn": knn_accuracy(*train, *test, 3),
        "linear": linear_probe(*train, *test, 3),
    }


def test_a_large_one_is_sampled_always_alike_and_compiled_once(monkeypatch):
    monkeypatch.setattr(monitor, "MAX_TRAIN", 60)
    monkeypatch.setattr(monitor, "MAX_TEST", 50)
    train, test = blobs(200, 0), blobs(100, 1)
    first = quick_probe(train, test, 3)
    a, b = quick_sample(200, 60), quick_sample(100, 50)
    assert len(set(a)) == 60
    assert (np.diff(a) > 0).all()
    assert first == quick_probe((train[0][a], train[1][a]), (test[0][b], test[1][b]), 3)
    compiled = logistic._gradient._cache_size(), knn._predict._cache_size()
    assert quick_probe(blobs(200, 2), blobs(100, 3), 3) != first
    assert quick_probe(train, test, 3) == first
    assert (logistic._gradient._cache_size(), knn._predict._cache_size()) == compiled


UNTRAINED = {"effective_rank": 10.0, "knn": 0.80}


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ([], None),
        ([5.1], None),
        ([4.9], "effective rank is 4.9, below half of the untrained encoder's (10.0)"),
        ([12.0, 4.9, 5.1], None),  # it has recovered
        ([40.0, 10.1], None),
        ([40.0, 9.9], "effective rank is 9.9, below a quarter of the run's highest (40.0)"),
        ([40.0, 0.0], "effective rank is 0.0, below half of the untrained encoder's (10.0)"),
    ],
)
def test_effective_rank(ranks, words):
    found = collapse_warnings([{"step": 1}, *({"effective_rank": r} for r in ranks)], UNTRAINED)
    assert len(found) == (words is not None)
    if words:
        assert words in found["effective_rank"]


def test_knn_below_the_untrained_encoders():
    assert collapse_warnings([{"knn": 0.79}], UNTRAINED) == {}
    records = [{"knn": 0.9}, {"knn": 0.77, "effective_rank": 1.0}, {"loss": 0.0}]
    found = collapse_warnings(records, UNTRAINED)
    assert list(found) == ["effective_rank", "knn"]
    rank, below = found.values()
    assert below == (
        "kNN is 77.0 %, below the untrained encoder's 80.0 %: training makes the features worse"
    )
    assert "collapsing" in rank
    assert collapse_warnings(records, {}) == {}
    assert collapse_warnings([*records, {"knn": 0.85, "effective_rank": 9.0}], UNTRAINED) == {}
