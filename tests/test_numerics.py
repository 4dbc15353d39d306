"""Finite values and gradients where plain formulas give NaN; types; float32 against float64."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alphacl_jax as acl
from tests.cases import FAMILIES, family, objectives, rule, views

AS_USERS_COMPILE = True

N, DIM = 4, 3


@functools.partial(jax.jit, static_argnums=3)
def values_and_gradients(z, z_pos, tau, names):
    """name -> (loss, gradients), every loss and rule at one temperature, in one compilation."""
    table = objectives(tau)
    return {
        name: jax.value_and_grad(table[name], argnums=(0, 1))(z, z_pos) for name in (names or table)
    }


def degenerate(dtype):
    """name -> (z, z_pos)."""
    z, z_pos = (jnp.asarray(v, dtype) for v in views(0, N, DIM, np.float32, unit=True))
    ones = jnp.ones((N, DIM), dtype)
    cases = {
        "random": (z, z_pos),
        "duplicate rows": (z.at[1].set(z[0]).at[2].set(z_pos[2]), z_pos.at[1].set(z_pos[0])),
        "equal views": (z, z),
        "all equal": (ones, ones),
        "all zeros": (0 * ones, 0 * ones),
        "one zero row": (z.at[0].set(0), z_pos),
    }
    if dtype != jnp.float16:
        cases["scaled"] = (z * 1e4, z_pos * 1e4)
        cases["all equal and scaled"] = (ones * 1e4, ones * 1e4)
        cases["nearly equal and scaled"] = (z * 1e4, z * (1e4 + 1))
    return cases


@pytest.mark.parametrize(
    "dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__
)
def test_finite_values_and_gradients(dtype):
    # Half precision is converted to float32 at once: what differs is the way in and out.
    names = None if dtype == jnp.float32 else ("info_nce", "triplet", "backprop_direct")
    for tau in (1e-3, 1e-2, 0.5, 1e4):
        for case, (z, z_pos) in degenerate(dtype).items():
            for name, (loss, gradients) in values_and_gradients(z, z_pos, tau, names).items():
                where = f"{name}, {case}, tau={tau}"
                assert loss.dtype == jnp.float32, where
                assert np.isfinite(loss), where
                for gradient in gradients:
                    assert gradient.dtype == dtype, where
                    assert np.isfinite(np.asarray(gradient, np.float32)).all(), where


def test_types_of_every_loss_and_rule(x64):
    for dtype, want in (("bfloat16", "float32"), ("float64", "float64")):
        z = jax.ShapeDtypeStruct((N, DIM), dtype)
        shapes = jax.eval_shape(lambda z: values_and_gradients(z, z, 0.5, None), z)
        for name, (loss, gradients) in shapes.items():
            assert (loss.dtype, gradients[0].dtype) == (want, dtype), name


def test_large_and_small_powers():
    @jax.jit
    def gradients(z, z_pos):
        return [
            jax.value_and_grad(
                functools.partial(acl.alpha_cl_loss, rule=chosen, stop_gradient=False)
            )(z, z_pos)
            for chosen in (acl.rules.direct(0.5, 12), acl.rules.direct(1e-3, 1.01))
        ]

    for case in degenerate(jnp.float32).values():
        chex.assert_tree_all_finite(gradients(*case))


@pytest.mark.parametrize("name", ["info_nce", "mine", "lifted_structured"])
def test_small_temperature_is_still_the_nearest_negative(name):
    """At τ -> 0 the exponential losses follow the nearest negative, which exp alone overflows."""
    # Positives that are no nearer than the negatives, so that no loss is at its floor.
    z, z_pos = 30 * views(2, N, DIM, np.float32)[0], 30 * views(3, N, DIM, np.float32)[0]
    chosen = family(name, 1e-3, 1.0) if name == "info_nce" else family(name)
    alpha = np.asarray(jax.jit(lambda: acl.pairwise_importance(z, z_pos, chosen))())
    d = np.array(jax.jit(acl.squared_distances)(np.concatenate([z, z_pos])))
    d[np.tile(np.eye(N), (2, 2)) > 0] = np.inf
    active = alpha.sum(1) > 0
    assert active.any()
    assert (alpha.argmax(1) == d.argmin(1))[active].all()


def test_nan_reaches_every_loss():
    """A diverged run must be seen as one."""
    z, z_pos = views(3, N, DIM, np.float32)
    z[1, 2] = np.nan
    z, z_pos = jnp.asarray(z), jnp.asarray(z_pos)
    for name, (loss, _) in values_and_gradients(z, z_pos, 0.5, None).items():
        assert np.isnan(loss), name


EPS = float(jnp.finfo(jnp.float32).eps)


@jax.jit
def values(z, z_pos):
    names = (*FAMILIES, "alpha_entropy", "alpha_square", "alpha_inverse", "alpha_direct")
    table = objectives(0.5)
    return {name: table[name](z, z_pos) for name in names}


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_float32_against_float64(scale, x64):
    """An error of eps·max‖z‖² in each distance, over the temperature where there is one."""
    z, z_pos = (scale * v for v in views(4, N, DIM, np.float32, unit=True))
    tau = 0.5
    single = values(z, z_pos)
    double = values(z.astype(np.float64), z_pos.astype(np.float64))
    step = EPS * scale**2
    for name, loss in double.items():
        # The size of the loss by a relative change of the distances or an error in exponents.
        power = 2 if name in ("lifted_structured", "alpha_direct") else 1
        bound = 32 * step / tau * max(1.0, scale**2) ** (power - 1) + 32 * EPS * abs(loss)
        assert single[name].dtype == jnp.float32
        np.testing.assert_allclose(single[name], loss, rtol=0, atol=bound, err_msg=name)


def test_gradient_in_float16_of_embeddings_on_the_sphere():
    z, z_pos = views(5, N, DIM, np.float32, unit=True)
    gradient = jax.jit(jax.grad(functools.partial(acl.alpha_cl_loss, rule=rule("direct"))))
    want = gradient(z, z_pos)
    for dtype, tolerance in ((jnp.float16, 3e-3), (jnp.bfloat16, 2e-2)):
        got = gradient(jnp.asarray(z, dtype), jnp.asarray(z_pos, dtype))
        np.testing.assert_allclose(np.asarray(got, np.float32), want, atol=tolerance)
