import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from tests import oracle
from tests.cases import RULES, family, layouts, rule, views


@pytest.mark.parametrize("layout", ["both_views", "same_view", "masked"])
def test_statistics(layout, x64):
    z, z_pos = views(0, 5, 3)
    negatives = layouts(0, 5, 3)[layout]
    if layout == "masked":
        negatives[1][2] = False  # an anchor without a negative
    d_pos, d_neg, candidates = oracle.distances(z, z_pos, negatives)
    alpha = oracle.rule_alpha(d_neg, candidates, "square", *RULES["square"])
    want = oracle.statistics(d_pos, d_neg, alpha)
    got = jax.jit(lambda: acl.statistics(z, z_pos, rule("square"), negatives=negatives))()
    assert set(got) == set(want)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-9, err_msg=name)


def test_of_a_family(x64):
    z, z_pos = views(1, 4, 3)
    z[0] = z_pos[0] = 9.0  # far from the others: none is within the margin
    d_pos, d_neg, candidates = oracle.distances(z, z_pos, "both_views")
    functions = oracle.family("triplet", 0.3)
    alpha = oracle.family_alpha(d_pos, d_neg, candidates, functions)
    assert (alpha.sum(1) == 0).any()  # a row of zeros has perplexity 0
    want = oracle.statistics(d_pos, d_neg, alpha)
    got = jax.jit(lambda: acl.statistics(z, z_pos, family("triplet")))()
    chex.assert_trees_all_close(dict(got), {k: jnp.asarray(v) for k, v in want.items()}, rtol=1e-10)


@pytest.mark.parametrize("layout", ["both_views", "same_view", "masked"])
def test_mutual_information_bound(layout, x64):
    """log N − L by loops: N counts the positive, and an anchor without negatives says nothing."""
    z, z_pos = views(3, 5, 3)
    negatives = layouts(3, 5, 3)[layout]
    if layout == "masked":
        negatives[1][2] = False
    tau = 0.4
    d_pos, d_neg, _ = oracle.distances(z, z_pos, negatives)
    want = np.mean(
        [
            np.log(1 + len(row)) - np.log(1 + sum(np.exp((p - d) / tau) for d in row.values()))
            for p, row in zip(d_pos, d_neg, strict=True)
        ]
    )

    @jax.jit
    def bounds():
        made_of = [acl.families.info_nce(tau, eps) for eps in (1.0, 0.0)]
        made_of.append(acl.rules.from_family(made_of[0]))
        return [
            acl.statistics(z, z_pos, f, negatives=negatives, block_size=size)[
                "mutual_information_bound"
            ]
            for f, size in zip(made_of, (None, 2, None), strict=True)
        ]

    np.testing.assert_allclose(bounds(), [want] * 3, rtol=1e-12)


def test_mutual_information_bound_is_below_the_information_and_near_it():
    """Gaussian pairs of correlation r, whose information is −½ log(1 − r²) per dimension."""
    r, n = 0.8, 1024
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 1)).astype(np.float32)
    z_pos = (r * z + np.sqrt(1 - r**2) * rng.normal(size=(n, 1))).astype(np.float32)
    # The temperature at which this critic comes nearest to the density ratio of such pairs.
    measured = jax.jit(
        lambda: acl.statistics(
            z, z_pos, acl.families.info_nce((1 - r**2) / r), negatives="cross_view"
        )
    )()["mutual_information_bound"]
    information = -0.5 * np.log(1 - r**2)
    assert 0.8 * information < measured <= information + 0.02


def test_only_info_nce_has_the_bound():
    z, z_pos = views(4, 4, 3, np.float32)
    for other in (family("mine"), family("soft_triplet"), rule("entropy")):
        found = jax.eval_shape(functools.partial(acl.statistics, rule_or_family=other), z, z_pos)
        assert "mutual_information_bound" not in found


def test_perplexity_of_uniform_importance_is_the_number_of_negatives():
    z, z_pos = views(2, 4, 3, np.float32)
    got = jax.jit(lambda: acl.statistics(z, z_pos, rule("uniform")))()
    np.testing.assert_allclose(got["perplexity"], 6, rtol=1e-6)


class VariantsTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_of_equal_embeddings_in_half_precision(self):
        z = jnp.ones((3, 2), jnp.bfloat16)
        got = self.variant(lambda z: acl.statistics(z, z, rule("direct")))(z)
        want = {
            "energy": 0,
            "positive_distance": 0,
            "negative_distance": 0,
            "perplexity": 4,
            "alignment": 0,
            "uniformity": 0,
        }
        assert set(got) == set(want)
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, atol=1e-6, err_msg=name)
            assert got[name].dtype == jnp.float32


def test_no_gradient_flows():
    z, z_pos = views(3, 3, 2, np.float32)
    total = lambda z: sum(acl.statistics(z, z_pos, rule("direct")).values())  # noqa: E731
    np.testing.assert_array_equal(jax.jit(jax.grad(total))(z), 0)


def test_no_gradient_flows_to_negatives_and_parameters_of_a_mapped_batch():
    z, z_pos = views(3, 4, 2, np.float32)

    def total(negatives, tau):
        mapped = jax.vmap(
            lambda z, z_pos: sum(
                acl.statistics(
                    z, z_pos, rule("entropy", tau), negatives=negatives, axis_name="batch"
                ).values()
            ),
            axis_name="batch",
        )
        return jnp.sum(mapped(z.reshape(2, 2, 2), z_pos.reshape(2, 2, 2)))

    for gradient in jax.jit(jax.grad(total, argnums=(0, 1)))(z[:3] + 1, 0.5):
        np.testing.assert_array_equal(gradient, 0)


def test_far_apart_embeddings_keep_a_finite_uniformity():
    z, z_pos = views(4, 4, 3, np.float32)
    got = jax.jit(lambda z, z_pos: acl.statistics(z, z_pos, rule("entropy")))(1e4 * z, 1e4 * z_pos)
    chex.assert_tree_all_finite(got)
    assert got["uniformity"] < -1e5


@pytest.mark.parametrize(
    ("error", "arguments", "options", "message"),
    [
        (
            TypeError,
            (np.ones((2, 2)), np.ones((2, 2)), 3),
            {},
            "expected a Rule or a Family, got 3",
        ),
        (ValueError, (np.ones((1, 2)), np.ones((1, 2)), rule("direct")), {}, "a batch of 1"),
        (
            ValueError,
            (np.ones((2, 2)), np.ones((2, 2)), rule("direct")),
            {"block_size": 0},
            "block_size=0",
        ),
        (AssertionError, (np.ones(2), np.ones(2), rule("direct")), {}, r"z has shape \(2,\)"),
    ],
)
def test_rejects(error, arguments, options, message):
    with pytest.raises(error, match=message):
        acl.statistics(*arguments, **options)
