"""The nearest context: as a search through all says, within the bounds given, ties alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphacl_jax.data.nearest import nearest, search_order

KEY = jax.random.key(0)
_nearest = jax.jit(nearest)


def _given(rng, moments, dims, classes, values=None):
    context = rng.normal(size=(moments, dims)).astype(np.float32)
    if values is not None:
        context = rng.integers(0, values, (moments, dims)).astype(np.float32)
    labels = np.sort(
        np.concatenate([np.arange(classes), rng.integers(0, classes, moments - classes)])
    )
    order = search_order(context, labels)
    context, labels = context[order], labels[order]
    ends = np.cumsum(np.bincount(labels, minlength=classes)).astype(np.int32)
    return context, ends


def _distances(context, first, end, queries):
    """Squared distances in float64 of each query to the moments that may be found, else inf."""
    found = np.full((len(queries), len(context)), np.inf)
    for i, query in enumerate(queries.astype(np.float64)):
        for j in range(first[i], end[i]):
            found[i, j] = np.sum((context[j].astype(np.float64) - query) ** 2)
    return found


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    dims=st.sampled_from([1, 2, 3]),
    classes=st.sampled_from([1, 3]),
    values=st.sampled_from([None, 4]),
)
def test_the_nearest_of_all_that_may_be_found(seed, dims, classes, values):
    rng = np.random.default_rng(seed)
    context, ends = _given(rng, 37, dims, classes, values)
    queries = rng.normal(scale=3, size=(16, dims)).astype(np.float32)
    label = rng.integers(0, classes, 16)
    first, end = (ends - np.diff(ends, prepend=0))[label], ends[label]
    found = np.asarray(_nearest(KEY, context, first, end, queries))
    assert np.all((found >= first) & (found < end))
    distances = _distances(context, first, end, queries)
    own = distances[np.arange(16), found]
    # Squares of differences in float32 tell apart what differs by more than their rounding.
    np.testing.assert_allclose(own, distances.min(axis=1), rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("moments", [64, 65, 300])
def test_of_several_blocks_the_first_of_those_that_are_nearest(moments):
    rng = np.random.default_rng(0)
    context, ends = _given(rng, moments, 2, 2, values=5)
    queries = rng.normal(loc=2, scale=3, size=(40, 2)).astype(np.float32)
    label = np.repeat([0, 1], 20)
    first, end = (ends - np.diff(ends, prepend=0))[label], ends[label]
    found = _nearest(KEY, context, first, end, queries)
    # Contexts are whole numbers, so that of two that are equally near both are so in float32.
    np.testing.assert_array_equal(found, _distances(context, first, end, queries).argmin(axis=1))


def test_of_one_dimension_moments_of_the_same_context_are_drawn_alike():
    context = np.repeat(np.array([0.0, 1.0, 2.0], np.float32), [3, 5, 2])[:, None]
    many = 4000
    first, end = np.zeros(many, np.int32), np.full(many, 10, np.int32)
    found = np.asarray(_nearest(KEY, context, first, end, np.full((many, 1), 1.1, np.float32)))
    counts = np.bincount(found, minlength=10)
    assert counts[[0, 1, 2, 8, 9]].sum() == 0
    # Six standard deviations of a binomial.
    assert np.all(np.abs(counts[3:8] - many / 5) < 6 * np.sqrt(many * 0.2 * 0.8))


@pytest.mark.parametrize("query", [-1e30, -5.0, 7.0, 1e30])
def test_beyond_the_ends_it_is_the_last_one(query):
    context = np.arange(5, dtype=np.float32)[:, None]
    at = _nearest(KEY, context, np.array([1]), np.array([4]), np.array([[query]], np.float32))
    assert int(at[0]) == (1 if query < 0 else 3)


def test_far_contexts_are_told_apart_to_their_last_digit():
    # 2^12 + k/2^10: the squares of these differ by less than float32 can tell.
    context = (4096 + np.arange(8) / 1024).astype(np.float32)[:, None].repeat(2, axis=1)
    everything = np.zeros(8, np.int32), np.full(8, 8, np.int32)
    np.testing.assert_array_equal(_nearest(KEY, context, *everything, context), np.arange(8))


def test_the_order_is_by_class_and_of_one_dimension_by_number():
    context, labels = np.array([[3.0], [1.0], [2.0], [0.0]]), np.array([0, 1, 0, 1])
    np.testing.assert_array_equal(search_order(context, labels), [2, 0, 3, 1])
    np.testing.assert_array_equal(search_order(np.hstack([context] * 2), labels), [0, 2, 1, 3])


def test_it_is_compiled_for_any_number_of_moments():
    for moments in (1, 2, 3, 8, 9):
        context = jnp.arange(moments, dtype=jnp.float32)[:, None]
        every = jnp.zeros(moments, int), jnp.full(moments, moments)
        np.testing.assert_array_equal(_nearest(KEY, context, *every, context), np.arange(moments))
