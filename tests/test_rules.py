import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

import alphacl_jax as acl
from alphacl_jax import rules
from tests import oracle
from tests.cases import RULES, family, layouts, regularized, rule, views

N, DIM = 5, 3
ALL_LAYOUTS = ("both_views", "same_view", "cross_view", "explicit", "masked")
TWO_LAYOUTS = ("both_views", "masked")


@functools.partial(jax.jit, static_argnames=("rule", "names"))
def alphas(z, z_pos, array, mask, rule, names):
    choices = {name: name for name in names} | {"explicit": array, "masked": (array, mask)}
    return {
        name: acl.pairwise_importance(z, z_pos, rule, negatives=choices[name]) for name in names
    }


def check_against_oracle(rule, names, *oracle_arguments):
    z, z_pos = views(0, N, DIM)
    choices = layouts(0, N, DIM)
    choices["masked"][1][2] = False  # an anchor that the mask leaves no negative
    for name, alpha in alphas(z, z_pos, *choices["masked"], rule, names).items():
        _, d_neg, candidates = oracle.distances(z, z_pos, choices[name])
        want = oracle.rule_alpha(d_neg, candidates, *oracle_arguments)
        np.testing.assert_allclose(alpha, want, rtol=1e-8, atol=1e-11, err_msg=name)
        some = [bool(row) for row in d_neg]
        np.testing.assert_allclose(alpha.sum(1), np.asarray(some, float), rtol=1e-11)
        assert alpha.min() >= 0


