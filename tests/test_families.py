import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import alphacl_jax as acl
from tests import oracle
from tests.cases import EXPONENTIAL, FAMILIES, family, layouts, smooth_family, views

N, DIM = 5, 3


ALL_LAYOUTS = ("both_views", "same_view", "cross_view", "explicit", "masked")
# The two that differ most; the rest takes long to compile for every loss.
TWO_LAYOUTS = ("both_views", "masked")


@functools.partial(jax.jit, static_argnames=("family", "names"))
def losses_and_alphas(z, z_pos, array, mask, family, names=TWO_LAYOUTS):
    """Losses of each anchor, and α, in several layouts, from one compilation."""
    choices = {name: name for name in names} | {"explicit": array, "masked": (array, mask)}
    return {
        name: (
            acl.contrastive_loss(z, z_pos, family, negatives=choices[name], reduction="none"),
            acl.pairwise_importance(z, z_pos, family, negatives=choices[name]),
        )
        for name in names
    }


def check_against_oracle(family, functions, names=TWO_LAYOUTS):
    z, z_pos = views(0, N, DIM)
    choices = layouts(0, N, DIM)
    choices["masked"][1][2] = False  # an anchor that the mask leaves no negative
    results = losses_and_alphas(z, z_pos, *choices["masked"], family, names)
    for name in names:
        negatives, (values, alpha) = choices[name], results[name]
        d_pos, d_neg, candidates = oracle.distances(z, z_pos, negatives)
        some = np.array([bool(row) for row in d_neg])
        if name == "masked":
            assert not some[2]
            np.testing.assert_array_equal(values[2], 0)
            np.testing.assert_array_equal(alpha[2], 0)
            d_pos = [d for d, keep in zip(d_pos, some, strict=True) if keep]
            d_neg = [row for row in d_neg if row]
        want = oracle.family_values(d_pos, d_neg, *functions[:2])
        want_alpha = oracle.family_alpha(d_pos, d_neg, candidates, functions)
        assert want_alpha.max() > 0
        np.testing.assert_allclose(values[some], want, rtol=1e-10, atol=1e-13, err_msg=name)
        np.testing.assert_allclose(alpha[some], want_alpha, rtol=1e-9, atol=1e-13, err_msg=name)
    return results


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_importance(name, x64):
    layouts = ALL_LAYOUTS if name == "triplet" else TWO_LAYOUTS
    check_against_oracle(family(name), oracle.family(name, *FAMILIES[name]), layouts)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_importance_in_all_layouts(name, x64):
    check_against_oracle(family(name), oracle.family(name, *FAMILIES[name]), ALL_LAYOUTS)


