import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import alphacl_jax as acl
from alphacl_jax import distances
from tests import oracle
from tests.cases import views

squared_distances = jax.jit(acl.squared_distances)
l2_normalize = jax.jit(acl.l2_normalize)


class PairwiseTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_squared_distances(self):
        x, y = views(0, 5, 3, np.float32)
        d = self.variant(acl.squared_distances)(x, y[:4])
        want = [[oracle.half_squared_distance(a, b) for b in y[:4]] for a in x]
        np.testing.assert_allclose(d, want, rtol=1e-5, atol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_l2_normalize(self):
        x, _ = views(1, 5, 3, np.float32)
        unit = self.variant(acl.l2_normalize)(x)
        np.testing.assert_allclose(unit, x / np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-6)


def test_squared_distances_of_one_array_are_exactly_zero_on_the_diagonal():
    x = jnp.asarray(1e4 * views(2, 6, 5, np.float32)[0])
    d = squared_distances(x)
    assert (np.diag(d) == 0).all()
    assert (np.asarray(d)[~np.eye(6, dtype=bool)] > 0).all()
    np.testing.assert_array_equal(
        jax.jit(jax.jacrev(lambda x: jnp.diag(acl.squared_distances(x))))(x), 0
    )


def test_squared_distances_are_never_negative_where_the_formula_rounds_below_zero():
    x = jnp.asarray(100 + 1e-3 * views(3, 40, 7, np.float32)[0])
    y = x + np.float32(1e-5)
    plain = jax.jit(
        lambda x, y: (jnp.sum(x * x, 1)[:, None] + jnp.sum(y * y, 1)[None, :]) / 2 - x @ y.T
    )
    assert plain(x, y).min() < 0  # what the clamp is for
    d = squared_distances(x, y)
    assert d.min() == 0
    gradient = jax.jit(jax.grad(lambda x, y: jnp.sum(acl.squared_distances(x, y) ** 1.5)))
    chex.assert_tree_all_finite(gradient(x, y))


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        ("float16", "float16", "float32"),
        ("bfloat16", "bfloat16", "float32"),
        ("bfloat16", "float32", "float32"),
        ("float32", "float64", "float64"),
    ],
)
def test_squared_distances_type(a, b, want, x64):
    x = jnp.ones((2, 3))
    assert jax.eval_shape(acl.squared_distances, x.astype(a), x.astype(b)).dtype == want


def test_squared_distances_gradient(x64):
    x, y = views(4, 4, 3)
    check_grads(squared_distances, (x, y), order=1, modes=["rev"])


@pytest.mark.parametrize(
    "value",
    [
        lambda x: jnp.sum(acl.squared_distances(x)),
        lambda x: acl.contrastive_loss(x, x + 1, acl.families.info_nce(0.5), block_size=None),
    ],
)
def test_among_themselves_one_product_is_differentiated_by_one(value):
    program = str(jax.make_jaxpr(jax.grad(value))(jnp.ones((6, 3))))
    assert program.count("dot_general[") == 2


def test_l2_normalize_at_and_near_zero():
    x = jnp.array([[0.0, 0.0], [1e-20, 0.0], [1e-7, 0.0], [3e-6, 4e-6], [3e4, 4e4]])
    unit = l2_normalize(x)
    want = [[0, 0], [0, 0], [0, 0], [0.6, 0.8], [0.6, 0.8]]
    np.testing.assert_allclose(unit, want, rtol=1e-6)
    weights = np.array([[1.0, 2.0]], np.float32)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(acl.l2_normalize(x) * weights)))(x)
    np.testing.assert_array_equal(gradient[:3], 0)
    chex.assert_tree_all_finite(gradient)
    assert np.abs(gradient[3:]).min() > 0


def test_l2_normalize_gradient(x64):
    check_grads(l2_normalize, (views(5, 4, 3)[0],), order=1, modes=["rev"])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_l2_normalize_keeps_the_type_and_works_on_any_rank(dtype):
    # The squares of 300 overflow float16.
    x = jnp.full((2, 3, 4), 300, dtype)
    np.testing.assert_allclose(np.asarray(l2_normalize(x), np.float32), 0.5, rtol=1e-2)
    assert l2_normalize(x).dtype == dtype
    assert jax.eval_shape(l2_normalize, x[0, 0]).shape == (4,)


def test_nan_is_not_hidden():
    x = jnp.array([[1.0, jnp.nan], [1.0, 2.0], [0.0, 1.0]])
    assert np.isnan(np.asarray(l2_normalize(x))[0]).all()
    d = squared_distances(x)
    d = np.asarray(d)
    assert np.isnan(d[0, 1:]).all()
    assert np.isfinite(d[1:, 1:]).all()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros(3), None, r"x has shape \(3,\)"),
        (np.zeros((2, 3)), np.zeros((2, 4)), r"x has shape \(2, 3\), y has shape \(2, 4\)"),
        (np.zeros((2, 3), int), None, "int"),
    ],
)
def test_squared_distances_rejects(x, y, message):
    with pytest.raises(AssertionError, match=message):
        acl.squared_distances(x, y)


def test_l2_normalize_rejects_integers():
    with pytest.raises(AssertionError, match="int"):
        acl.l2_normalize(jnp.ones((2, 2), int))


def test_masked_logsumexp_and_softmax_against_plain_sums():
    logits = np.array([[1.0, -2.0, 0.5], [3.0, 0.1, -1.0], [1.0, 2.0, 3.0]], np.float32)
    mask = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]], bool)
    terms = np.where(mask, np.exp(logits), 0)
    total = terms.sum(1)
    np.testing.assert_allclose(
        jax.jit(distances.masked_logsumexp)(logits, mask), [*np.log(total[:2]), 0.0], rtol=1e-6
    )
    want = np.concatenate([terms[:2] / total[:2, None], np.zeros((1, 3))])
    np.testing.assert_allclose(jax.jit(distances.masked_softmax)(logits, mask), want, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(distances.masked_logsumexp(x, mask))))(logits)
    np.testing.assert_allclose(gradient, want, rtol=1e-6)
