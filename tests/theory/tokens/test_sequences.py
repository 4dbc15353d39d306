"""Token data: patterns, views, embeddings."""

import functools

import jax
import numpy as np
import pytest

from alphacl_jax.theory.tokens.sequences import (
    Patterns,
    TokenSetting,
    draw_patterns,
    graded_scales,
    half_scales,
    sample_views,
    token_embeddings,
    tokens_of_locations,
)

SETTING = TokenSetting(locations=6, tokens=8, patterns=12, fixed=4, redrawn=1)
draw = jax.jit(draw_patterns, static_argnums=(1, 2))
sample = jax.jit(sample_views, static_argnums=(2, 3))


@functools.cache
def drawn(per_location=3, setting=SETTING):
    return draw(jax.random.key(0), setting, per_location)


def test_patterns_fix_as_many_locations_as_asked_to_few_tokens_each():
    tokens, fixed = map(np.asarray, drawn())
    assert tokens.shape == fixed.shape == (12, 6)
    np.testing.assert_array_equal(fixed.sum(axis=1), 4)
    assert len({tuple(row) for row in fixed}) > 3  # not the same locations each time
    for k in range(6):
        assert len(set(tokens[:, k])) <= 3
    assert tokens.min() >= 0
    assert tokens.max() < 8
    assert len({frozenset(tokens[:, k]) for k in range(6)}) > 1  # each location has its own


def test_all_allowed_tokens_occur_where_patterns_are_many():
    many = TokenSetting(locations=3, tokens=7, patterns=400, fixed=2)
    tokens = np.asarray(drawn(5, many).tokens)
    assert [len(set(tokens[:, k])) for k in range(3)] == [5, 5, 5]


def test_tokens_of_locations_are_those_of_fixed_entries():
    tokens, fixed = map(np.asarray, drawn())
    want = np.zeros((6, 8), bool)
    for g in range(12):
        for k in range(6):
            if fixed[g, k]:
                want[k, tokens[g, k]] = True
    np.testing.assert_array_equal(tokens_of_locations(drawn(), 8), want)


def test_a_token_under_a_wildcard_is_not_counted():
    patterns = Patterns(np.array([[1, 2]]), np.array([[True, False]]))
    np.testing.assert_array_equal(
        tokens_of_locations(patterns, 3), [[False, True, False], [False, False, False]]
    )


@pytest.mark.parametrize("redrawn", [0, 1, 2, 5])
def test_views_hold_a_pattern_and_differ_in_few_wildcards(redrawn):
    setting = TokenSetting(locations=6, tokens=8, patterns=12, fixed=4, redrawn=redrawn)
    tokens, fixed = map(np.asarray, drawn())
    first, second = map(np.asarray, sample(jax.random.key(3), drawn(), 64, setting))
    assert first.shape == second.shape == (64, 6)
    differing = 0
    for a, b in zip(first, second, strict=True):
        matches = [
            g
            for g in range(12)
            if (a == tokens[g])[fixed[g]].all() and (b == tokens[g])[fixed[g]].all()
        ]
        assert matches, "a sample must show all fixed tokens of one pattern, in both views"
        # Two patterns may fit one sample; one of them must explain what differs.
        assert any(not (a != b)[fixed[g]].any() for g in matches)
        assert (a != b).sum() <= redrawn
        differing += (a != b).sum()
    assert (differing > 0) == (redrawn > 0)
    assert {*first.ravel()} == set(range(8))  # wildcards take every token


def test_redrawn_tokens_are_uniform_and_independent():
    setting = TokenSetting(locations=2, tokens=4, patterns=1, fixed=0, redrawn=2)
    patterns = draw(jax.random.key(0), setting, 1)
    first, second = map(np.asarray, sample(jax.random.key(1), patterns, 4000, setting))
    together = np.histogram2d(first[:, 0], second[:, 0], bins=4)[0] / 4000
    np.testing.assert_allclose(together, 1 / 16, atol=0.02)


def test_everything_follows_from_its_key():
    first, again, other = (
        np.asarray(sample(jax.random.key(k), drawn(), 64, SETTING)) for k in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_embeddings_are_one_hot_or_of_unit_length():
    key = jax.random.key(0)
    np.testing.assert_array_equal(token_embeddings(key, 5, 5), np.eye(5))
    for dim in (3, 9):
        found = np.asarray(token_embeddings(key, 5, dim))
        assert found.shape == (5, dim)
        gram = found @ found.T
        np.testing.assert_allclose(np.diag(gram), 1.0, rtol=1e-6)
        assert np.abs(gram - np.eye(5)).max() > 0.1  # not orthogonal


def test_scales():
    np.testing.assert_allclose(half_scales(5, 0.1, 10.0), [0.1, 0.1, 10, 10, 10], rtol=1e-6)
    np.testing.assert_allclose(graded_scales(3, 0.1, 10.0), [0.1, 1.0, 10.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fixed": 11}, r"fixed=11 .* locations=10; it must be between 0 and locations"),
        ({"fixed": -1}, "fixed=-1"),
        ({"locations": 0}, "locations=0 leaves no data"),
        ({"tokens": 0}, "tokens=0"),
        ({"patterns": 0}, "patterns=0"),
        ({"redrawn": -2}, "redrawn=-2 is out of range"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TokenSetting(**settings)


def test_impossible_arguments():
    key = jax.random.key(0)
    for count in (0, 9):
        with pytest.raises(ValueError, match=f"per_location={count} .* tokens=8; it must be"):
            draw_patterns(key, SETTING, count)
    with pytest.raises(ValueError, match="batch=0 is empty"):
        sample_views(key, drawn(), 0, SETTING)
    with pytest.raises(ValueError, match="dim=0"):
        token_embeddings(key, 5, 0)
    for scales in (half_scales, graded_scales):
        with pytest.raises(ValueError, match=r"low=0, high=10 must be above 0"):
            scales(5, 0.0, 10.0)
