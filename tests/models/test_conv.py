"""The fast forms of the convolution against the plain one, value and gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from alphacl_jax.models import conv

# Output 2×2 (matrix product), 4×4 in one part, 32×32 in several parts, and a strided 1×1 kernel.
SHAPES = [
    ((6, 2, 2, 3), (3, 3, 3, 5), 1),
    ((6, 4, 4, 3), (3, 3, 3, 5), 2),
    ((6, 4, 4, 3), (3, 3, 3, 5), 1),
    ((12, 32, 32, 2), (3, 3, 2, 3), 1),
    ((12, 32, 32, 2), (3, 3, 2, 3), 2),
    ((6, 8, 8, 3), (1, 1, 3, 4), 2),
]


@pytest.mark.parametrize(("x_shape", "kernel_shape", "stride"), SHAPES)
def test_value_and_gradients_equal_those_of_the_plain_convolution(
    x64: None, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], stride: int
) -> None:
    rng = np.random.default_rng(0)
    x, kernel = jnp.asarray(rng.normal(size=x_shape)), jnp.asarray(rng.normal(size=kernel_shape))
    half = kernel_shape[0] // 2
    strides, padding = (stride, stride), ((half, half), (half, half))
    plain = partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

    def ours(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv.conv2d(x, kernel, strides, padding)

    value, pull = jax.vjp(ours, x, kernel)
    wanted, wanted_pull = jax.vjp(plain, x, kernel)
    np.testing.assert_allclose(value, wanted, rtol=1e-12, atol=1e-12)
    gradient = jnp.asarray(rng.normal(size=wanted.shape))
    for got, want in zip(pull(gradient), wanted_pull(gradient), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


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
