"""Drawn at random: the shape, layout, loss, parameters, block size, type, scale and devices.

Each draw is compared with the dense float64 form on one device, within what rounding explains
(`bounds`); that form itself with the double loops of `oracle`, where those do not overflow.
"""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from alphacl_jax.evaluation.knn import knn_correct
from tests import bounds, oracle
from tests.cases import FAMILIES, RULES, family, layouts, rule, views

AS_USERS_COMPILE = True

AXIS = "batch"


def powers_of_ten(low, high):
    return st.floats(low, high).map(lambda x: float(f"{10**x:.3g}"))


TEMPERATURE = powers_of_ten(-3, 4)
MARGIN = st.sampled_from([0.0, 0.3, 1.0])
PARAMETERS = {
    "info_nce": st.tuples(TEMPERATURE, st.sampled_from([0.0, 1.0])),
    "triplet": st.tuples(MARGIN),
    "soft_triplet": st.tuples(TEMPERATURE, MARGIN),
    "lifted_structured": st.tuples(MARGIN),
    "sigmoid": st.tuples(st.sampled_from([0.5, 2.0])),
    "direct": st.tuples(TEMPERATURE, st.sampled_from([1.3, 2.0, 4.0, 6.0])),
    "entropy": st.tuples(TEMPERATURE),
    "inverse": st.tuples(TEMPERATURE, st.sampled_from([1.2, 2.0, 5.0])),
    "square": st.tuples(TEMPERATURE),
    "reference_inverse": st.tuples(TEMPERATURE, st.sampled_from([0.5, 2.0])),
}
TEMPERED = (
    "info_nce",
    "soft_triplet",
    *(name for name in RULES if name != "uniform"),
    "closeness",
)
# Losses whose α is continuous, as the α-CL loss of it then is too.
IMPLIED = ("info_nce", "lifted_structured", "sigmoid", "soft_triplet")
FILLERS = (np.nan, np.inf, -np.inf, 3e38)


@st.composite
def draws(draw):
    kind = draw(st.sampled_from(["family", "rule", "from_family"]))
    names = {"family": tuple(FAMILIES), "rule": tuple(RULES), "from_family": IMPLIED}[kind]
    name = draw(st.sampled_from(names))
    devices = draw(st.sampled_from([None, None, 1, 2, 4]))
    local = draw(st.sampled_from([1, 2, 3] if (devices or 0) > 1 else [2, 3, 5, 8]))
    return {
        "kind": kind,
        "name": name,
        "parameters": draw(PARAMETERS.get(name, st.just(()))),
        "stop_gradient": draw(st.booleans()),
        "traced": draw(st.booleans()),
        "devices": devices,
        "n": local * (devices or 1),
        "dim": draw(st.sampled_from([1, 3])),
        "layout": draw(
            st.sampled_from(["both_views", "same_view", "cross_view", "explicit", "masked"])
        ),
        "block_size": draw(st.sampled_from([None, 1, 1, 2, 3, 5, 100, "auto"])),
        "dtype": draw(st.sampled_from(["float32", "bfloat16", "float64"])),
        "scale": draw(st.sampled_from([1.0, 1.0, 0.0, 1e-4, 1e4])),
        "equal_views": draw(st.sampled_from([False, False, True])),
        "unit": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
    }


@st.composite
def harder_draws(draw):
    """Padding that is no number behind a mask, a rule of a user's own, or both."""
    case = draw(draws())
    what = draw(st.sampled_from(["padding", "rule", "both"]))
    if what != "rule":
        case |= {"layout": "masked", "filler": draw(st.sampled_from(FILLERS))}
    if what != "padding":
        case |= {"kind": "rule", "name": "closeness", "parameters": (draw(TEMPERATURE),)}
        case |= {"wild": draw(st.booleans())}
    return case


# What the few draws of the fast run may leave out.
PLAIN = {
    "kind": "rule",
    "name": "direct",
    "parameters": (0.5, 4.0),
    "stop_gradient": False,
    "traced": True,
    "devices": None,
    "n": 4,
    "dim": 3,
    "layout": "masked",
    "block_size": 1,
    "dtype": "float32",
    "scale": 1.0,
    "equal_views": False,
    "unit": True,
    "seed": 1,
}
OF_ONES_OWN = PLAIN | {"name": "closeness", "parameters": (0.5,)}
HARDER = (
    PLAIN | {"filler": np.inf},
    PLAIN
    | {"kind": "family", "name": "info_nce", "parameters": (0.5, 1.0), "devices": 2}
    | {"filler": 3e38},
    OF_ONES_OWN | {"wild": True, "dtype": "bfloat16", "filler": np.nan, "block_size": 3},
    OF_ONES_OWN | {"wild": True, "layout": "both_views", "devices": 2},
)


