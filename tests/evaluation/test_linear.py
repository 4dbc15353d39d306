"""Linear probes against scikit-learn on real digits, and by hand."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from alphacl_jax.evaluation import linear
from alphacl_jax.evaluation.linear import few_label_probe, linear_probe


@pytest.fixture(scope="module")
def digits():
    """Raw pixels [1297, 64] and [500, 64], shuffled."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(x))
    x, y = x[order].astype(np.float32), y[order]
    return x[500:], y[500:], x[:500], y[:500]


def standardised(train_x, test_x):
    """The same by definition, in float64."""
    train_x, test_x = np.asarray(train_x, np.float64), np.asarray(test_x, np.float64)
    mean, var = train_x.mean(axis=0), train_x.var(axis=0)
    scale = np.sqrt((var + var.mean()) / 2)
    return (train_x - mean) / scale, (test_x - mean) / scale


def sklearn_accuracy(train_x, train_y, test_x, test_y, l2):
    model = LogisticRegression(C=1 / l2, max_iter=2000, tol=1e-6).fit(train_x, train_y)
    return model.score(test_x, test_y)


@pytest.mark.parametrize("l2", [0.1, 1.0, 100.0])
def test_all_labels_as_scikit_learn(digits, l2):
    train_x, train_y, test_x, test_y = digits
    want = sklearn_accuracy(*_swap(standardised(train_x, test_x), train_y, test_y), l2)
    got = linear_probe(*digits, 10, l2=l2)
    assert got == pytest.approx(want, abs=0.005)
    assert got > 0.95


def _swap(xs, train_y, test_y):
    return xs[0], train_y, xs[1], test_y


def test_few_labels_as_scikit_learn_on_the_same_draws(digits):
    train_x, train_y, test_x, test_y = digits
    mean, std = few_label_probe(*digits, 10, labels_per_class=2, seed=3, l2=1.0)
    a, b = standardised(train_x, test_x)
    draws = linear._draw(train_y, 10, 2, 20, 3)
    want = [sklearn_accuracy(a[i], train_y[i], b, test_y, 1.0) for i in draws]
    assert mean == pytest.approx(np.mean(want), abs=0.005)
    assert std == pytest.approx(np.std(want), abs=0.005)
    assert 0.70 < mean < 0.80  # what raw pixels are known to reach


def test_draws_take_k_of_each_class_without_replacement():
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(3), [4, 5, 9]))
    draws = linear._draw(y, 3, 4, 6, seed=7)
    assert draws.shape == (6, 12)
    for draw in draws:
        assert len(set(draw)) == 12
        np.testing.assert_array_equal(np.bincount(y[draw]), [4, 4, 4])
    np.testing.assert_array_equal(draws, linear._draw(y, 3, 4, 6, seed=7))
    assert not np.array_equal(draws, linear._draw(y, 3, 4, 6, seed=8))
    assert len({tuple(sorted(d)) for d in draws.tolist()}) > 1


def test_constant_features_become_zero_and_others_keep_their_scale():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4)).astype(np.float32) * 3 + 1
    constant = np.tile(np.array([[0.0, 1e6, -0.1, 1e-30]], np.float32), (500, 1))
    both = np.concatenate([x, constant], axis=1)
    train, test = linear._standardise(both, both[:7] + 1)
    np.testing.assert_array_equal(train[:, 4:], 0)
    assert np.isfinite(test).all()
    want = standardised(both, both[:7] + 1)
    np.testing.assert_allclose(train, want[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(test, want[1], rtol=1e-4, atol=1e-5)
    train, _ = linear._standardise(constant, constant)
    np.testing.assert_array_equal(train, 0)


def test_rarely_varying_features_are_not_blown_up():
    x = np.random.default_rng(0).normal(size=(1000, 10)).astype(np.float32)
    x[:, 0] = 0
    x[0, 0] = 1
    train, _ = linear._standardise(x, x)
    assert np.abs(train[:, 0]).max() < 2  # dividing by its own deviation alone: 32


def test_steps_bound_the_fit(digits):
    first = linear_probe(*digits, 10, l2=1.0, steps=1)
    assert first < linear_probe(*digits, 10, l2=1.0, steps=50) - 0.02


X, Y = np.zeros((6, 2)), np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": 0.0}, "l2 must be positive; got 0.0"),
        ({"l2": float("nan")}, "l2 must be positive; got nan"),
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"labels_per_class": 0}, "got labels_per_class=0, draws=20"),
        ({"draws": 0}, "got labels_per_class=1, draws=0"),
        (
            {"labels_per_class": 3},
            r"labels_per_class=3, but class 0 has 2 training samples \(3 of 3 classes are short\)",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        few_label_probe(X, Y, X, Y, 3, **({"labels_per_class": 1} | options))