@pytest.mark.parametrize("name", RULES)
def test_importance(name, x64):
    layouts = ALL_LAYOUTS if name == "direct" else TWO_LAYOUTS
    check_against_oracle(rule(name), layouts, name, *RULES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_importance_in_all_layouts(name, x64):
    check_against_oracle(rule(name), ALL_LAYOUTS, name, *RULES[name])


@functools.partial(jax.jit, static_argnames="name")
def row_of(name, d, *parameters):
    """One row of α from its d_ij², all of them negatives."""
    if name.startswith("regularized_"):
        chosen = regularized(name.removeprefix("regularized_"), *parameters)
    else:
        chosen = rule(name, *parameters)
    mask = jnp.ones((1, d.shape[0]), bool)
    return rules.importance(chosen, d[None], jnp.zeros(1, d.dtype), mask)[0]


@pytest.mark.parametrize("power", [1.3, 2, 6])
def test_direct_by_power(power, x64):
    d = np.random.default_rng(0).uniform(0, 2, 7)
    want = oracle.rule_row("direct", d, 0.3, power)
    np.testing.assert_allclose(row_of("direct", d, 0.3, power), want, rtol=1e-11)


def test_direct_with_power_two_is_entropy_and_gamma_one_is_the_limit_of_inverse(x64):
    d = np.random.default_rng(1).uniform(0, 2, 7)
    np.testing.assert_allclose(row_of("direct", d, 0.3, 2), row_of("entropy", d, 0.3), rtol=1e-12)


SETTINGS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
PROBLEMS = (st.integers(0, 2**31), st.floats(-3, 4), st.sampled_from([0.0, 1e-3, 1.0, 100.0]))


def problem(seed, log_tau, spread):
    """Distances of which some are equal, and a temperature."""
    d = spread * np.round(np.random.default_rng(seed).uniform(0, 2, 7), 2)
    return d, 10.0**log_tau


@SETTINGS
@given(*PROBLEMS, st.floats(1.01, 8.0))
def test_inverse_solves_its_stationarity(x64, seed, log_tau, spread, gamma):
    """2d² − 2τ a^{−γ} is the same μ for all negatives."""
    d, tau = problem(seed, log_tau, spread)
    alpha = np.asarray(row_of("inverse", d, tau, gamma))
    assert (alpha > 0).all()
    np.testing.assert_allclose(alpha.sum(), 1, rtol=1e-13)
    mu = 2 * d - 2 * tau * alpha**-gamma
    np.testing.assert_allclose(mu, mu[0], rtol=1e-9, atol=1e-12 * np.abs(2 * d).max())
    by_hand = np.asarray(row_of("regularized_inverse", d, tau, gamma))
    np.testing.assert_allclose(by_hand, alpha, rtol=1e-9, atol=1e-14)


@SETTINGS
@given(*PROBLEMS)
def test_square_solves_its_stationarity(x64, seed, log_tau, spread):
    """2d² + τ a = μ where a > 0, and 2d² ≥ μ elsewhere."""
    d, tau = problem(seed, log_tau, spread)
    alpha = np.asarray(row_of("square", d, tau))
    assert (alpha >= 0).all()
    np.testing.assert_allclose(alpha.sum(), 1, rtol=1e-12)
    mu = 2 * d + tau * alpha
    level = mu[alpha > 0][0]
    tolerance = 1e-12 * (1 + np.abs(mu).max())
    np.testing.assert_allclose(mu[alpha > 0], level, rtol=0, atol=tolerance)
    assert (2 * d[alpha == 0] >= level - tolerance).all()
    by_hand = np.asarray(row_of("regularized_square", d, tau))
    np.testing.assert_allclose(by_hand, alpha, rtol=1e-9, atol=1e-12)


@SETTINGS
@given(*PROBLEMS)
def test_entropy_solves_its_stationarity(x64, seed, log_tau, spread):
    """2d² + 2τ(log a + 1) is the same μ for all negatives whose a is above rounding."""
    d, tau = problem(seed, log_tau, spread)
    alpha = np.asarray(row_of("entropy", d, tau))
    np.testing.assert_allclose(alpha.sum(), 1, rtol=1e-13)
    seen = alpha > 1e-300
    mu = 2 * d[seen] + 2 * tau * (np.log(alpha[seen]) + 1)
    np.testing.assert_allclose(mu, mu[0], rtol=1e-9, atol=1e-12 * (1 + 2 * d.max()))
    by_hand = np.asarray(row_of("regularized_entropy", d, tau))
    np.testing.assert_allclose(by_hand, alpha, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ["inverse", "regularized_inverse", "regularized_entropy"])
@pytest.mark.parametrize("tau", [1e-3, 0.5, 1e4])
def test_solved_rules_in_float32_are_exact_to_its_precision(name, tau):
    d = np.random.default_rng(2).uniform(0, 2, 64).astype(np.float32)
    parameters = (tau, 2.0) if name.endswith("inverse") else (tau,)
    alpha = np.asarray(row_of(name, d, *parameters))
    want = oracle.rule_row(name.removeprefix("regularized_"), d, *parameters)
    # An error of eps in d² is one of eps·d²/τ in log α.
    np.testing.assert_allclose(alpha, want, rtol=2e-5, atol=1e-9)
    np.testing.assert_allclose(alpha.sum(dtype=np.float64), 1, rtol=3e-6)


def test_regularizer_on_a_bounded_domain(x64):
    """r'(a) = 1/(1 + a), between r'(∞) = 0 and r'(0) = 1: far negatives get exactly 0."""
    mine = acl.rules.regularized(lambda x: 1 / x - 1, domain=(0.0, 1.0))
    d = np.array([[0.0, 0.05, 0.1, 0.5, 3.0]])
    mask = np.ones_like(d, bool)
    solve = jax.jit(lambda d: rules.importance(mine, d, jnp.zeros(1), mask))
    alpha = np.asarray(solve(d))[0]
    np.testing.assert_allclose(alpha.sum(), 1, rtol=1e-12)
    assert (alpha[:3] > 0).all()
    np.testing.assert_array_equal(alpha[3:], 0)
    mu = 2 * d[0, :3] - 1 / (1 + alpha[:3])
    np.testing.assert_allclose(mu, mu[0], rtol=1e-12)
    assert 2 * d[0, 3] - mu[0] >= 1
    weighted = jax.jit(lambda d: jnp.sum(solve(d) * jnp.arange(5.0)[None]))
    check_grads(weighted, (d,), order=1, modes=["rev"])


def test_from_family_is_the_importance_of_the_loss(x64):
    z, z_pos = views(3, 4, DIM)
    chosen = family("soft_triplet")
    of_rule, of_family = jax.jit(
        lambda: [
            acl.pairwise_importance(z, z_pos, c) for c in (acl.rules.from_family(chosen), chosen)
        ]
    )()
    d_pos, d_neg, candidates = oracle.distances(z, z_pos, "both_views")
    want = oracle.family_alpha(d_pos, d_neg, candidates, oracle.family("soft_triplet", 0.6, 0.2))
    np.testing.assert_allclose(of_rule, want, rtol=1e-10)
    np.testing.assert_array_equal(of_rule, of_family)


BACKPROP = {
    "direct": lambda t: acl.rules.direct(t, 1.0 + 4 * t),
    "entropy": acl.rules.entropy,
    "inverse": lambda t: acl.rules.inverse(t, 1.0 + 2 * t),
    "square": acl.rules.square,
    "reference_inverse": lambda t: acl.rules.reference_inverse(t, 3 * t),
    "regularized_inverse": lambda t: regularized("inverse", t, 2 + t),
    "regularized_square": lambda t: regularized("square", t),
    "from_family": lambda t: acl.rules.from_family(acl.families.info_nce(t, 1.0)),
}


@pytest.mark.parametrize("name", BACKPROP)
def test_gradient_through_importance_is_that_of_finite_differences(name, x64):
    """By the embeddings, and by traced parameters of the rule, a closed-over one included."""
    z, z_pos = views(4, 3, 2)

    @jax.jit
    def loss(z, z_pos, t):
        return acl.alpha_cl_loss(z, z_pos, BACKPROP[name](t), stop_gradient=False)

    check_grads(loss, (z, z_pos, 0.6), order=1, modes=["rev"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["inverse", "regularized_square"])
def test_stopped_importance_has_the_gradient_of_a_constant(name, x64):
    z, z_pos = views(5, 4, 2)
    chosen = BACKPROP[name](0.6)

    @jax.jit
    def gradients(z):
        alpha = acl.pairwise_importance(z, z_pos, chosen)
        return (
            jax.grad(lambda z: acl.alpha_cl_loss(z, z_pos, chosen))(z),
            jax.grad(lambda z: -acl.energy(z, z_pos, alpha) / 2 / 8)(z),
            jax.grad(lambda z: acl.alpha_cl_loss(z, z_pos, chosen, stop_gradient=False))(z),
            jax.grad(lambda t: acl.alpha_cl_loss(z, z_pos, BACKPROP[name](t)))(0.6),
        )

    stopped, constant, through, by_temperature = gradients(z)
    np.testing.assert_allclose(stopped, constant, rtol=1e-10, atol=1e-13)
    assert np.abs(stopped - through).max() > 1e-3
    assert by_temperature == 0


def test_second_derivative_through_the_solver_is_that_of_the_closed_form(x64):
    z, z_pos = views(4, 3, DIM)
    direction = views(5, 3, DIM)[0]
    tau = 0.3

    @jax.jit
    def curvatures(t):
        def curvature(rule):
            loss = lambda t: acl.alpha_cl_loss(  # noqa: E731
                z + t * direction, z_pos, rule, stop_gradient=False
            )
            return jax.grad(jax.grad(loss))(t)

        return curvature(regularized("entropy", tau)), curvature(rule("entropy", tau))

    solved, closed = curvatures(0.0)
    np.testing.assert_allclose(solved, closed, rtol=1e-8)


def test_inverse_with_a_large_gamma_is_nearly_uniform():
    """t is about τ · 30^γ, beyond float32."""
    z, z_pos = views(8, 16, DIM, np.float32)
    alpha = jax.jit(lambda: acl.pairwise_importance(z, z_pos, rule("inverse", 0.5, 30.0)))()
    np.testing.assert_allclose(np.sort(alpha, axis=1)[:, 2:], 1 / 30, rtol=1e-5)


def test_users_rule():
    z, z_pos = views(6, 4, 2, np.float32)
    nearest = acl.Rule(
        lambda d_neg, d_pos, mask: jax.nn.one_hot(
            jnp.argmin(jnp.where(mask, d_neg, jnp.inf), axis=1), d_neg.shape[1]
        )
    )
    alpha = jax.jit(lambda: acl.pairwise_importance(z, z_pos, nearest))()
    _, d_neg, _ = oracle.distances(z, z_pos, "both_views")
    assert [int(np.argmax(row)) for row in alpha] == [min(r, key=r.get) for r in d_neg]


def test_arguments_by_position_and_by_name():
    r, mine = acl.rules, family("mine")
    assert r.direct() == r.direct(0.5) == r.direct(0.5, 4)
    assert r.direct(0.2, 6) == r.direct(temperature=0.2, power=6)
    assert r.entropy(0.2) == r.entropy(temperature=0.2)
    assert r.inverse(0.2, 3.0) == r.inverse(temperature=0.2, gamma=3.0)
    assert r.square(0.2) == r.square(temperature=0.2)
    assert r.reference_inverse(0.2, 3.0) == r.reference_inverse(temperature=0.2, gamma=3.0)
    assert r.from_family(mine) == r.from_family(family=mine)
    by_hand = functools.partial(r.regularized, jnp.negative)
    assert by_hand(domain=(-1, 0)) == by_hand(domain=(-1.0, 0.0))


def test_equal_by_value_and_hashable():
    ours, again = ([rule(name) for name in RULES] for _ in range(2))
    assert ours == again
    assert [hash(r) for r in ours] == [hash(r) for r in again]
    assert len(set(ours + again)) == len(RULES)
    assert rule("direct", 0.5, 4) != rule("direct", 0.5, 6)


def test_static_under_jit_compiles_once_per_value():
    traces = []

    @functools.partial(jax.jit, static_argnums=1)
    def loss(z, rule):
        traces.append(rule)
        return acl.alpha_cl_loss(z, z[::-1], rule)

    z = views(6, 4, DIM, np.float32)[0]
    loss(z, acl.rules.direct(0.5, 4))
    loss(z, acl.rules.direct(temperature=0.5))
    assert len(traces) == 1
    loss(z, acl.rules.direct(0.5, 6))
    assert len(traces) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.direct(0.0), r"temperature=0 is out of range; .* > 0"),
        (lambda r: r.direct(0.5, 1), r"power=1 is out of range; .* > 1"),
        (lambda r: r.direct(0.5, math.nan), "power=nan"),
        (lambda r: r.direct(0.5, "4"), "power='4' must be a number"),
        (lambda r: r.entropy(-0.5), "temperature=-0.5"),
        (lambda r: r.entropy(math.nan), "temperature=nan"),
        (lambda r: r.inverse(math.inf), "temperature=inf"),
        (lambda r: r.inverse(0.5, 1.0), r"gamma=1 is out of range; .* > 1"),
        (lambda r: r.inverse(0.5, 0.9), "gamma=0.9"),
        (lambda r: r.square(0), "temperature=0 "),
        (lambda r: r.reference_inverse(0.5, 0.0), "gamma=0 "),
        (lambda r: r.reference_inverse(0.0), "temperature=0 "),
        (lambda r: r.entropy(np.ones(3)), r"temperature must be a scalar.*\(3,\)"),
        (lambda r: r.regularized(jnp.negative, domain=(1.0, 1.0)), r"domain=\(1.0, 1.0\) is empty"),
        (lambda r: r.regularized(jnp.negative, domain=(math.nan, 1.0)), "domain=.*nan"),
    ],
)
def test_values_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call(acl.rules)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: acl.Rule(3), r"Rule\(3\): importance must be callable"),
        (lambda: acl.rules.regularized(3, domain=(0, 1)), "r_prime_inverse=3 must be callable"),
        (
            lambda: acl.rules.from_family(rule("uniform")),
            r"expects a Family, got rules\.uniform\(\)",
        ),
        (
            lambda: acl.pairwise_importance(np.ones((2, 2)), np.ones((2, 2)), "direct"),
            "expected a Rule or a Family, got 'direct'",
        ),
    ],
)
def test_wrong_kinds(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_parameters_of_a_wider_type_do_not_widen_the_loss(x64):
    """A schedule's float64, where the embeddings are float32."""
    z, z_pos = views(9, 3, DIM, np.float32)

    def losses(tau):
        made = [rule("direct", tau, 1 + tau), rule("entropy", tau), rule("inverse", tau, 1 + tau)]
        made += [rule("square", tau), rule("reference_inverse", tau, tau)]
        made += [regularized("entropy", tau), acl.rules.from_family(family("triplet", tau))]
        families = [family("info_nce", tau, tau), family("triplet", tau), family("sigmoid", tau)]
        return [acl.alpha_cl_loss(z, z_pos, r) for r in made] + [
            acl.contrastive_loss(z, z_pos, f) for f in families
        ]

    for loss in jax.eval_shape(losses, jax.ShapeDtypeStruct((), jnp.float64)):
        assert loss.dtype == jnp.float32


def test_importance_type_follows_the_embeddings(x64):
    for dtype, want in (("bfloat16", "float32"), ("float16", "float32"), ("float64", "float64")):
        z = jnp.ones((3, 2), dtype)
        for chosen in (rule("inverse"), regularized("entropy", 0.5), family("info_nce")):
            shape = jax.eval_shape(lambda z, c=chosen: acl.pairwise_importance(z, z, c), z)
            assert shape.dtype == want
            chex.assert_shape(shape, (6, 6))
