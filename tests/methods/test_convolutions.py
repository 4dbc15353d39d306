"""The layout of convolutions: the same values, and nothing that a CPU is slow at in a loop."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.methods.convolutions import in_fast_layout
from alphacl_jax.models.resnet import small_resnet

FAST = "b01f_01io->b01f"
convolve = functools.partial(
    jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC")
)


def layouts_of(function, *arguments):
    """Of the convolutions in the compiled program."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    return re.findall(r"convolution\(.*dim_labels=(\S+?),", text)


def example(shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize(
    ("strides", "padding", "dilation"),
    [((1, 1), "SAME", (1, 1)), ((2, 3), "VALID", (1, 1)), ((2, 1), ((2, 0), (1, 3)), (1, 2))],
)
def test_gradients_are_the_same(x64, strides, padding, dilation):
    x, kernel = example((3, 9, 8, 2), 0), example((3, 2, 2, 5), 1)

    def loss(x, kernel):
        return jnp.sum(jnp.tanh(convolve(x, kernel, strides, padding, rhs_dilation=dilation)))

    gradient = jax.grad(loss, (0, 1))
    for want, got in zip(gradient(x, kernel), in_fast_layout(gradient)(x, kernel), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("sample", "kernel"), list(itertools.product(("NHWC", "NCHW", "HWCN"), ("HWIO", "OIHW")))
)
def test_every_layout_becomes_the_fast_one(x64, sample, kernel):
    sizes = {"N": 2, "C": 3, "H": 5, "W": 6, "I": 3, "O": 4}
    x, w = (example([sizes[axis] for axis in axes], 0) for axes in (sample, kernel))
    numbers = jax.lax.conv_dimension_numbers(x.shape, w.shape, (sample, kernel, sample))

    def loop(step, x, w):
        return jax.lax.scan(lambda total, x: (total + jnp.sum(step(x, w) ** 2), None), 0.0, x)[0]

    def step(x, w):
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers)

    images = jnp.stack([x, 2 * x])
    plain, fast = (functools.partial(loop, f) for f in (step, in_fast_layout(step)))
    np.testing.assert_allclose(fast(images, w), plain(images, w), rtol=1e-12)
    assert set(layouts_of(fast, images, w)) == {FAST}


def test_the_gradient_of_a_resnet_in_a_loop():
    encoder = small_resnet((4, 8), norm="group")
    images = example((2, 6, 8, 8, 3), 0).astype(jnp.float32)
    params = encoder.init(jax.random.key(0), images[0], train=False)

    def loss(params, images):
        return jnp.sum(encoder.apply(params, images, train=True, mutable=[])[0] ** 2)

    def loop(gradient, params, images):
        def one(total, images):
            return jax.tree.map(jnp.add, total, gradient(params, images)), None

        return jax.lax.scan(one, jax.tree.map(jnp.zeros_like, params), images)[0]

    plain, fast = (
        functools.partial(loop, gradient)
        for gradient in (jax.grad(loss), in_fast_layout(jax.grad(loss)))
    )
    # What the rewriting is for: were the first no longer so, it could go.
    assert set(layouts_of(plain, params, images)) > {FAST}
    assert set(layouts_of(fast, params, images)) == {FAST}
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, fast(params, images), plain(params, images))


def test_convolutions_of_inner_functions_and_loops_are_found_and_others_are_left(x64):
    kernel, grouped = example((3, 3, 2, 2), 0), example((3, 3, 1, 2), 1)

    @jax.checkpoint
    def block(x):
        return jnp.tanh(jax.jit(convolve, static_argnums=(2, 3))(x, kernel, (1, 1), "SAME"))

    def loss(x):
        x = jax.lax.fori_loop(0, 2, lambda _, x: block(x), x)
        return jnp.sum(convolve(x, grouped, (1, 1), "SAME", feature_group_count=2) ** 2)

    gradient, x = jax.grad(loss), example((2, 5, 5, 2), 2)
    text = str(jax.make_jaxpr(in_fast_layout(gradient))(x))
    plain = str(jax.make_jaxpr(gradient)(x))
    kept = re.compile(r"feature_group_count=2|batch_group_count=2")
    assert len(kept.findall(text)) == len(kept.findall(plain)) > 0
    assert text.count("rhs_spec=(3, 2, 0, 1)") > plain.count("rhs_spec=(3, 2, 0, 1)")
    np.testing.assert_allclose(in_fast_layout(gradient)(x), gradient(x), rtol=1e-12)
