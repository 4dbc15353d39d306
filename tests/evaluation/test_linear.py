"""Linear probes against scikit-learn on real digits, and by hand."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from alphacl_jax.evaluation import linear, logistic
from alphacl_jax.evaluation.linear import L2_GRID, fit_probe, linear_probe
from alphacl_jax.evaluation.logistic import fit_path


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
    accuracies = fit_probe(*digits, 10, labels_per_class=2, seed=3, l2=1.0).correct.mean(axis=1)
    mean, std = accuracies.mean(), accuracies.std()
    a, b = standardised(train_x, test_x)
    draws = linear.draw_labels(train_y, 10, 2, 20, 3)
    want = [sklearn_accuracy(a[i], train_y[i], b, test_y, 1.0) for i in draws]
    assert mean == pytest.approx(np.mean(want), abs=0.005)
    assert std == pytest.approx(np.std(want), abs=0.005)
    assert 0.70 < mean < 0.80  # what raw pixels are known to reach


def test_draws_take_k_of_each_class_without_replacement():
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(3), [4, 5, 9]))
    draws = linear.draw_labels(y, 3, 4, 6, seed=7)
    assert draws.shape == (6, 12)
    for draw in draws:
        assert len(set(draw)) == 12
        np.testing.assert_array_equal(np.bincount(y[draw]), [4, 4, 4])
    np.testing.assert_array_equal(draws, linear.draw_labels(y, 3, 4, 6, seed=7))
    assert not np.array_equal(draws, linear.draw_labels(y, 3, 4, 6, seed=8))
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


def objective(weights, bias, x, y, l2):
    """By the definition, in float64."""
    z = x @ np.asarray(weights, np.float64) + bias
    nll = np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(len(y)), y]
    return nll.sum() + l2 / 2 * np.square(weights).sum()


@pytest.mark.parametrize("dim", [64, 8])
def test_the_path_minimises_each_objective_as_scikit_learn_does(digits, dim):
    """Several sets, with samples left out, of fewer samples than dimensions and of more."""
    x, y = standardised(digits[0], digits[2])[0][:90, :dim], digits[1][:90]
    sets, labels = np.stack([x[:45], x[45:]]), np.stack([y[:45], y[45:]])
    weights = np.ones((2, 45))
    weights[0, ::3] = 0
    shifted = (sets + 3).astype(np.float32)  # which the bias makes up for
    l2s = (100.0, 1.0, 0.1)
    path = list(fit_path(shifted, labels, weights, 10, l2s, steps=500))
    assert len(path) == 3
    for l2, fits in zip(l2s, path, strict=True):
        logits = shifted[:, None] @ fits.weights + fits.bias[:, :, None]
        np.testing.assert_allclose(fits.logits, logits, rtol=1e-3, atol=1e-3)
        for i, j in np.ndindex(2, 2):
            kept = weights[j] > 0
            x, y = sets[i][kept], labels[i][kept]
            with threadpool_limits(1):
                model = LogisticRegression(C=1 / l2, max_iter=2000, tol=1e-5).fit(x, y)
            best = objective(model.coef_.T, model.intercept_, x, y, l2)
            got = objective(fits.weights[i, j], fits.bias[i, j], shifted[i][kept], y, l2)
            assert 0.9999 * best < got < 1.005 * best


def test_steps_bound_the_fit(digits):
    x, y = standardised(digits[0], digits[2])[0].astype(np.float32), digits[1]
    values = []
    for steps in (1, 50):
        (fits,) = fit_path(x[None], y[None], np.ones((1, len(y))), 10, [1.0], steps=steps)
        values.append(objective(fits.weights[0, 0], fits.bias[0, 0], x, y, 1.0))
    assert values[0] > 2 * values[1]


def noisy(n, dim, seed, signal=1.0):
    """Two classes in the first of many noisy dimensions."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.normal(size=(n, dim))
    x[:, 0] += signal * (2 * y - 1)
    return x.astype(np.float32), y


def test_cross_validation_chooses_what_tests_well():
    train, test = noisy(80, 60, 0), noisy(1000, 60, 1)
    chosen = fit_probe(*train, *test, 2)
    by_l2 = {l2: linear_probe(*train, *test, 2, l2=l2) for l2 in L2_GRID}
    assert chosen.l2[0] >= 10  # of as many dimensions as samples one counts
    assert not chosen.at_end[0]
    assert chosen.correct.mean() == pytest.approx(by_l2[chosen.l2[0]], abs=0.01)
    assert chosen.correct.mean() > max(by_l2.values()) - 0.03
    assert chosen.correct.mean() > by_l2[0.01] + 0.01
    # The same features with little noise want little l2, and the end of the grid is told.
    easy = fit_probe(*noisy(400, 3, 0, 6.0), *noisy(100, 3, 1, 6.0), 2)
    assert easy.l2[0] == L2_GRID[-1]
    assert easy.at_end[0]


def test_each_draw_of_few_labels_chooses_by_its_own_labels(digits):
    probe = fit_probe(*digits, 10, labels_per_class=4, draws=3, seed=2)
    assert probe.correct.shape == (3, 500)
    train_x, train_y, test_x, _ = digits
    a, _ = standardised(train_x, test_x)
    folds = linear._deal(np.repeat(np.arange(10), 4), 10)
    for draw, l2 in zip(linear.draw_labels(train_y, 10, 4, 3, 2), probe.l2, strict=True):
        x, y = a[draw], train_y[draw]
        losses = []
        for c in L2_GRID:
            loss = 0.0
            for fold in range(3):
                model = LogisticRegression(C=1 / c, max_iter=3000)
                with threadpool_limits(1):
                    model.fit(x[folds != fold], y[folds != fold])
                p = model.predict_log_proba(x[folds == fold])
                loss -= p[np.arange(len(p)), y[folds == fold]].sum()
            losses.append(loss)
        assert losses[L2_GRID.index(l2)] <= min(losses) * 1.02


