"""Two-dimensional convolution, with the forms that XLA's CPU backend runs fast.

XLA's CPU backend has no forms made for a convolution's gradients; those here compute the same
numbers up to rounding. Which of its libraries computes a convolution is a matter of how a program
is compiled: `training/compiler.py`. Other backends get the plain convolution.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

# An output of few positions is fastest as one matrix product.
_MATMUL_POSITIONS = 4
# Parts of about this many positions, in the sum that makes the kernel gradient. On two cores with
# AVX-512, value and gradient of an encoder of widths 32-64-128 (256×32²×3) took 2.05 s with the
# compiler options alone, 1.77 s with the forms here too.
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
    return _with_fast_gradient(strides, padding, x, kernel)


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
def _with_fast_gradient(
    strides: tuple[int, int], padding: Padding, x: Array, kernel: Array
) -> Array:
    return plain_conv2d(x, kernel, strides, padding)


def _forward(
    strides: tuple[int, int], padding: Padding, x: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    return plain_conv2d(x, kernel, strides, padding), (x, kernel)


def _backward(
    strides: tuple[int, int], padding: Padding, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    return (
        _input_gradient(x.shape, kernel, gradient, strides, padding),
        _kernel_gradient(x, kernel, gradient, strides, padding),
    )


_with_fast_gradient.defvjp(_forward, _backward)


def _input_gradient(
    shape: tuple[int, ...],
    kernel: Array,
    gradient: Array,
    strides: tuple[int, int],
    padding: Padding,
) -> Array:
    """The transposed convolution, as one of stride 1 that makes the s·s phases as channels.

    In one dimension, padded x at s·m + u meets the gradient at m − t through the kernel at
    u + s·t: phase u is a convolution of the gradient with every s-th entry of the kernel. XLA's
    own form convolves a gradient spread out with zeros, which is s·s times the work.
    """
    size = kernel.shape[:2]
    if strides == (1, 1):
        flipped = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
        (top, bottom), (left, right) = (
            (size[i] - 1 - padding[i][0], size[i] - 1 - padding[i][1]) for i in range(2)
        )
        return plain_conv2d(gradient, flipped, (1, 1), ((top, bottom), (left, right)))
    # Phases beyond a kernel smaller than the stride are 0, and made by padding.
    phases = [min(strides[i], size[i]) for i in range(2)]
    taps = [-(-size[i] // strides[i]) for i in range(2)]
    missing = [(0, taps[i] * phases[i] - size[i]) for i in range(2)]
    c_in, c_out = kernel.shape[2:]
    by_phase = jnp.pad(kernel, (*missing, (0, 0), (0, 0)))
    by_phase = by_phase.reshape(taps[0], phases[0], taps[1], phases[1], c_in, c_out)
    by_phase = by_phase[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4).reshape(*taps, c_out, -1)
    halo = (taps[0] - 1, taps[0] - 1), (taps[1] - 1, taps[1] - 1)
    y = plain_conv2d(gradient, by_phase, (1, 1), halo)
    batch, height, width, _ = y.shape
    y = y.reshape(batch, height, width, *phases, c_in).transpose(0, 1, 3, 2, 4, 5)
    beyond = [(0, strides[i] - phases[i]) for i in range(2)]
    y = jnp.pad(y, ((0, 0), (0, 0), beyond[0], (0, 0), beyond[1], (0, 0)))
    y = y.reshape(batch, height * strides[0], width * strides[1], c_in)
    crop = [(-padding[i][0], shape[1 + i] + padding[i][0] - y.shape[1 + i], 0) for i in range(2)]
    return lax.pad(y, jnp.zeros((), y.dtype), ((0, 0, 0), *crop, (0, 0, 0)))


def _kernel_gradient(
    x: Array, kernel: Array, gradient: Array, strides: tuple[int, int], padding: Padding
) -> Array:
    """Sum over parts of the batch, whose working set stays in the cache."""
    total_type = jnp.promote_types(kernel.dtype, jnp.float32)
    batch, height, width, _ = gradient.shape

    def of_part(x: Array, gradient: Array) -> Array:
        _, pull = jax.vjp(lambda kernel: plain_conv2d(x, kernel, strides, padding), kernel)
        return pull(gradient)[0].astype(total_type)

    parts = _parts(batch, height * width)
    # Every parts-th image: unlike a run of images, such a part leaves none of the devices idle
    # that a batch is sharded over.
    x, gradient = (a.reshape(batch // parts, parts, *a.shape[1:]) for a in (x, gradient))
    pieces = [of_part(x[:, i], gradient[:, i]) for i in range(parts)]
    return sum(pieces[1:], start=pieces[0]).astype(kernel.dtype)


def _parts(batch: int, positions: int) -> int:
    """How many equal parts to cut the batch into."""
    wanted = max(1, min(_MOST_PARTS, batch * positions // _PART_POSITIONS))
    return max(parts for parts in range(1, wanted + 1) if batch % parts == 0)