def closeness(tau, wild=False):
    """A rule of a user's own: α_ij = exp(−d_ij²/τ), whatever the row sums to.

    It leaves out its mask, or where it is wild, is NaN at what that leaves out.
    """

    def importance(d_neg, d_pos, mask):
        alpha = jnp.exp(-d_neg / tau)
        return jnp.where(mask, alpha, jnp.nan) if wild else alpha

    return acl.Rule(importance)


def rule_of(case, parameters):
    if case["name"] == "closeness":
        return closeness(*parameters, wild=case.get("wild", False))
    return rule(case["name"], *parameters)


def padded(negatives, filler):
    """Two more negatives that nobody's mask leaves in."""
    array, mask = negatives
    more = jnp.full((2, array.shape[1]), filler, array.dtype)
    return jnp.concatenate([array, more]), np.pad(mask, ((0, 0), (0, 2)))


def objective(case, parameters):
    """loss(z, z_pos, **options)."""
    if case["kind"] == "family":
        chosen = family(case["name"], *parameters)
        return functools.partial(acl.contrastive_loss, family=chosen)
    chosen = rule_of(case, parameters) if case["kind"] == "rule" else None
    chosen = chosen or acl.rules.from_family(family(case["name"], *parameters))
    return functools.partial(acl.alpha_cl_loss, rule=chosen, stop_gradient=case["stop_gradient"])


def tempered(case):
    return case["traced"] and case["name"] in TEMPERED


def gradients(case, z, z_pos, negatives, dense):
    """(loss, gradients by z, z_pos, and the temperature where that is traced)."""
    devices = None if dense else case["devices"]
    options = {"block_size": None if dense else case["block_size"]}
    split = lambda x: x.reshape(devices, -1, *x.shape[1:])  # noqa: E731

    def loss(z, z_pos, parameters):
        function = objective(case, parameters)
        if devices is None:
            return function(z, z_pos, negatives=negatives, **options)
        options["axis_name"] = AXIS
        if not isinstance(negatives, tuple):
            one = functools.partial(function, negatives=negatives, **options)
            return jax.vmap(one, axis_name=AXIS)(split(z), split(z_pos))[-1]
        array, mask = negatives
        masked = lambda z, p, m: function(z, p, negatives=(array, m), **options)  # noqa: E731
        return jax.vmap(masked, axis_name=AXIS)(split(z), split(z_pos), split(mask))[-1]

    if tempered(case):
        tau, *others = case["parameters"]
        function = jax.value_and_grad(
            lambda z, z_pos, tau: loss(z, z_pos, (tau, *others)), argnums=(0, 1, 2)
        )
        return jax.jit(function)(z, z_pos, jnp.asarray(tau, jnp.float64))
    function = jax.value_and_grad(lambda z, p: loss(z, p, case["parameters"]), argnums=(0, 1))
    return jax.jit(function)(z, z_pos)


def as_float64(negatives):
    if isinstance(negatives, str):
        return negatives
    if isinstance(negatives, tuple):
        return (np.asarray(negatives[0], np.float64), negatives[1])
    return np.asarray(negatives, np.float64)


