"""Two-dimensional convolution, with the forms that XLA's CPU backend runs fast.

On CPU, XLA's convolution over very small outputs (2×2) is more than ten times slower than the
same sum as one matrix product, and its weight gradient over large outputs several times slower
than the sum of those of parts of the batch. Both forms here compute the same numbers up to
rounding; other backends get the plain convolution.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

# Measured on two cores: outputs of up to this many positions are faster as a matrix product, and
# parts of the batch with about this many positions each give the fastest weight gradient.
_MATMUL_POSITIONS = 4
_PART_POSITIONS = 4096
_MOST_PARTS = 16

Padding = tuple[tuple[int, int], tuple[int, int]]


def conv2d(x: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    """The convolution of images with a kernel, in the form that suits the backend.

    Args:
      x: `[batch, height, width, in]`.
      kernel: `[kernel height, kernel width, in, out]`.
      strides: along height and width.
      padding: zeros before and after, along height and width.

    Returns:
      `[batch, out height, out width, out]`.
    """
    if jax.default_backend() != "cpu":
        return plain_conv2d(x, kernel, strides, padding)
    height, width = _output_size(x, kernel, strides, padding)
    if height * width <= _MATMUL_POSITIONS:
        return _as_matmul(x, kernel, strides, padding)
    return _in_parts(strides, padding, x, kernel)


def plain_conv2d(x: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    """What `conv2d` computes, in XLA's own form; arguments as there."""
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _output_size(
    x: Array, kernel: Array, strides: tuple[int, int], padding: Padding
) -> tuple[int, int]:
    height, width = (
        (x.shape[1 + i] + sum(padding[i]) - kernel.shape[i]) // strides[i] + 1 for i in range(2)
    )
    return height, width


def _as_matmul(x: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    """Each output position's patch as a row, times the kernel as a matrix."""
    height, width = _output_size(x, kernel, strides, padding)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    patches = [
        padded[
            :,
            i : i + (height - 1) * strides[0] + 1 : strides[0],
            j : j + (width - 1) * strides[1] + 1 : strides[1],
        ]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    rows = jnp.concatenate(patches, axis=-1)
    return rows @ kernel.reshape(-1, kernel.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _in_parts(strides: tuple[int, int], padding: Padding, x: Array, kernel: Array) -> Array:
    """The plain convolution, whose weight gradient is summed over parts of the batch."""
    return plain_conv2d(x, kernel, strides, padding)


def _in_parts_forward(
    strides: tuple[int, int], padding: Padding, x: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    return plain_conv2d(x, kernel, strides, padding), (x, kernel)


def _in_parts_backward(
    strides: tuple[int, int], padding: Padding, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    _, of_input = jax.vjp(lambda x: plain_conv2d(x, kernel, strides, padding), x)

    def of_kernel(x: Array, gradient: Array) -> Any:
        _, pull = jax.vjp(lambda kernel: plain_conv2d(x, kernel, strides, padding), kernel)
        return pull(gradient)[0].astype(jnp.promote_types(kernel.dtype, jnp.float32))

    parts = _parts(x.shape[0], gradient.shape[1] * gradient.shape[2])
    pieces = zip(jnp.split(x, parts), jnp.split(gradient, parts), strict=True)
    total = sum(of_kernel(*piece) for piece in pieces)
    return of_input(gradient)[0], total.astype(kernel.dtype)


_in_parts.defvjp(_in_parts_forward, _in_parts_backward)


def _parts(batch: int, positions: int) -> int:
    """How many equal parts to cut the batch into."""
    wanted = max(1, min(_MOST_PARTS, batch * positions // _PART_POSITIONS))
    return max(parts for parts in range(1, wanted + 1) if batch % parts == 0)
