"""Coordinate-wise optimisation: equal trajectories, a feasible and optimal min player."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import alphacl_jax as acl
from alphacl_jax.theory.coordinate import alternation
from tests.cases import EXPONENTIAL, FAMILIES, family
from tests.oracle import family as oracle_family


def batch(n=7):
    key = jax.random.key(0)
    x = jax.random.normal(key, (n, 3))
    return x, x + 0.3 * jax.random.normal(jax.random.fold_in(key, 1), x.shape)


def params():
    return alternation.mlp_params(jax.random.key(2), (3, 5, 4))


def embeddings(weights, x):
    return alternation.mlp(weights, x)


# Each loss compiles its own program; these three have the three kinds of ψ and φ.
FAST = ("info_nce", "triplet", "lifted_structured")
LOSSES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
SOLVED = [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in EXPONENTIAL
]


@functools.cache
def everything(name):
    """Both trajectories, the gradient at the start and α there: one compiled program per loss."""
    loss = family(name)

    @jax.jit
    def compute(weights, x, x_pos):
        arguments = (embeddings, weights, x, x_pos, loss, 0.05, 20)

        def summed(w):
            z, z_pos = embeddings(w, x), embeddings(w, x_pos)
            return acl.contrastive_loss(z, z_pos, loss, negatives="same_view", reduction="sum")

        return (
            alternation.descend(*arguments),
            alternation.alternate(*arguments),
            jax.grad(summed)(weights),
            alternation.min_player(embeddings, weights, x, x_pos, loss),
        )

    return compute(params(), *batch())


@pytest.mark.parametrize("name", LOSSES)
def test_descent_and_alternation_follow_one_trajectory(x64, name):
    (descent, losses), (alternation, energies), gradient, _ = everything(name)
    for start, a, b in zip(params(), descent, alternation, strict=True):
        assert a.shape == (21, *start.shape)
        np.testing.assert_array_equal(a[0], start)
        np.testing.assert_allclose(a, b, atol=1e-12)
        assert np.max(np.abs(a[-1] - start)) > 1e-3
    assert losses.shape == energies.shape == (21,)
    assert energies[0] != energies[-1]
    assert losses[-1] < losses[0]
    # The step is the plain one on the summed loss.
    for a, g in zip(descent, gradient, strict=True):
        np.testing.assert_allclose(a[1] - a[0], -0.05 * g, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_alpha_is_feasible(x64, name):
    x, x_pos = batch()
    loss = family(name)
    alpha = np.asarray(everything(name)[3])
    assert alpha.min() >= 0
    np.testing.assert_array_equal(np.diag(alpha), 0)
    if name not in EXPONENTIAL:
        return
    z, z_pos = (np.asarray(embeddings(params(), v)) for v in (x, x_pos))
    phi, psi, phi_slope, _ = oracle_family(name, *FAMILIES[name])
    del phi
    tau = float(alternation.exponential_temperature(loss))
    for i in range(len(z)):
        half = 0.5 * np.sum((z[i] - z_pos[i]) ** 2)
        xi = sum(psi(half - 0.5 * np.sum((z[i] - z[j]) ** 2)) for j in range(len(z)) if j != i)
        budget = xi * phi_slope(xi) / tau
        np.testing.assert_allclose(alpha[i].sum(), budget, rtol=1e-10)
        np.testing.assert_allclose(
            alternation.budgets(jnp.asarray(z), jnp.asarray(z_pos), loss)[i], budget, rtol=1e-10
        )


@pytest.mark.parametrize("name", SOLVED)
def test_alpha_is_what_a_convex_solver_finds(x64, name):
    x, x_pos = batch()
    loss = family(name)
    z, z_pos = embeddings(params(), x), embeddings(params(), x_pos)
    alpha = np.asarray(everything(name)[3])
    budget = float(alternation.budgets(z, z_pos, loss)[0])
    tau = float(alternation.exponential_temperature(loss))
    d_pos = float(0.5 * jnp.sum((z[0] - z_pos[0]) ** 2))
    d_neg = np.asarray(acl.squared_distances(z))[0, 1:]

    def objective(a):
        return 2 * np.sum(a * (d_neg - d_pos)) + 2 * tau * np.sum(a * np.log(a))

    solved = minimize(
        objective,
        np.full(6, budget / 6),
        method="SLSQP",
        bounds=[(1e-9, None)] * 6,
        constraints={"type": "eq", "fun": lambda a: a.sum() - budget},
        options={"ftol": 1e-13, "maxiter": 300},
    )
    assert solved.success
    ours = alpha[0, 1:]
    np.testing.assert_allclose(ours, solved.x, atol=1e-4 * budget)
    assert objective(ours) <= solved.fun + 1e-9
    np.testing.assert_allclose(
        alternation.min_player_objective(jnp.asarray(ours), d_pos, jnp.asarray(d_neg), tau),
        objective(ours),
        rtol=1e-10,
    )


def test_zero_weights_have_no_entropy(x64):
    value = alternation.min_player_objective(jnp.array([0.0, 1.0]), 0.5, jnp.array([9.0, 2.0]), 0.3)
    np.testing.assert_allclose(value, 3.0)


def test_other_psi_have_no_such_set():
    assert alternation.exponential_temperature(family("triplet")) is None
    with pytest.raises(ValueError, match="budgets are defined for ψ"):
        alternation.budgets(jnp.ones((3, 2)), jnp.ones((3, 2)), family("linear"))


def test_steps_below_one_are_named():
    x, x_pos = batch()
    with pytest.raises(ValueError, match="steps=0 must be at least 1"):
        alternation.descend(embeddings, params(), x, x_pos, family("mine"), 0.1, 0)
