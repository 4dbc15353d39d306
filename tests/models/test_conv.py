"""The fast forms of the convolution against the plain one, value and gradient."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alphacl_jax.models import conv

HALF = ((1, 1), (1, 1))
NONE = ((0, 0), (0, 0))
SHAPES = {
    "2×2 as a matrix product": ((6, 2, 2, 3), (3, 3, 3, 5), (1, 1), HALF),
    "2×2 with a stride": ((6, 4, 4, 3), (3, 3, 3, 5), (2, 2), HALF),
    "4×4 in one part": ((6, 4, 4, 3), (3, 3, 3, 5), (1, 1), HALF),
    "several parts": ((12, 32, 32, 2), (3, 3, 2, 3), (1, 1), HALF),
    "several parts with a stride": ((12, 32, 32, 2), (3, 3, 2, 3), (2, 2), HALF),
    "batch without divisors": ((7, 32, 32, 2), (3, 3, 2, 3), (1, 1), HALF),
    "one image": ((1, 9, 9, 2), (3, 3, 2, 3), (1, 1), HALF),
    "padding of one side": ((4, 9, 8, 3), (3, 2, 3, 4), (1, 1), ((0, 2), (1, 0))),
    "1×1": ((6, 8, 8, 64), (1, 1, 64, 64), (1, 1), NONE),
    "1×1 with a stride": ((6, 8, 9, 3), (1, 1, 3, 4), (2, 2), NONE),
    "odd sizes with a stride": ((3, 9, 11, 3), (3, 3, 3, 4), (2, 2), HALF),
    "rows that the stride leaves out": ((3, 10, 12, 3), (3, 3, 3, 4), (2, 2), NONE),
    "7×7 with a stride": ((2, 16, 15, 3), (7, 7, 3, 4), (2, 2), ((3, 3), (3, 3))),
    "strides that differ": ((2, 13, 12, 2), (4, 3, 2, 3), (3, 2), ((2, 1), (0, 1))),
}


@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "strides", "padding"), SHAPES.values(), ids=SHAPES
)
def test_value_and_gradients_equal_those_of_the_plain_convolution(
    x64: None,
    x_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    strides: tuple[int, int],
    padding: conv.Padding,
) -> None:
    rng = np.random.default_rng(0)
    x, kernel = jnp.asarray(rng.normal(size=x_shape)), jnp.asarray(rng.normal(size=kernel_shape))
    plain = partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

    def ours(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv.conv2d(x, kernel, strides, padding)

    wanted, pull = jax.vjp(plain, x, kernel)
    gradient = jnp.asarray(rng.normal(size=wanted.shape))
    value, of_x, of_kernel = jax.jit(partial(_value_and_gradients, ours))(x, kernel, gradient)
    np.testing.assert_allclose(value, wanted, rtol=1e-12, atol=1e-11)
    for got, want in zip((of_x, of_kernel), pull(gradient), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


def _value_and_gradients(
    convolution: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, ...]:
    value, pull = jax.vjp(convolution, x, kernel)
    return value, *pull(gradient)


@pytest.mark.parametrize(("side", "channels", "stride"), [(8, 64, 1), (16, 3, 2)])
def test_float32_is_as_exact_as_the_plain_convolution(
    side: int, channels: int, stride: int
) -> None:
    rng = np.random.default_rng(0)
    x, kernel = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((128, side, side, channels), (3, 3, channels, channels))
    )
    strides = (stride, stride)
    gradient = jax.random.normal(jax.random.key(0), (128, 8, 8, channels))
    forms = (partial(f, strides=strides, padding=HALF) for f in (conv.conv2d, conv.plain_conv2d))
    got, want = (
        jax.jit(partial(_value_and_gradients, form))(x, kernel, gradient) for form in forms
    )
    for ours, plain in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=0, atol=3e-6 * float(jnp.abs(plain).max()))


def test_members_of_a_vmap_are_single_convolutions(x64: None) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 2, 8, 8, 16)))
    kernel = jnp.asarray(rng.normal(size=(2, 3, 3, 16, 17)))
    gradient = jnp.asarray(rng.normal(size=(2, 2, 8, 8, 17)))
    one = partial(_value_and_gradients, lambda x, k: conv.conv2d(x, k, (1, 1), HALF))
    together = jax.jit(jax.vmap(one))(x, kernel, gradient)
    for i in range(2):
        single = jax.jit(one)(x[i], kernel[i], gradient[i])
        for got, want in zip(together, single, strict=True):
            np.testing.assert_allclose(got[i], want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("side", "channels", "stride"), [(8, 64, 1), (16, 4, 2)])
def test_a_sharded_batch_stays_where_it_is(side: int, channels: int, stride: int) -> None:
    mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    shapes = [(128, side, side, channels), (3, 3, channels, channels), (128, 8, 8, channels)]
    assert conv._parts(128, 8 * 8) > 1
    rng = np.random.default_rng(0)
    arguments = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]
    function = jax.jit(
        partial(_value_and_gradients, lambda x, k: conv.conv2d(x, k, (stride, stride), HALF))
    )
    shardings = (rows, NamedSharding(mesh, PartitionSpec()), rows)
    sharded = [jax.device_put(*pair) for pair in zip(arguments, shardings, strict=True)]
    compiled = function.lower(*sharded).compile()
    for moved in ("all-gather", "all-to-all", "collective-permute"):
        assert f"{moved}(" not in compiled.as_text()
    for got, want in zip(compiled(*sharded), function(*arguments), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=3e-6 * float(jnp.abs(want).max()))


@pytest.mark.parametrize(
    ("batch", "positions", "parts"), [(256, 1024, 16), (256, 64, 4), (256, 16, 1), (7, 4096, 7)]
)
def test_the_batch_is_cut_into_equal_parts(batch: int, positions: int, parts: int) -> None:
    assert conv._parts(batch, positions) == parts


def test_several_parts_are_what_the_large_shapes_above_use() -> None:
    assert conv._parts(12, 32 * 32) == 3


def test_half_precision_keeps_its_type() -> None:
    x, kernel = jnp.ones((4, 8, 8, 2), jnp.bfloat16), jnp.ones((3, 3, 2, 2), jnp.bfloat16)
    padding = ((1, 1), (1, 1))
    value, pull = jax.vjp(lambda x, k: conv.conv2d(x, k, (1, 1), padding), x, kernel)
    assert value.dtype == jnp.bfloat16
    assert [g.dtype for g in pull(value)] == [jnp.bfloat16, jnp.bfloat16]


def test_other_backends_get_the_plain_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jaxpr = str(
        jax.make_jaxpr(lambda x, k: conv.conv2d(x, k, (1, 1), ((1, 1), (1, 1))))(
            jnp.ones((4, 2, 2, 2)), jnp.ones((3, 3, 2, 2))
        )
    )
    assert "conv_general_dilated" in jaxpr
    assert "custom_vjp" not in jaxpr