def test_the_test_set_takes_no_part_in_the_choice():
    train, (test_x, test_y) = noisy(60, 30, 0), noisy(40, 30, 1)
    one = fit_probe(*train, test_x, test_y, 2)
    other_x, other_y = test_x.copy(), test_y.copy()
    other_x[20:] *= 100
    other_y[20:] = 1 - other_y[20:]
    other = fit_probe(*train, other_x, other_y, 2)
    assert other.l2 == one.l2
    np.testing.assert_array_equal(other.correct[:, :20], one.correct[:, :20])


def test_folds_leave_out_samples_of_each_class():
    for k, folds in ((2, 2), (3, 3), (10, 3)):
        y = np.random.default_rng(0).permutation(np.repeat(np.arange(4), k))
        dealt = linear._deal(y, 4)
        assert set(dealt) == set(range(folds))
        counts = np.array([np.bincount(y[dealt == f], minlength=4) for f in range(folds)])
        assert counts.min() >= 1
        assert counts.max() - counts.min() <= 1
        assert counts.sum() == len(y)
    assert linear._deal(np.array([2, 0, 1]), 3) is None
    assert linear._deal(np.array([2, 0, 1, 1]), 3) is not None  # classes of one sample among others


def alike(recordings, moments, seed):
    """Moments of recordings, each around a place of its own that tells its label by chance."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(recordings), moments)
    y = groups % 2
    own = np.repeat(rng.normal(size=(recordings, 30)), moments, axis=0)
    x = np.column_stack([y + rng.normal(size=len(y)), own + 0.01 * rng.normal(size=own.shape)])
    return x.astype(np.float32), y, groups


def test_what_is_alike_is_in_one_fold():
    x, y, groups = alike(12, 20, 0)
    test_x, test_y, _ = alike(40, 20, 1)
    apart, together = (fit_probe(x, y, test_x, test_y, 2, groups=given) for given in (None, groups))
    # Each moment has its like among those that it is told by, unless whole recordings are left out.
    assert apart.l2[0] == L2_GRID[-1]
    assert together.l2[0] >= 10
    losses = []
    a, _ = standardised(x, test_x)
    # Those of each class in turn, the classes one after the other.
    folds = (groups // 2 + groups % 2) % 3
    for l2 in L2_GRID:
        loss = 0.0
        for fold in range(3):
            model = LogisticRegression(C=1 / l2, max_iter=3000)
            with threadpool_limits(1):
                model.fit(a[folds != fold], y[folds != fold])
            p = model.predict_log_proba(a[folds == fold])
            loss -= p[np.arange(len(p)), y[folds == fold]].sum()
        losses.append(loss)
    assert losses[L2_GRID.index(together.l2[0])] <= min(losses) * 1.02
    assert losses[-1] > min(losses) * 1.5


def test_groups_of_one_sample_each_and_a_single_group():
    train, test = noisy(80, 60, 0), noisy(200, 60, 1)
    one_each = fit_probe(*train, *test, 2, groups=np.arange(80))
    assert one_each.l2[0] >= 10
    single = fit_probe(*train, *test, 2, groups=np.zeros(80, int))
    assert (single.l2[0], single.at_end[0]) == (linear.L2_WITHOUT_CHOICE, False)
    two = fit_probe(*train, *test, 2, groups=np.arange(80) // 40)
    assert two.l2[0] in L2_GRID


def test_one_label_per_class_has_a_fixed_penalty(digits):
    probe = fit_probe(*digits, 10, labels_per_class=1, draws=2)
    assert probe.l2.tolist() == [linear.L2_WITHOUT_CHOICE] * 2
    assert not probe.at_end.any()
    fixed = fit_probe(*digits, 10, labels_per_class=1, draws=2, l2=linear.L2_WITHOUT_CHOICE)
    np.testing.assert_array_equal(probe.correct, fixed.correct)


def test_collapsed_features_are_guessed():
    x, y = np.ones((30, 5)), np.arange(30) % 3
    assert linear_probe(x, y, x, y, 3) == pytest.approx(1 / 3)


def test_features_of_several_sizes_share_a_compiled_function(digits):
    train_x, train_y, test_x, test_y = digits
    fit_probe(*digits, 10, l2=1.0)
    before = logistic._gradient._cache_size()
    wider = np.concatenate([train_x, train_x[:, ::-1]], 1), np.concatenate([test_x, test_x], 1)
    fit_probe(wider[0], train_y, wider[1], test_y, 10, l2=1.0)
    assert logistic._gradient._cache_size() == before


X, Y = np.zeros((6, 2)), np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": 0.0}, "l2=0.0 must be above 0"),
        ({"l2": float("nan")}, "l2=nan must be above 0"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"labels_per_class": 0}, "labels_per_class=0 must be at least 1"),
        ({"draws": 0}, "draws=0 must be at least 1"),
        ({"groups": [0, 1]}, r"groups=<array of shape \(2,\)> must be integers, one for each of 6"),
        ({"groups": np.zeros(6)}, "must be integers, one for each of 6 training samples"),
        ({"groups": range(6)}, "labels_per_class=1 is given beside groups"),
        (
            {"labels_per_class": 3},
            r"labels_per_class=3 is more than class 0 has, 2 training .* \(3 of 3 classes are sho",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        fit_probe(X, Y, X, Y, 3, **({"labels_per_class": 1} | options))