def test_info_nce_without_eps_is_a_softmax(x64):
    results = check_against_oracle(family("info_nce", 0.7, 0.0), oracle.family("info_nce", 0.7, 0))
    np.testing.assert_allclose(results["both_views"][1].sum(1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("block_size", [None, pytest.param(3, marks=pytest.mark.slow)])
def test_a_traced_eps_of_0_is_a_static_one(block_size):
    z, z_pos = views(0, 6, 3, np.float32, unit=True)

    def loss(z, eps):
        nt_xent = acl.families.info_nce(0.5, eps)
        return acl.contrastive_loss(z, z_pos, nt_xent, block_size=block_size)

    wanted = jax.jit(jax.value_and_grad(lambda z: loss(z, 0.0)))(z)
    value, (of_z, of_eps) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(z, 0.0)
    np.testing.assert_allclose(value, wanted[0], rtol=1e-5)
    np.testing.assert_allclose(of_z, wanted[1], rtol=1e-4, atol=1e-6)
    # φ' by ε at 0 is τ/ξ.
    from_above = (loss(z, 1e-2) - loss(z, 0.0)) / 1e-2
    np.testing.assert_allclose(of_eps, from_above, rtol=0.05)


def test_users_own_family(x64):
    functions = (
        lambda x: x**1.5,
        lambda x: np.log(1 + np.exp(3 * x)),
        lambda x: 1.5 * x**0.5,
        lambda x: 3 * oracle.sigmoid(3 * x),
    )
    check_against_oracle(smooth_family(), functions)


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_budget_of_exponential_families(name, x64):
    """Σ_j α_ij = ξ φ'(ξ)/τ where ψ(x) ∝ e^{x/τ}."""
    z, z_pos = views(1, N, DIM)
    tau = FAMILIES[name][0] if name in ("info_nce", "soft_triplet") else 1.0
    _, psi, d_phi, _ = oracle.family(name, *FAMILIES[name])
    d_pos, d_neg, _ = oracle.distances(z, z_pos, "both_views")
    want = [x * d_phi(x) / tau for x in oracle.xi(d_pos, d_neg, psi)]
    alpha = losses_and_alphas(z, z_pos, *layouts(1, N, DIM)["masked"], family(name))["both_views"][
        1
    ]
    np.testing.assert_allclose(alpha.sum(1), want, rtol=1e-10)


def test_the_table_evaluated_through_phi_and_psi_is_the_same_loss(x64):
    """A family's φ and ψ, used without the log domain, agree with it."""
    z, z_pos = views(2, 4, DIM)
    families = [family(name) for name in EXPONENTIAL]

    @jax.jit
    def losses_and_alphas(z, z_pos):
        plain = [acl.Family(phi=f.phi, psi=f.psi) for f in families]
        return [
            [function(z, z_pos, f) for f in chosen]
            for function in (acl.contrastive_loss, acl.pairwise_importance)
            for chosen in (plain, families)
        ]

    losses, losses_by_log, alphas, alphas_by_log = losses_and_alphas(z, z_pos)
    chex.assert_trees_all_close(losses, losses_by_log, rtol=1e-10)
    chex.assert_trees_all_close(alphas, alphas_by_log, rtol=1e-10)


def root_of_hinge(x):
    """√[x]₊: an infinite slope at 0."""
    return jnp.sqrt(jax.nn.relu(x))


def test_user_family_without_a_derivative_at_zero(x64):
    """Pairs that are no negatives (each row's own, d² − d² = 0) do not meet ψ."""
    z, z_pos = views(3, 4, DIM)
    z_pos = z.copy()  # d_i² = 0, and so is the difference to the anchor itself
    rooted = acl.Family(phi=lambda x: x, psi=lambda x: root_of_hinge(x + 40.0))
    singular = acl.Family(phi=jnp.log, psi=lambda x: jnp.sqrt(-x))
    assert not np.isfinite(jax.grad(singular.psi)(0.0))
    for layout in ("both_views", "same_view"):
        for user in (rooted, singular):
            loss = functools.partial(acl.contrastive_loss, family=user, negatives=layout)
            value, gradient = jax.jit(jax.value_and_grad(loss))(z, z_pos)
            d_pos, d_neg, _ = oracle.distances(z, z_pos, layout)
            want = np.mean(oracle.family_values(d_pos, d_neg, user.phi, user.psi))
            np.testing.assert_allclose(value, want, rtol=1e-10)
            chex.assert_tree_all_finite(gradient)


def test_row_without_negatives_leaves_gradients_of_parameters_finite(x64):
    z, z_pos = views(3, 3, DIM)
    mask = np.array([[True] * 4, [False] * 4, [True] * 4])
    array = views(4, 4, DIM)[0]

    def loss(power, tau):
        user = acl.Family(phi=lambda x: tau * jnp.log(x), psi=lambda x: jnp.exp(x) ** power)
        return acl.contrastive_loss(z, z_pos, user, negatives=(array, mask))

    chex.assert_tree_all_finite(jax.jit(jax.grad(loss, argnums=(0, 1)))(1.5, 0.5))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("info_nce", (0.5, 1.0)),
        ("triplet", (0.3,)),
        ("soft_triplet", (0.6, 0.2)),
        ("lifted_structured", (0.4,)),
        ("sigmoid", (2.0,)),
    ],
)
def test_traced_parameters_and_their_gradients(name, parameters, x64):
    z, z_pos = views(5, 4, DIM)

    @jax.jit
    def loss(*parameters):
        return acl.contrastive_loss(z, z_pos, family(name, *parameters))

    parameters = tuple(jnp.asarray(p) for p in parameters)
    np.testing.assert_allclose(
        loss(*parameters),
        jax.jit(lambda: acl.contrastive_loss(z, z_pos, family(name)))(),
        rtol=1e-12,
    )
    check_grads(loss, parameters, order=1, modes=["rev"])


