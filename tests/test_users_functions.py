"""Rules, losses and regularisers of a user's own that are not quite what they should be."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import alphacl_jax as acl
from tests import oracle
from tests.cases import views

N, DIM = 4, 3
Z, Z_POS = views(0, N, DIM, np.float32, unit=True)


def closeness(d_neg, d_pos, mask):
    """Forgets its mask: the anchor itself is the nearest of all."""
    return jnp.exp(-d_neg / 0.5)


def wild(d_neg, d_pos, mask):
    """NaN at what is no negative."""
    return jnp.where(mask, jnp.exp(-d_neg / 0.5), jnp.nan)


@pytest.mark.parametrize(
    ("function", "negatives"), [(closeness, "both_views"), (wild, "same_view")]
)
def test_a_rule_that_forgets_its_mask_is_masked(function, negatives):
    """The loss is that of the rule's own energy, in blocks and over devices as well."""
    chosen = acl.Rule(function)

    @jax.jit
    def everything(z, z_pos):
        options = {"negatives": negatives}
        alpha = acl.pairwise_importance(z, z_pos, chosen, **options)
        loss = functools.partial(acl.alpha_cl_loss, rule=chosen, **options)
        spread = jax.vmap(functools.partial(loss, axis_name="batch"), axis_name="batch")
        split = lambda x: x.reshape(2, -1, DIM)  # noqa: E731
        backprop = functools.partial(loss, stop_gradient=False)
        return {
            "alpha": alpha,
            "energy": -acl.energy(z, z_pos, alpha) / 2 / len(alpha),
            "statistics": acl.statistics(z, z_pos, chosen, **options)["energy"],
            "loss": loss(z, z_pos),
            "blocks": loss(z, z_pos, block_size=3),
            "spread": spread(split(z), split(z_pos))[0],
            "gradient": jax.grad(backprop)(z, z_pos),
        }

    found = everything(Z, Z_POS)
    d_pos, d_neg, candidates = oracle.distances(Z, Z_POS, negatives)
    want = np.zeros((len(d_neg), candidates))
    for i, row in enumerate(d_neg):
        want[i, list(row)] = np.exp(-np.array(list(row.values())) / 0.5)
    np.testing.assert_allclose(found["alpha"], want, rtol=1e-4)
    assert not np.diag(found["alpha"]).any()
    loss = oracle.alpha_cl_values(d_pos, d_neg, want).mean()
    for name in ("loss", "energy", "blocks", "spread"):
        np.testing.assert_allclose(found[name], loss, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found["statistics"], -2 * len(want) * loss, rtol=1e-4, atol=1e-4)
    assert np.isfinite(found["gradient"]).all()


def of_candidates(d_neg, d_pos, mask):
    return jnp.mean(d_neg, axis=0)


def of_anchors(d_neg, d_pos, mask):
    return jnp.mean(d_neg, axis=1, keepdims=True)


def forgets_to_return(d_neg, d_pos, mask):
    jnp.exp(-d_neg)


@pytest.mark.parametrize("block_size", [None, 3])
@pytest.mark.parametrize(
    ("function", "returned"),
    [
        (of_candidates, r"<array of shape \(8,\)>"),
        (of_anchors, r"<array of shape \([38], 1\)>"),
        (forgets_to_return, "None"),
        (lambda d_neg, d_pos, mask: 1.0, "1.0"),
    ],
)
def test_a_rule_that_returns_another_shape_is_named(function, returned, block_size):
    message = rf"Rule\(importance=.*{function.__name__}\).* returned {returned}.*\([38], 8\)"
    with pytest.raises(AssertionError, match=message):
        jax.eval_shape(
            lambda: acl.alpha_cl_loss(Z, Z_POS, acl.Rule(function), block_size=block_size)
        )


