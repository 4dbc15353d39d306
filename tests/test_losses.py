"""The calls that people make: orders, reductions, layouts, errors."""

import doctest
import functools
import importlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import alphacl_jax as acl
from tests import oracle
from tests.cases import FAMILIES, RULES, family, layouts, rule, views
from tests.test_layers import KERNELS

N, DIM = 4, 3
LAYOUTS = ("both_views", "same_view", "cross_view", "explicit", "masked")


def expected(z, z_pos, negatives):
    """Per-anchor values of one loss and one rule, by the oracle."""
    d_pos, d_neg, candidates = oracle.distances(z, z_pos, negatives)
    phi, psi, _, _ = oracle.family("info_nce", *FAMILIES["info_nce"])
    alpha = oracle.rule_alpha(d_neg, candidates, "direct", *RULES["direct"])
    return (
        oracle.family_values(d_pos, d_neg, phi, psi),
        oracle.alpha_cl_values(d_pos, d_neg, alpha),
        alpha,
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_reductions_and_order(layout, x64):
    z, z_pos = views(0, N, DIM)
    negatives = layouts(0, N, DIM)[layout]

    @jax.jit
    def all_of_them():
        calls = (
            lambda **k: acl.contrastive_loss(z, z_pos, family("info_nce"), **k),
            lambda **k: acl.alpha_cl_loss(z, z_pos, rule("direct"), **k),
        )
        return [
            [call(negatives=negatives, reduction=r) for r in ("none", "sum", "mean")]
            for call in calls
        ], acl.pairwise_importance(z, z_pos, rule("direct"), negatives=negatives)

    results, alpha = all_of_them()
    *wants, want_alpha = expected(z, z_pos, negatives)
    for (values, total, mean), want in zip(results, wants, strict=True):
        assert values.shape == (2 * N if layout == "both_views" else N,)
        np.testing.assert_allclose(values, want, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose([total, mean], [want.sum(), want.mean()], rtol=1e-10)
    np.testing.assert_allclose(alpha, want_alpha, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("layout", ["both_views", "same_view"])
def test_alpha_cl_is_minus_half_the_energy_per_anchor(layout, x64):
    z, z_pos = views(1, N, DIM)

    @jax.jit
    def both():
        alpha = acl.pairwise_importance(z, z_pos, rule("inverse"), negatives=layout)
        loss = acl.alpha_cl_loss(z, z_pos, rule("inverse"), negatives=layout)
        return loss, -acl.energy(z, z_pos, alpha) / 2 / len(alpha)

    loss, of_energy = both()
    np.testing.assert_allclose(loss, of_energy, rtol=1e-12)


def test_nt_xent_by_its_usual_formula(x64):
    """NT-Xent: cross entropy of cosines over temperature, against the 2n − 1 others."""
    z, z_pos = views(2, N, DIM, unit=True)
    tau, both = 0.3, np.concatenate([z, z_pos])
    cosines = both @ both.T / tau
    want = np.mean(
        [
            -cosines[i, (i + N) % (2 * N)]
            + np.log(sum(np.exp(cosines[i, j]) for j in range(2 * N) if j != i))
            for i in range(2 * N)
        ]
    )
    loss = jax.jit(lambda: acl.contrastive_loss(z, z_pos, acl.families.info_nce(tau, 1.0)) / tau)
    np.testing.assert_allclose(loss(), want, rtol=1e-12)


def test_descent_by_a_loss_is_descent_by_alpha_cl_at_its_importance(x64):
    z, z_pos = views(3, N, DIM)
    chosen = family("soft_triplet")

    @jax.jit
    def gradients():
        return (
            jax.grad(acl.contrastive_loss)(z, z_pos, chosen),
            jax.grad(acl.alpha_cl_loss)(z, z_pos, acl.rules.from_family(chosen)),
        )

    of_loss, of_alpha_cl = gradients()
    np.testing.assert_allclose(of_loss, of_alpha_cl, rtol=1e-11)


@pytest.mark.parametrize("negatives", ["cross_view", "explicit"])
def test_gradients_are_those_of_finite_differences(negatives, x64):
    z, z_pos = views(4, 3, 2)
    if negatives == "explicit":
        array = views(5, 4, 2)[0]

        @jax.jit
        def loss(z, z_pos, array):
            return acl.contrastive_loss(z, z_pos, family("info_nce"), negatives=array)

        check_grads(loss, (z, z_pos, array), order=1, modes=["rev"])
        return

    @jax.jit
    def loss(z, z_pos):
        return acl.contrastive_loss(z, z_pos, family("lifted_structured"), negatives=negatives)

    check_grads(loss, (z, z_pos), order=1, modes=["rev"])


class VariantsTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True)
    def test_loss_alpha_cl_and_importance(self):
        z, z_pos = views(6, N, DIM, np.float32)
        want_loss, want_alpha_cl, want_alpha = expected(z, z_pos, "same_view")

        def everything(z, z_pos):
            options = {"negatives": "same_view"}
            return (
                acl.contrastive_loss(z, z_pos, family("info_nce"), **options),
                acl.alpha_cl_loss(z, z_pos, rule("direct"), **options),
                acl.pairwise_importance(z, z_pos, rule("direct"), **options),
            )

        loss, alpha_cl, alpha = self.variant(everything)(z, z_pos)
        np.testing.assert_allclose(loss, want_loss.mean(), rtol=1e-5)
        np.testing.assert_allclose(alpha_cl, want_alpha_cl.mean(), rtol=1e-4)
        np.testing.assert_allclose(alpha, want_alpha, rtol=1e-3, atol=1e-6)


def test_one_sample_is_enough_with_explicit_negatives(x64):
    z, z_pos = views(7, 1, DIM)
    array = views(8, 3, DIM)[0]
    want, _, _ = expected(z, z_pos, array)
    got = jax.jit(lambda: acl.contrastive_loss(z, z_pos, family("info_nce"), negatives=array))()
    np.testing.assert_allclose(got, want[0], rtol=1e-12)


Z = np.zeros((3, 2), np.float32)
CALLS = {
    "contrastive_loss": functools.partial(acl.contrastive_loss, family=acl.families.mine()),
    "alpha_cl_loss": functools.partial(acl.alpha_cl_loss, rule=acl.rules.uniform()),
    "pairwise_importance": functools.partial(
        acl.pairwise_importance, rule_or_family=acl.rules.uniform()
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("error", "z", "z_pos", "options", "message"),
    [
        (
            ValueError,
            Z[:1],
            Z[:1],
            {},
            "a batch of 1 has no negatives; .*'both_views' needs n >= 2",
        ),
        (ValueError, Z[:0], Z[:0], {"negatives": "same_view"}, "a batch of 0 has no negatives"),
        (
            ValueError,
            Z,
            Z,
            {"negatives": "all"},
            "negatives='all' is unknown.*both_views, same_view",
        ),
        (ValueError, Z, Z, {"negatives": None}, "negatives=None is unknown.*both_views"),
        (
            ValueError,
            Z,
            Z,
            {"negatives": (Z,)},
            r"negatives=\(<array of shape \(3, 2\)>,\) is unknown.*a tuple of",
        ),
        (
            ValueError,
            Z,
            Z,
            {"negatives": ("same_view", Z)},
            r"negatives=\('same_view', <array of shape \(3, 2\)>\) is unknown.*a tuple",
        ),
        (ValueError, Z, Z, {"negatives": [Z, Z]}, "negatives=<list of 2> is unknown.*a tuple of"),
        (ValueError, Z, Z, {"negatives": Z.tolist()}, "negatives=<list of 3> is unknown"),
        (ValueError, Z, Z, {"negatives": (Z, "mask")}, "negatives=.*'mask'.* is unknown"),
        (ValueError, Z, Z, {"negatives": Z[:0]}, "negatives is an empty array"),
        (AssertionError, Z, Z[:2], {}, r"z has shape \(3, 2\), z_pos has shape \(2, 2\)"),
        (AssertionError, Z[0], Z[0], {}, r"z has shape \(2,\).*\[batch, dim\]"),
        (
            AssertionError,
            Z.astype(np.int32),
            Z,
            {},
            r"z has type int32 and shape \(3, 2\); it must be floating",
        ),
        (AssertionError, Z, Z > 0, {}, r"z_pos has type bool and shape \(3, 2\)"),
        (AssertionError, Z, Z, {"negatives": Z[0]}, r"negatives has shape \(2,\), not \[m, 2\]"),
        (
            AssertionError,
            Z,
            Z,
            {"negatives": Z[:, :1]},
            r"negatives has shape \(3, 1\), not \[m, 2\]",
        ),
        (
            AssertionError,
            Z,
            Z,
            {"negatives": Z.astype(np.int32)},
            r"negatives has type int32 and shape \(3, 2\); it must be floating",
        ),
        (
            AssertionError,
            Z,
            Z,
            {"negatives": (Z, np.ones((2, 3), bool))},
            r"the mask has shape \(2, 3\), not \[anchors, m\] = \(3, 3\)",
        ),
        (
            AssertionError,
            Z,
            Z,
            {"negatives": (Z, np.ones((3, 3), np.float32))},
            "the mask has type float32, not bool",
        ),
    ],
)
def test_inputs_that_are_refused(call, error, z, z_pos, options, message):
    with pytest.raises(error, match=message):
        call(z, z_pos, **options)


@pytest.mark.parametrize("name", ["contrastive_loss", "alpha_cl_loss"])
def test_unknown_reduction(name):
    with pytest.raises(
        ValueError, match="reduction='median' is unknown; use one of mean, sum, none"
    ):
        CALLS[name](Z, Z, reduction="median")
    with pytest.raises(ValueError, match="reduction=<list of 2> is unknown"):
        CALLS[name](Z, Z, reduction=[1, 2])
    with pytest.raises(ValueError, match="block_size=<list of 3> must be a whole number"):
        CALLS[name](Z, Z, block_size=Z.tolist())


def test_a_rule_is_no_family_and_the_reverse():
    with pytest.raises(
        TypeError, match=r"expects a Family, got rules\.uniform\(\);.*goes to alpha_cl_loss"
    ):
        acl.contrastive_loss(Z, Z, acl.rules.uniform())
    with pytest.raises(
        TypeError, match=r"expects a Rule, got families\.mine\(\);.*rules\.from_family"
    ):
        acl.alpha_cl_loss(Z, Z, acl.families.mine())


NAMED = {
    "contrastive_loss": lambda value: acl.contrastive_loss(Z, Z, value),
    "alpha_cl_loss": lambda value: acl.alpha_cl_loss(Z, Z, value),
    "pairwise_importance": lambda value: acl.pairwise_importance(Z, Z, value),
    "statistics": lambda value: acl.statistics(Z, Z, value),
    "from_family": acl.rules.from_family,
    "importance": lambda value: acl.rules.importance(value, Z, Z[:, 0], Z > 0),
}


@pytest.mark.parametrize("call", NAMED)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("info_nce", r"got 'info_nce'; write families\.info_nce\(\)"),
        (acl.families.info_nce, r"got <function info_nce .*>; write families\.info_nce\(\)"),
        ("direct", r"got 'direct'; write rules\.direct\(\)"),
        ("InfoNCE", r"got 'InfoNCE'; write families\.info_nce\(\)"),
        ("info-nce", r"got 'info-nce'; write families\.info_nce\(\)"),
        (acl.rules.regularized, r"; write rules\.regularized\(\.\.\.\)"),
        (Z, r"got <array of shape \(3, 2\)>"),
        (None, "got None"),
    ],
)
def test_a_name_or_a_function_that_was_not_called_is_answered_with_the_call(call, value, message):
    with pytest.raises(TypeError, match=f"expect.*{message}"):
        NAMED[call](value)


def test_parts_of_a_rule_or_a_family_of_the_wrong_kind():
    def importance(d_neg, d_pos, mask):
        return d_neg

    with pytest.raises(TypeError, match=r"Rule\(log_weight='x'\): it must be callable"):
        acl.Rule(importance, log_weight="x")
    with pytest.raises(TypeError, match=r"Rule\(family=.*got 'info_nce'; write families\.info"):
        acl.Rule(importance, family="info_nce")
    for make in (acl.Rule, lambda value: acl.Family(value, value)):
        with pytest.raises(TypeError, match=r"<list of 3>\): \w+ must be callable"):
            make(Z.tolist())


def test_every_maker_of_a_family_or_a_rule_is_known_by_name():
    for module, makers in ((acl.families, acl.families.LOSSES), (acl.rules, acl.rules.RULES)):
        public = [v for k, v in vars(module).items() if k == k.lower() and not k.startswith("_")]
        kinds = {"families": acl.Family, "rules": acl.Rule}
        kind = kinds[module.__name__.rpartition(".")[2]]
        made = [v for v in public if getattr(v, "__annotations__", {}).get("return") is kind]
        assert set(made) == set(makers)


def test_integers_are_named_wherever_embeddings_go():
    whole = np.ones((3, 2), np.int32)
    named = r" has type int32 and shape \(3, 2\); it must be floating"
    for name, call in {
        "z": lambda: acl.l2_normalize(whole),
        "x": lambda: acl.squared_distances(whole),
        "y": lambda: acl.squared_distances(Z, whole),
        "z_pos": lambda: acl.statistics(Z, whole, acl.families.mine()),
    }.items():
        with pytest.raises(AssertionError, match=name + named):
            call()
    with pytest.raises(AssertionError, match=r"alpha has type int32 and shape \(3, 3\)"):
        acl.energy(Z, Z, np.ones((3, 3), np.int32))


def test_options_are_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        acl.contrastive_loss(Z, Z, acl.families.mine(), "both_views")
    with pytest.raises(TypeError, match="positional"):
        acl.alpha_cl_loss(Z, Z, acl.rules.uniform(), "both_views")


def test_examples_in_docstrings():
    attempted = 0
    for name in KERNELS:
        module = importlib.import_module(f"alphacl_jax.{name}")
        result = doctest.testmod(module)
        assert result.failed == 0, name
        attempted += result.attempted
    assert attempted >= 2


def test_everything_exported_is_documented():
    for name in acl.__all__:
        assert getattr(acl, name).__doc__, name
    assert jnp.issubdtype(jax.eval_shape(CALLS["contrastive_loss"], Z, Z).dtype, jnp.floating)