def test_arguments_by_position_and_by_name():
    f = acl.families
    assert f.info_nce() == f.info_nce(0.5) == f.info_nce(0.5, 1.0)
    assert f.info_nce(0.2, 0.3) == f.info_nce(temperature=0.2, eps=0.3)
    assert f.triplet(0.2) == f.triplet(margin=0.2)
    assert f.soft_triplet(0.2, 0.3) == f.soft_triplet(temperature=0.2, margin=0.3)
    assert f.lifted_structured(0.2) == f.lifted_structured(margin=0.2)
    assert f.sigmoid(3.0) == f.sigmoid(c=3.0)
    assert acl.Family(jnp.log, jnp.exp) == acl.Family(phi=jnp.log, psi=jnp.exp)


def test_equal_by_value_and_hashable():
    ours = [family(name) for name in FAMILIES]
    again = [family(name) for name in FAMILIES]
    assert ours == again
    assert [hash(f) for f in ours] == [hash(f) for f in again]
    assert len(set(ours + again)) == len(FAMILIES)
    assert family("info_nce", 0.5, 1.0) != family("info_nce", 0.4, 1.0)


def test_static_under_jit_compiles_once_per_value():
    traces = []

    @functools.partial(jax.jit, static_argnums=1)
    def loss(z, family):
        traces.append(family)
        return acl.contrastive_loss(z, z[::-1], family)

    z = views(6, 4, DIM, np.float32)[0]
    loss(z, acl.families.info_nce(0.5))
    loss(z, acl.families.info_nce(temperature=0.5))
    assert len(traces) == 1
    loss(z, acl.families.info_nce(0.4))
    assert len(traces) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.info_nce(0.0), r"temperature=0 is out of range; .* > 0"),
        (lambda f: f.info_nce(-1.0), "temperature=-1 "),
        (lambda f: f.info_nce(float("nan")), "temperature=nan"),
        (lambda f: f.info_nce(float("inf")), "temperature=inf"),
        (lambda f: f.info_nce(0.5, -0.1), r"eps=-0.1 is out of range; .* >= 0"),
        (lambda f: f.info_nce(np.ones(2)), r"temperature must be a scalar.*\(2,\)"),
        (lambda f: f.info_nce("0.5"), "temperature='0.5' must be a number"),
        (lambda f: f.info_nce(np.str_("0.5")), "temperature=.*'0.5'.* must be a number"),
        (lambda f: f.info_nce(True), "temperature=True must be a number"),
        (lambda f: f.info_nce(0.5j), "temperature=0.5j must be a number"),
        (lambda f: f.info_nce(np.array(0.5j)), "temperature=.*must be a number"),
        (lambda f: f.info_nce(np.array("0.5")), "temperature=.*must be a number"),
        (lambda f: f.info_nce([0.5]), "temperature=<list of 1> must be a number"),
        (lambda f: f.info_nce(None), "temperature=None must be a number"),
        (lambda f: f.triplet("wide"), "margin='wide' must be a number"),
        (lambda f: jax.jit(lambda t: f.info_nce(t).phi(t))(np.ones(2)), r"scalar.*\(2,\)"),
        (lambda f: f.info_nce(jnp.asarray(0.0)), "temperature=0 "),
        (lambda f: f.soft_triplet(0), "temperature=0 "),
        (lambda f: f.soft_triplet(1.0, float("inf")), "margin=inf"),
        (lambda f: f.triplet(float("nan")), "margin=nan"),
        (lambda f: f.lifted_structured(float("nan")), "margin=nan"),
        (lambda f: f.sigmoid(0.0), "c=0 "),
        (lambda f: f.Family(jnp.log, jnp.exp, phi_of_log=jnp.exp), "give both or neither"),
    ],
)
def test_values_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call(acl.families)


def test_family_of_something_that_is_no_function():
    with pytest.raises(TypeError, match=r"Family\(phi=3\): phi must be callable"):
        acl.Family(phi=3, psi=jnp.exp)