def assert_near(ours, theirs, rtol, atol):
    if np.isfinite(atol):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def check(case):
    z, z_pos = views(case["seed"], case["n"], case["dim"], unit=case["unit"])
    z_pos = z if case["equal_views"] else z_pos
    z, z_pos = (jnp.asarray(case["scale"] * v, case["dtype"]) for v in (z, z_pos))
    negatives = layouts(case["seed"], case["n"], case["dim"])[case["layout"]]
    if case["layout"] in ("explicit", "masked"):
        array, *mask = negatives if case["layout"] == "masked" else (negatives,)
        array = jnp.asarray(case["scale"] * array, case["dtype"])
        negatives = (array, *mask) if mask else array
    given = padded(negatives, case["filler"]) if "filler" in case else negatives
    loss, found = gradients(case, z, z_pos, given, dense=False)

    exact = (np.asarray(z, np.float64), np.asarray(z_pos, np.float64), as_float64(negatives))
    target, targets = gradients(case, *exact, dense=True)
    arrays = [*exact[:2], *([exact[2][0]] if isinstance(exact[2], tuple) else [])]
    arrays += [exact[2]] if isinstance(exact[2], np.ndarray) else []
    size = bounds.largest_square(*arrays)
    count = 2 * case["n"]
    is_rule = case["kind"] != "family"
    of = bounds.of_rule if case["kind"] == "rule" else bounds.of_family
    sensitivity = of(case["name"], case["parameters"], size, count)
    computed = jnp.promote_types(case["dtype"], jnp.float32)
    eps = float(jnp.finfo(computed).eps)
    of_loss, of_gradient, of_tau = bounds.rounding(
        sensitivity,
        eps,
        size,
        count,
        float(target),
        is_rule=is_rule,
        stop_gradient=case["stop_gradient"],
        stored=float(jnp.finfo(case["dtype"]).eps),
    )
    assert loss.dtype == computed
    assert np.isfinite(loss)
    assert_near(loss, target, 0, of_loss)
    rtol = 2 * float(jnp.finfo(case["dtype"]).eps)
    for ours, theirs in zip(found[:2], targets[:2], strict=True):
        assert ours.dtype == case["dtype"]
        ours = np.asarray(ours, np.float64)
        assert np.isfinite(ours).all()
        assert_near(ours, theirs, rtol, of_gradient)
    if tempered(case):
        tau = case["parameters"][0]
        assert np.isfinite(found[2])
        assert_near(tau * found[2], tau * targets[2], 32 * eps, of_tau)
    check_oracle(case, exact, size, target)


def check_oracle(case, exact, size, target):
    has_temperature = case["name"] in TEMPERED
    tau = case["parameters"][0] if has_temperature else 1.0
    if 4 * size / min(tau, 1.0) > 100 or tau > 100 or size < 1e-3:
        return
    z, z_pos, negatives = exact
    d_pos, d_neg, candidates = oracle.distances(z, z_pos, negatives)
    if case["kind"] == "rule":
        alpha = oracle.rule_alpha(d_neg, candidates, case["name"], *case["parameters"])
        want = oracle.alpha_cl_values(d_pos, d_neg, alpha)
    else:
        functions = oracle.family(case["name"], *case["parameters"])
        want = oracle.family_values(d_pos, d_neg, *functions[:2])
        if case["kind"] == "from_family":
            alpha = oracle.family_alpha(d_pos, d_neg, candidates, functions)
            want = oracle.alpha_cl_values(d_pos, d_neg, alpha)
    np.testing.assert_allclose(target, np.mean(want), rtol=1e-8, atol=1e-9)


# Nothing is shrunk: each try compiles, and what is drawn is small as it is.
SETTINGS = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "phases": [hypothesis.Phase.explicit, hypothesis.Phase.generate],
}


@hypothesis.settings(max_examples=6, **SETTINGS)
@hypothesis.given(case=draws())
def fuzz(case):
    check(case)


def test_any_combination_equals_the_dense_float64_form(x64):
    fuzz()


@hypothesis.settings(max_examples=2, **SETTINGS)
@hypothesis.given(case=harder_draws())
@hypothesis.example(case=HARDER[0])
@hypothesis.example(case=HARDER[1])
@hypothesis.example(case=HARDER[2])
@hypothesis.example(case=HARDER[3])
def fuzz_harder(case):
    check(case)


def test_padding_and_rules_of_ones_own_equal_the_dense_float64_form(x64):
    fuzz_harder()


def check_many(cases, part):
    """Fifty of them, others for each part."""

    @hypothesis.seed(part + 1)
    @hypothesis.settings(max_examples=50, **{**SETTINGS, "derandomize": False})
    @hypothesis.given(case=cases)
    def more(case):
        check(case)

    more()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_many_paddings_and_rules_of_ones_own(part, x64):
    check_many(harder_draws(), part)


@hypothesis.settings(max_examples=5, **SETTINGS)
@hypothesis.given(
    present=st.sets(st.integers(0, 6), min_size=2, max_size=4), seed=st.integers(0, 99)
)
def fuzz_labels(present, seed):
    """Classes without samples change nothing of what the others are worth."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(40, 3))
    dense = generator.integers(len(present), size=40)
    gaps = np.asarray(sorted(present))[dense]

    def right(labels, classes):
        split = features[:30], labels[:30], features[30:], labels[30:]
        return knn_correct(*split, classes, k=5)

    np.testing.assert_array_equal(right(gaps, 7), right(dense, 7))


def test_label_gaps():
    fuzz_labels()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
def test_many_combinations_equal_the_dense_float64_form(part, x64):
    check_many(draws(), part)
