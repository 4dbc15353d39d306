"""What a function closes over becomes arguments of it, and derivatives by these are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import alphacl_jax as acl
from alphacl_jax.closures import opened
from tests.cases import views

N, DIM, BLOCK = 6, 3, 3
Z, Z_POS = views(0, N, DIM, np.float32, unit=True)


def _loss(psi, z, block_size=BLOCK):
    return acl.contrastive_loss(z, Z_POS, acl.Family(jnp.log1p, psi), block_size=block_size)


def test_traced_constants_that_have_derivatives_come_before_the_others():
    table = jnp.arange(3.0)

    def f(x, count, scale, rows, shift):
        def closed(y):
            return (y * scale + shift)[rows] * count + table[:2]

        converted, smooth, others = opened(closed, x)
        assert len(smooth) == 2
        assert all(jnp.issubdtype(c.dtype, jnp.inexact) for c in smooth)
        assert {c.dtype.kind for c in others} == {"i", "f"}  # the table is not traced
        own = jax.make_jaxpr(converted)(x, *smooth, *others)
        assert not own.consts or all(not isinstance(c, jax.core.Tracer) for c in own.consts)
        return converted(x, *smooth, *others)[0], closed(x)

    x, rows = jnp.asarray([0.5, 2.0]), jnp.asarray([1, 0])
    ours, plain = jax.jit(f)(x, 3, 0.25, rows, jnp.asarray([1.0, -1.0]))
    np.testing.assert_array_equal(ours, plain)
    # As where each of them is given in place of another.
    jax.grad(lambda s: f(x, jnp.int32(2), s, rows, s * x)[0].sum())(0.5)


@pytest.mark.parametrize(
    "psi",
    [
        # Neither has a derivative by its own constants.
        pytest.param(
            lambda table: (
                lambda x: jax.scipy.special.betainc(table[0], table[1], jax.nn.sigmoid(x))
            ),
            id="betainc",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda table: (
                lambda x: jnp.exp(
                    x / jax.lax.while_loop(lambda c: c < 5, lambda c: c * 2, table[0])
                )
            ),
            id="while_loop",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_constants_that_are_not_traced_need_no_derivative(psi):
    own = psi(jax.device_put(np.float32([2, 3])))
    dense, blocked = (jax.grad(lambda z, b=b: _loss(own, z, b))(Z) for b in (None, BLOCK))
    np.testing.assert_allclose(blocked, dense, atol=1e-6)


@pytest.mark.slow
def test_second_derivatives_by_what_is_closed_over(x64):
    z = Z.astype(np.float64)

    def loss(scale, block_size):
        rows = jnp.asarray([0, 1])
        return _loss(lambda x: jnp.exp(x * scale[rows].sum()), z, block_size)

    at = jnp.asarray([0.3, 0.6])
    blocked = jax.jacrev(jax.grad(lambda s: loss(s, BLOCK)))(at)
    np.testing.assert_allclose(blocked, jax.jacrev(jax.grad(lambda s: loss(s, None)))(at))


def test_whole_numbers_traced_within_a_shard_map():
    @jax.jit
    @jax.shard_map(
        mesh=jax.make_mesh((2,), ("x",), (AxisType.Auto,)), in_specs=(P("x"), P()), out_specs=P("x")
    )
    def gradient(z, power):
        own = jnp.asarray(Z_POS)[: z.shape[0]]

        def loss(z, block_size):
            family = acl.Family(jnp.log1p, lambda x: jnp.exp(x * power))
            return acl.contrastive_loss(z, own, family, block_size=block_size)

        return jnp.stack([jax.grad(lambda z, b=b: loss(z, b))(z) for b in (None, 2)], axis=1)

    found = gradient(Z, 2)
    np.testing.assert_allclose(found[:, 1], found[:, 0], atol=1e-6)
    assert np.abs(found[:, 0]).max() > 1e-3
