"""Parameters that leave their range while they are traced, and temperatures that are learned."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental import checkify
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import alphacl_jax as acl
from alphacl_jax.parameters import Bound, made
from tests.cases import views

N, DIM = 4, 3
Z, Z_POS = views(0, N, DIM, np.float32, unit=True)
f, r = acl.families, acl.rules
# Each parameter that has a range, as a function of one number that is in it above 0.
MADE = {
    "info_nce": f.info_nce,
    "soft_triplet": f.soft_triplet,
    "sigmoid": f.sigmoid,
    "direct": r.direct,
    "direct's power": lambda t: r.direct(0.5, 1 + t),
    "entropy": r.entropy,
    "inverse": r.inverse,
    "inverse's gamma": lambda t: r.inverse(0.5, 1 + t),
    "square": r.square,
    "reference_inverse": r.reference_inverse,
    "reference_inverse's gamma": lambda t: r.reference_inverse(0.5, t),
    "from_family": lambda t: r.from_family(f.info_nce(t)),
}
IN_BLOCKS = ("info_nce", "direct")


def loss_of(objective, z=Z, z_pos=Z_POS, **options):
    if isinstance(objective, acl.Family):
        return acl.contrastive_loss(z, z_pos, objective, **options)
    return acl.alpha_cl_loss(z, z_pos, objective, stop_gradient=False, **options)


@functools.partial(jax.jit, static_argnames=("names", "block_size"))
def losses_at(t, names, block_size=None):
    """name -> (the loss, its gradients by t and z)."""

    def of(name):
        return lambda t, z: loss_of(MADE[name](t), z, block_size=block_size)

    return {name: jax.value_and_grad(of(name), argnums=(0, 1))(t, Z) for name in names}


@pytest.mark.parametrize(
    ("names", "block_size"),
    [
        (tuple(MADE), None),
        pytest.param(IN_BLOCKS, 1, marks=pytest.mark.slow),
        pytest.param(tuple(MADE), 3, marks=pytest.mark.slow),
    ],
)
def test_a_traced_parameter_out_of_its_range_gives_nan(names, block_size):
    for t in (-0.1, 0.0, -math.inf, math.inf, math.nan):
        for name, (loss, gradients) in losses_at(t, names, block_size).items():
            assert np.isnan(loss), f"{name} at {t}"
            for gradient in gradients:
                assert np.isnan(gradient).all(), f"{name} at {t}"
    for name, (loss, gradients) in losses_at(0.4, names, block_size).items():
        assert np.isfinite(loss), name
        assert all(np.isfinite(g).all() for g in gradients), name


def test_eps_may_be_0_and_not_below():
    loss = jax.jit(lambda eps: loss_of(f.info_nce(0.5, eps)))
    assert np.isfinite(loss(0.0))
    assert np.isnan(loss(-0.1))


def test_importance_and_every_statistic_that_depends_on_alpha():
    @jax.jit
    def everything(t):
        alpha = acl.pairwise_importance(Z, Z_POS, r.square(t))
        return alpha, acl.statistics(Z, Z_POS, f.info_nce(t))

    alpha, measures = everything(-0.1)
    others = ~np.tile(np.eye(N, dtype=bool), (2, 2))
    assert np.isnan(np.asarray(alpha)[others]).all()
    for name in ("energy", "perplexity", "mutual_information_bound"):
        assert np.isnan(measures[name]), name
    assert np.isfinite(measures["uniformity"])


def test_over_devices():
    mesh = jax.make_mesh((2,), ("batch",), (AxisType.Auto,))
    of_part = functools.partial(loss_of, axis_name="batch")
    mapped = jax.shard_map(
        lambda t, z, z_pos: of_part(f.info_nce(t), z, z_pos),
        mesh=mesh,
        in_specs=(P(), P("batch"), P("batch")),
        out_specs=P(),
    )
    gradient = jax.jit(jax.value_and_grad(mapped))
    alone = jax.value_and_grad(lambda t: loss_of(f.info_nce(t)))
    for ours, theirs in zip(gradient(0.4, Z, Z_POS), alone(0.4), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert np.isnan(gradient(-0.1, Z, Z_POS)).all()


@pytest.mark.parametrize("objective", [f.info_nce(0.5), r.from_family(f.info_nce(0.5))])
def test_a_temperature_that_an_optimiser_moved_below_0(objective):
    """As the leaf of a family it passes no call that could refuse it."""
    moved = jax.tree.map(lambda t: t - 1.0, objective)
    with pytest.raises(ValueError, match=r"temperature=-0.5 is out of range.*> 0"):
        loss_of(moved)
    assert np.isnan(jax.jit(loss_of)(moved))


def test_nan_searches_find_it():
    loss = jax.jit(lambda t: loss_of(f.info_nce(t)))
    with jax.debug_nans(True):
        assert np.isfinite(loss(0.4))
        with pytest.raises((FloatingPointError, ValueError), match=r"nan|temperature=-0\.1"):
            loss(-0.1)
    checked = jax.jit(checkify.checkify(loss, errors=checkify.nan_checks))
    assert checked(0.4)[0].get() is None
    assert "nan" in checked(-0.1)[0].get()


def test_a_traced_temperature_can_be_exported():
    (n,) = export.symbolic_shape("n")
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((), (n, DIM), (n, DIM))]

    @jax.jit
    def loss(s, z, z_pos):
        return loss_of(f.info_nce(acl.learned_temperature(s, 0.01)), z, z_pos)

    again = export.deserialize(export.export(loss)(*shapes).serialize())
    of_exported = again.call(jnp.float32(-1.0), Z, Z_POS)
    np.testing.assert_allclose(of_exported, loss(-1.0, Z, Z_POS), rtol=1e-5)


# Temperatures that are learned.


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_learned_temperature_and_its_derivative(dtype):
    minimum = 0.25
    with jax.numpy_dtype_promotion("strict"):
        for log_value in (-2.0, -9.0, 0.5):
            s = jnp.asarray(log_value, dtype)
            value, slope = jax.value_and_grad(acl.learned_temperature)(s, minimum)
            want = max(math.exp(log_value), minimum)
            assert value.dtype == slope.dtype == dtype
            assert value >= minimum
            np.testing.assert_allclose(np.float32([value, slope]), want, rtol=0.01)


def test_a_clamp_has_the_derivative_of_the_exponential_above_its_floor_and_none_below():
    at = functools.partial(acl.learned_temperature, stop_at_minimum=True)
    for dtype in ("float32", "bfloat16"):
        with jax.numpy_dtype_promotion("strict"):
            for log_value, of_slope in ((-9.0, 0.0), (0.0, 1.0), (0.5, math.exp(0.5))):
                value, slope = jax.value_and_grad(at)(jnp.asarray(log_value, dtype), 0.25)
                assert value.dtype == slope.dtype == dtype
                want = max(math.exp(log_value), 0.25), of_slope
                np.testing.assert_allclose(np.float32([value, slope]), want, rtol=0.01)
    # At the floor itself as above it.
    assert jax.grad(at)(0.0, 1.0) == 1
    for log_value in (math.nan, -math.inf, math.inf):
        assert not np.isfinite(jax.jit(at)(log_value, 0.25))


def test_derivatives_of_a_learned_temperature_of_every_order_and_mode():
    at = functools.partial(acl.learned_temperature, minimum=0.25)
    for log_value, want in ((-9.0, 0.25), (0.5, math.exp(0.5))):
        s = jnp.float32(log_value)
        np.testing.assert_allclose(jax.jacfwd(at)(s), want, rtol=1e-6)
        np.testing.assert_allclose(jax.grad(jax.grad(at))(s), want, rtol=1e-6)
        np.testing.assert_allclose(jax.vmap(jax.grad(at))(s[None]), [want], rtol=1e-6)


def test_a_temperature_at_its_floor_rises_again():
    """Under a clamp it would stay there: the clamp's gradient is 0."""

    def descend(temperature_of):
        def loss(s):
            return jnp.square(jnp.log(temperature_of(s)) - jnp.log(0.5))

        s = jnp.log(jnp.float32(0.005))
        for _ in range(20):
            s = s - 0.25 * jax.grad(loss)(s)
        return float(temperature_of(s))

    clamped = functools.partial(acl.learned_temperature, stop_at_minimum=True)
    assert descend(lambda s: clamped(s, 0.01)) == pytest.approx(0.01)
    assert descend(lambda s: acl.learned_temperature(s, 0.01)) == pytest.approx(0.5, rel=1e-3)


