"""Which embeddings are compared with which."""

import jax
import numpy as np
import pytest

from alphacl_jax import layouts
from tests import cases, oracle
from tests.cases import views


def distances_of(z, z_pos, negatives):
    if isinstance(negatives, str):
        make = jax.jit(layouts.make_pairs, static_argnums=2)
    else:
        make = jax.jit(layouts.make_pairs)
    return jax.jit(layouts.pair_distances)(make(z, z_pos, negatives))


@pytest.mark.parametrize("name", ["both_views", "same_view", "cross_view", "explicit", "masked"])
def test_layout(name, x64):
    z, z_pos = views(6, 4, 3)
    negatives = cases.layouts(6, 4, 3)[name]
    d_pos, d_neg, mask = distances_of(z, z_pos, negatives)
    want_pos, want_neg, candidates = oracle.distances(z, z_pos, negatives)
    assert mask.shape == (len(want_pos), candidates)
    np.testing.assert_allclose(d_pos, want_pos, rtol=1e-12)
    for i, row in enumerate(want_neg):
        assert set(np.flatnonzero(mask[i])) == set(row)
        np.testing.assert_allclose(d_neg[i, list(row)], list(row.values()), rtol=1e-9)


def test_order_of_both_views():
    z, z_pos = views(7, 3, 2, np.float32)
    pairs = jax.jit(lambda *v: layouts.make_pairs(*v, "both_views"))(z, z_pos)
    np.testing.assert_array_equal(pairs.anchors, np.concatenate([z, z_pos]))
    np.testing.assert_array_equal(pairs.candidates, np.concatenate([z, z_pos]))
    np.testing.assert_array_equal(pairs.positives, np.concatenate([z_pos, z]))