@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize(
    ("loss", "role"),
    [
        (acl.Family(phi=jnp.log, psi=jnp.sum), "psi=sum"),
        (acl.Family(phi=jnp.sum, psi=jnp.exp), "phi=sum"),
        (acl.Family(jnp.log, jnp.exp, phi_of_log=jnp.max, log_psi=jnp.abs), "phi_of_log=max"),
        (acl.Family(jnp.log, jnp.exp, phi_of_log=jnp.abs, log_psi=jnp.min), "log_psi=min"),
        (acl.Rule(closeness, log_weight=jnp.ravel), "log_weight=ravel"),
    ],
)
def test_a_function_that_is_not_elementwise_is_named(loss, role, block_size):
    of = acl.alpha_cl_loss if isinstance(loss, acl.Rule) else acl.contrastive_loss
    if isinstance(loss, acl.Rule) and block_size is None:
        return  # such a rule's log_weight is for tiles
    with pytest.raises(AssertionError, match=f"{role}, which must work elementwise, returned"):
        jax.eval_shape(lambda: of(Z, Z_POS, loss, block_size=block_size))


# Regularisers.

LINE = (-math.inf, math.inf)
# As somebody would write them who mistook a sign, or the domain.
WRONG = {
    "increasing": (jnp.exp, LINE),
    "increasing slowly": (lambda y: jax.nn.sigmoid(y / 1e6), LINE),
    "increasing on a half line": (lambda y: y / 0.5, (0.0, math.inf)),
    "falling, then rising": (lambda y: (2 * y / 1.5) ** 2, LINE),
    "outside its domain": (lambda y: -y / 0.5, (0.0, math.inf)),
    "constant": (lambda y: 0 * y + 0.1, LINE),
    "NaN": (lambda y: jnp.log(-1 - y), (0.0, math.inf)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_regulariser_that_does_not_fall_is_refused(name):
    function, domain = WRONG[name]
    message = r"r_prime_inverse=.* does not fall over its domain \(.*\), as.*; check its sign"
    with pytest.raises(ValueError, match=message):
        acl.rules.regularized(function, domain=domain)


@pytest.mark.parametrize("kind", ["jit", "vmap", "grad", "mesh"])
def test_a_regulariser_that_does_not_fall_within_a_trace(kind):
    """Refused there too, but for a mesh, within which it is NaN."""

    def loss(z):
        return acl.alpha_cl_loss(z, Z_POS, acl.rules.regularized(jnp.exp, domain=LINE))

    if kind == "mesh":
        mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,))
        mapped = jax.shard_map(loss, mesh=mesh, in_specs=P(), out_specs=P())
        assert np.isnan(jax.jit(mapped)(Z))
        return
    calls = {
        "jit": lambda: jax.jit(loss)(Z),
        "vmap": lambda: jax.vmap(loss)(Z[None]),
        "grad": lambda: jax.grad(loss)(Z),
    }
    with pytest.raises(ValueError, match="r_prime_inverse=exp does not fall"):
        calls[kind]()


RIGHT = {
    "steep": (lambda y: jnp.exp(-y / 2e-3 - 1), LINE),
    "steep, below 0": (lambda y: jnp.exp(-(y - 1) / 1e-3), LINE),
    "steep, above 0": (lambda y: jnp.exp(-(y + 1) / 1e-3), LINE),
    "steep, far away": (lambda y: jnp.exp(-(y - 20) / 0.1), LINE),
    "shifted": (lambda y: jnp.exp(-(y - 1000)), LINE),
    "flat": (lambda y: jnp.exp(-y / 2e4 - 1), LINE),
    "a difference of large numbers": (lambda y: jnp.sqrt(y * y + 1) - y, LINE),
    "bounded domain": (lambda y: 1 / y - 1, (0.0, 1.0)),
    "a domain away from 0": (lambda y: 1 / (y - 5), (5.0, math.inf)),
    "a half line": (lambda y: (2 * y / 1.5) ** 2, (-math.inf, 0.0)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_regularisers_that_fall_are_taken(name):
    function, domain = RIGHT[name]
    with jax.debug_nans(True):
        assert isinstance(acl.rules.regularized(function, domain=domain), acl.Rule)


def test_a_row_that_no_multiplier_brings_to_its_budget_is_nan():
    """Where the function depends on what is traced, nothing can be said before it runs."""

    @jax.jit
    def loss(sign, scale):
        mine = acl.rules.regularized(lambda y: scale * jax.nn.sigmoid(sign * y), domain=LINE)
        return acl.alpha_cl_loss(Z, Z_POS, mine)

    assert np.isfinite(loss(-1.0, 1.0))
    assert np.isnan(loss(1.0, 1e-3))
    assert np.isnan(loss(-1.0, 0.05))  # six negatives of 0.05 at most