def test_a_learned_temperature_reaches_a_rule_only_through_its_alpha():
    def loss(s, stop_gradient):
        chosen = r.entropy(acl.learned_temperature(s, 0.01))
        return acl.alpha_cl_loss(Z, Z_POS, chosen, stop_gradient=stop_gradient)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    assert gradient(-1.0, True) == 0
    assert abs(gradient(-1.0, False)) > 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((math.nan, 0.1), "log_value=nan is out of range"),
        ((-math.inf, 0.1), "log_value=-inf is out of range"),
        (("-1", 0.1), "log_value='-1' must be a number"),
        ((np.ones(2), 0.1), r"log_value must be a scalar.*\(2,\)"),
        ((0.0, 0.0), "minimum=0 is out of range.*> 0"),
        ((0.0, -0.1), "minimum=-0.1 is out of range"),
    ],
)
def test_learned_temperatures_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        acl.learned_temperature(*arguments)


def test_a_traced_logarithm_that_is_not_finite_gives_nan():
    at = jax.jit(lambda s: loss_of(f.info_nce(acl.learned_temperature(s, 0.01))))
    for s in (math.nan, math.inf, 100.0):
        assert np.isnan(at(s)), s


@pytest.mark.parametrize("number", [2, np.int32(2), np.array(2), jnp.asarray(2)], ids=repr)
@pytest.mark.parametrize(
    "make",
    [f.info_nce, lambda t: acl.Family(jnp.log1p, Bound(lambda x, t: jnp.exp(x / t), (t,)))],
    ids=["made", "by hand"],
)
def test_whole_numbers_are_learned_as_others_are(make, number):
    gradient = jax.grad(loss_of)(make(number))
    expected = jax.grad(loss_of)(make(2.0))
    for ours, theirs in zip(*map(jax.tree.leaves, (gradient, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
        assert ours != 0


def test_a_family_within_another_has_left_its_range_too():
    def by_hand(t):
        implied = r.from_family(f.info_nce(t))
        return acl.Rule(implied.importance, family=f.info_nce(t))

    def in_a_tuple(t):
        return made(_of_the_first, parts=(f.info_nce(t), f.linear()))

    loss = jax.jit(lambda t: [loss_of(make(t), block_size=b) for make, b in cases])
    cases = [(by_hand, None), (by_hand, 1), (in_a_tuple, None)]
    assert np.isnan(loss(-0.1)).all()
    assert np.isfinite(loss(0.4)).all()


def _of_the_first(parts):
    return acl.Family(parts[0].phi, parts[0].psi)
