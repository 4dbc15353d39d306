"""Consistency: known maps, noise, the oracle by normal equations, bins and classes, bad inputs."""

import doctest

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation import consistency as module
from alphacl_jax.evaluation.consistency import consistency, linear_r2

RNG = np.random.default_rng(0)


def oracle(x, y):
    """R² by the normal equations, output by output."""
    x = np.column_stack([np.ones(len(x)), x])
    shares = []
    for column in y.T:
        weights = np.linalg.solve(x.T @ x, x.T @ column)
        residual = ((column - x @ weights) ** 2).sum()
        shares.append(1 - residual / ((column - column.mean()) ** 2).sum())
    return np.mean(shares)


def rotation(dim, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def test_examples():
    assert doctest.testmod(module).failed == 0


def test_rotations_shifts_and_permuted_columns_change_nothing():
    z = RNG.normal(size=(200, 4)).astype(np.float32)
    runs = [z, z @ rotation(4), 3 * z[:, [2, 0, 3, 1]] - 5, z @ RNG.normal(size=(4, 4))]
    found = consistency(runs)
    assert len(found.scores) == 12
    np.testing.assert_allclose(found.scores, 1, atol=1e-10)
    assert found.pairs[:4] == (("0", "1"), ("0", "2"), ("0", "3"), ("1", "0"))
    np.testing.assert_array_equal(found.rows, 200)


@pytest.mark.parametrize(("dim", "other"), [(1, 1), (3, 3), (3, 7), (5, 2)])
def test_equals_the_normal_equations_and_scikit_learn(dim, other):
    x, noise = RNG.normal(size=(80, dim)), RNG.normal(size=(80, other))
    y = x @ RNG.normal(size=(dim, other)) + noise * np.arange(1, other + 1)
    forth, back = consistency([x, y]).scores
    assert forth == pytest.approx(oracle(x, y), abs=1e-12)
    assert back == pytest.approx(LinearRegression().fit(y, x).score(y, x), abs=1e-12)
    assert linear_r2(x, y) == forth
    assert consistency([x, y]).mean == pytest.approx((forth + back) / 2)


def test_directions_differ_where_one_embedding_holds_more():
    z = RNG.normal(size=(500, 4))
    found = consistency({"all": z, "half": z[:, :2]})
    assert dict(zip(found.pairs, found.scores, strict=True))["all", "half"] == pytest.approx(1)
    # Of the four dimensions two are there, and two are noise to it.
    back = found.scores[found.pairs.index(("half", "all"))]
    assert 0.5 <= back < 0.5 + 0.02


@pytest.mark.parametrize(("n", "dim"), [(50, 3), (1000, 8)])
def test_independent_noise_explains_what_the_beta_distribution_says(n, dim):
    """R² of each of K outputs is Beta(D/2, (n−1−D)/2); given x, the outputs are independent."""
    outputs, pairs = 20, 20
    rng = np.random.default_rng(1)
    draws = [(rng.normal(size=(n, dim)), rng.normal(size=(n, outputs))) for _ in range(pairs)]
    got = np.mean([linear_r2(x, y) for x, y in draws])
    mean = dim / (n - 1)
    variance = 2 * dim * (n - 1 - dim) / ((n - 1) ** 2 * (n + 1))
    assert abs(got - mean) < 4 * np.sqrt(variance / (outputs * pairs))


def test_shuffled_time_is_not_consistent():
    z = RNG.normal(size=(400, 3))
    # Mean D/(n−1), and below it by 5 deviations at most above.
    assert linear_r2(z, RNG.permutation(z)) < 3 / 399 + 5 * np.sqrt(2 * 3 / 400**2)


def test_a_dimension_that_does_not_vary_counts_as_nothing():
    z = RNG.normal(size=(60, 3))
    collapsed = np.column_stack([z[:, :2], np.full(60, 0.7)])
    assert linear_r2(z, collapsed) == pytest.approx(2 / 3)
    rounding = 0.7 + 1e-8 * RNG.normal(size=60)
    assert linear_r2(z, np.column_stack([z[:, :2], rounding])) == pytest.approx(2 / 3)
    assert linear_r2(np.ones((60, 2)), z) == 0
    # A direction of x that is a copy of another explains nothing more.
    twice = np.column_stack([z[:, :1], z[:, :1]])
    assert linear_r2(twice, z) == pytest.approx(linear_r2(z[:, :1], z), abs=1e-12)


@pytest.mark.parametrize("edges", ["equal", "quantile"])
def test_subjects_are_compared_on_bins_of_a_label(edges):
    """Subjects that see a position at other moments, and turn their embeddings."""
    subjects, labels = [], []
    for seed, n in enumerate((3000, 2000)):
        at = np.random.default_rng(seed).beta(2, 2, size=n)
        curve = np.column_stack([np.cos(5 * at), np.sin(5 * at), at])
        subjects.append(curve @ rotation(3, seed))
        labels.append(at)
    found = consistency(subjects, labels, bins=40, edges=edges, unit_length=False)
    assert found.scores.min() > 0.99
    assert (found.rows <= 40).all()
    shuffled = [labels[0], np.random.default_rng(0).permutation(labels[1])]
    noise = consistency(subjects, shuffled, bins=40, edges=edges, unit_length=False)
    assert noise.mean < 0.4


def test_bins_are_means_of_length_one_between_the_smallest_and_the_largest_label():
    z, label = np.abs(RNG.normal(size=(300, 2))), RNG.uniform(size=300)
    other, other_label = np.abs(RNG.normal(size=(200, 2))), RNG.uniform(0, 2, size=200)
    low, high = min(label.min(), other_label.min()), max(label.max(), other_label.max())
    means = []
    for x, at in ((z, label), (other, other_label)):
        which = np.minimum((8 * (at - low) / (high - low)).astype(int), 7)
        rows = [x[which == b].mean(axis=0) if (which == b).any() else None for b in range(8)]
        means.append([None if r is None else r / np.linalg.norm(r) for r in rows])
    both = [b for b in range(8) if means[0][b] is not None and means[1][b] is not None]
    x, y = (np.array([mean[b] for b in both]) for mean in means)
    found = consistency([z, other], [label, other_label], bins=8)
    np.testing.assert_allclose(found.scores, [oracle(x, y), oracle(y, x)], atol=1e-12)
    np.testing.assert_array_equal(found.rows, len(both))


@pytest.mark.parametrize("words", [False, True])
def test_classes_that_one_of_a_pair_lacks_are_left_out(words):
    centres = RNG.normal(size=(9, 3))
    y = [np.arange(8).repeat(20), np.arange(1, 9).repeat(30)]
    z = [centres[of] @ rotation(3, seed) for seed, of in enumerate(y)]
    names = np.array([f"class {i}" for i in range(9)])
    found = consistency(z, [names[of] if words else of for of in y], unit_length=False)
    np.testing.assert_allclose(found.scores, 1, atol=1e-10)
    np.testing.assert_array_equal(found.rows, 7)


def test_more_moments_of_one_class_weigh_no_more():
    z, y = RNG.normal(size=(40, 2)), np.arange(8).repeat(5)
    other = RNG.normal(size=(40, 2))
    once = consistency([z, other], [y, y]).scores
    again = consistency([np.tile(z, (3, 1)), other], [np.tile(y, 3), y]).scores
    np.testing.assert_allclose(once, again, atol=1e-12)


Z = np.random.default_rng(3).normal(size=(20, 2))
AT = np.linspace(0, 1, 20)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: consistency([Z]), "embeddings=<dict of 1> must be two or more to compare"),
        (
            lambda: consistency({"a": Z, "b": Z[:9]}),
            "have different numbers of moments (a 20, b 9): without labels they must be the same",
        ),
        (
            lambda: consistency([Z[:3], Z[:3]]),
            "have 3 moments in common, and a linear map of 2 dimensions fits any 3 exactly",
        ),
        (lambda: consistency([Z, Z], edges="even"), "edges=even must be one of equal, quantile"),
        (lambda: consistency([Z, Z], bins=5), "bins=5 is of labels, and there are none"),
        (lambda: consistency([Z, Z], [AT]), "must be one for each of the 2 embeddings"),
        (
            lambda: consistency([Z, Z], [AT, AT[:7]]),
            "labels=<array of shape (7,)> of embedding '1' must have shape (20,)",
        ),
        (
            lambda: consistency([Z, Z], [AT, AT.astype(complex)]),
            "of embedding '1' have type complex128: give numbers or words",
        ),
        (
            lambda: consistency([Z, Z], [AT, np.where(AT > 0.5, np.nan, AT)]),
            "of embedding '1' are not all finite",
        ),
        (
            lambda: consistency([Z, Z], [AT, np.arange(20)]),
            "have types float64, int64: all must be whole numbers, all words, or all other",
        ),
        (lambda: consistency([Z, Z], [AT, AT], bins=0), "bins=0 must be at least 1"),
        (
            lambda: consistency([Z, Z], [np.arange(20)] * 2, bins=3),
            "bins=3 is of labels that are no classes, and these are",
        ),
        (
            lambda: consistency([Z, Z], [AT, AT], bins=3),
            "have 3 classes or bins in common, and a linear map of 2 dimensions fits any 3",
        ),
        (lambda: consistency([Z, Z], [AT, AT + 5]), "have 0 classes or bins in common"),
        (lambda: linear_r2(Z, Z[:9]), "(source 20, target 9)"),
    ],
)
def test_bad_inputs(call, message):
    with pytest.raises(ArgumentError) as error:
        call()
    assert message in str(error.value)


def test_embeddings_that_are_no_matrices_of_numbers():
    with pytest.raises(AssertionError, match="embedding '1' must be"):
        consistency([Z, Z[0]])
    with pytest.raises(ValueError, match="1 of the 40 values in embedding 'b' are NaN"):
        consistency({"a": Z, "b": np.where(Z.max() == Z, np.nan, Z)})
