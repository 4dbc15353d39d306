"""Labels in the family and in α-CL: samples of one class are no negatives of each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from tests import oracle
from tests.cases import family, objectives, rule, views

N, DIM = 8, 3
# A class that is everything but one sample, unknown ones, and one alone.
LABELS = np.array([0, 1, 0, -1, 2, 1, -1, 0])
LAYOUTS = ("both_views", "same_view", "cross_view")
NAMES = ("info_nce", "triplet", "alpha_direct", "alpha_square", "backprop_direct")
EDGES = {"one class": np.zeros(N, int), "all but one": np.arange(N) // (N - 1)}


def distances(z, z_pos, negatives, labels):
    """As the oracle's, less what is of the anchor's class."""
    d_pos, d_neg, candidates = oracle.distances(z, z_pos, negatives)
    known = [label if label >= 0 else -1 - i for i, label in enumerate(labels.tolist())]
    kept = [
        {j: d for j, d in row.items() if known[j % N] != known[i % N]}
        for i, row in enumerate(d_neg)
    ]
    return d_pos, kept, candidates


def losses(z, z_pos, names=NAMES, **options):
    table = objectives()
    return jnp.stack([table[name](z, z_pos, **options) for name in names])


@pytest.mark.parametrize("negatives", LAYOUTS)
def test_values_and_importance_as_the_loops(negatives, x64):
    z, z_pos = views(0, N, DIM, np.float64, unit=True)
    found = distances(z, z_pos, negatives, LABELS)
    options = {"negatives": negatives, "labels": LABELS}
    value = acl.contrastive_loss(z, z_pos, family("info_nce"), reduction="none", **options)
    functions = oracle.family("info_nce", 0.5, 1.0)
    np.testing.assert_allclose(value, oracle.family_values(*found[:2], *functions[:2]), rtol=1e-10)
    for name in ("entropy", "square", "inverse"):
        alpha = acl.pairwise_importance(z, z_pos, rule(name), **options)
        want = oracle.rule_alpha(found[1], found[2], name, *_parameters(name))
        np.testing.assert_allclose(alpha, want, rtol=1e-7, atol=1e-9)
    statistics = acl.statistics(z, z_pos, rule("entropy"), block_size=3, **options)
    every = [d for row in found[1] for d in row.values()]
    np.testing.assert_allclose(statistics["negative_distance"], np.mean(every), rtol=1e-10)


def _parameters(name):
    return {"entropy": (0.3,), "square": (0.7,), "inverse": (0.5, 2.0)}[name]


@pytest.mark.parametrize(
    "negatives", ["both_views", "cross_view", pytest.param("same_view", marks=pytest.mark.slow)]
)
def test_blocks_and_devices_have_the_value_and_the_gradient_of_the_whole(negatives, x64):
    z, z_pos = views(1, N, DIM, np.float64, unit=True)

    def total(z, **options):
        values = losses(z, z_pos, negatives=negatives, labels=LABELS, **options)
        return jnp.sum(values), values

    def spread(z, block_size):
        split = lambda x: jnp.asarray(x).reshape(4, -1, *x.shape[1:])  # noqa: E731

        def local(z, z_pos, labels):
            options = {"negatives": negatives, "labels": labels, "axis_name": "batch"}
            return losses(z, z_pos, block_size=block_size, **options)

        values = jax.vmap(local, axis_name="batch")(split(z), split(z_pos), split(LABELS))[1]
        return jnp.sum(values), values

    gradient_of = lambda f: jax.jit(jax.value_and_grad(f, has_aux=True))(z)  # noqa: E731
    (_, values), gradient = gradient_of(total)
    assert np.isfinite(gradient).all()
    for other in (
        functools.partial(total, block_size=3),
        functools.partial(spread, block_size=None),
        functools.partial(spread, block_size=1),
    ):
        (_, found), by_z = gradient_of(other)
        np.testing.assert_allclose(found, values, rtol=1e-9)
        np.testing.assert_allclose(by_z, gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_tiles_far_apart_have_the_values_of_the_whole(scale, x64):
    """At a large scale each row has a shift of its own, that of its nearest negative."""
    z, z_pos = views(2, N, DIM, np.float64)
    options = {"labels": LABELS, "reduction": "none"}
    for name in ("info_nce", "alpha_direct"):
        loss = jax.jit(
            functools.partial(objectives()[name], **options), static_argnames="block_size"
        )
        dense, tiled = (loss(scale * z, scale * z_pos, block_size=b) for b in (None, 3))
        np.testing.assert_allclose(tiled, dense, rtol=1e-9)


@pytest.mark.parametrize(
    ("edge", "block_size"),
    [
        pytest.param(edge, size, marks=[pytest.mark.slow] if size else [])
        for edge in EDGES
        for size in (None, 2)
    ],
)
def test_an_anchor_without_another_class_contributes_nothing(edge, block_size):
    z, z_pos = views(3, N, DIM, np.float32, unit=True)
    labels = EDGES[edge]

    @jax.jit
    def of(z):
        options = {"labels": labels, "block_size": block_size, "reduction": "none"}
        each = losses(z, z_pos, **options)
        return jnp.sum(each), each

    (_, values), gradient = jax.value_and_grad(of, has_aux=True)(z)
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()
    if edge == "one class":
        assert not values.any()
        assert not gradient.any()


def test_all_unknown_is_as_without_labels():
    z, z_pos = views(4, N, DIM, np.float32, unit=True)
    unknown = losses(z, z_pos, labels=np.full(N, -1))
    np.testing.assert_allclose(unknown, losses(z, z_pos), rtol=1e-6)


def test_weights_are_of_samples():
    z, z_pos = views(5, N, DIM, np.float32, unit=True)
    weights = np.arange(N, dtype=np.float32)
    loss = functools.partial(acl.contrastive_loss, z, z_pos, family("info_nce"))
    each, doubled = loss(reduction="none"), np.concatenate([weights, weights])
    np.testing.assert_allclose(loss(weights=weights, reduction="none"), doubled * each, rtol=1e-6)
    np.testing.assert_allclose(
        loss(weights=weights), np.sum(doubled * each) / doubled.sum(), rtol=1e-6
    )
    split = lambda x: x.reshape(4, -1, *x.shape[1:])  # noqa: E731
    for reduction in ("mean", "sum"):
        local = functools.partial(
            acl.contrastive_loss, family=family("info_nce"), reduction=reduction, axis_name="batch"
        )
        of_shards = lambda z, p, w, local=local: local(z, p, weights=w)  # noqa: E731
        spread = jax.vmap(of_shards, axis_name="batch")(split(z), split(z_pos), split(weights))
        np.testing.assert_allclose(spread, loss(weights=weights, reduction=reduction), rtol=1e-6)
    assert loss(weights=np.zeros(N, np.float32)) == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": LABELS[:3]}, AssertionError, r"labels has shape \(3,\), not \[n\] = \(8,\)"),
        ({"labels": LABELS * 1.0}, AssertionError, "labels has type float.*whole numbers, -1"),
        ({"labels": LABELS, "negatives": np.ones((2, DIM))}, ValueError, "leave out by a mask"),
        ({"weights": np.ones(3)}, AssertionError, r"weights has shape \(3,\), not \[n\]"),
    ],
)
def test_what_is_refused(options, error, message):
    z, z_pos = views(6, N, DIM, np.float32, unit=True)
    with pytest.raises(error, match=message):
        acl.contrastive_loss(z, z_pos, family("info_nce"), **options)
