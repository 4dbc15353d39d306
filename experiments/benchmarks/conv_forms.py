"""The forms of the convolution that conv.py sets side by side, each for a process of its own.

plain            XLA's convolutions, compiled as XLA does by itself
ours             `models/conv.py`, compiled as the trainer does
onednn           the same, compiled so that XLA calls oneDNN wherever it knows how to
onednn, apart    the same, with the parts of a kernel's gradient kept apart from their sum
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

from experiments.benchmarks.benchmarking import Call

FORMS = ("plain", "ours")
ONEDNN_FORMS = ("onednn", "onednn, apart")
PARTS = ("forward", "input gradient", "kernel gradient")

RESNET18 = (64, 128, 256, 512)

# A distinct convolution: the shapes of images and kernel, strides, padding.
Layer = tuple[tuple[int, ...], tuple[int, ...], tuple[int, int], tuple[tuple[int, int], ...]]
Options = dict[str, str | bool] | None


def calls_onednn() -> bool:
    """Whether the XLA in use calls oneDNN for a convolution, where it is asked to."""
    import jax
    import jax.numpy as jnp

    from alphacl_jax.models import conv

    x, kernel = jnp.ones((2, 8, 8, 16)), jnp.ones((3, 3, 16, 16))
    function = functools.partial(conv.plain_conv2d, strides=(1, 1), padding=((1, 1), (1, 1)))
    try:
        compiled = jax.jit(function).lower(x, kernel).compile(_options("onednn"))
    except jax.errors.JaxRuntimeError:  # the options are unknown
        return False
    return "__onednn" in (compiled.as_text() or "")


def _options(form: str) -> Options:
    """What a form is compiled with."""
    from alphacl_jax.training.compiler import compiler_options

    if form == "plain":
        return None
    if form not in ONEDNN_FORMS:
        return compiler_options()
    calls: dict[str, str | bool] = {
        "xla_cpu_use_onednn": True,
        "xla_cpu_experimental_onednn_custom_call": True,
    }
    return {**(compiler_options() or {}), **calls}


@contextlib.contextmanager
def _convolution(form: str) -> Iterator[Any]:
    """A form's convolution, for what is traced within the context."""
    from jax import lax

    from alphacl_jax.models import conv

    plain = conv.plain_conv2d

    def apart(x: Any, kernel: Any, strides: Any, padding: Any) -> Any:
        # The barrier's own gradient is a barrier: XLA does not fuse the sum into oneDNN's calls.
        return plain(x, lax.optimization_barrier(kernel), strides, padding)

    if form == "plain":
        yield plain
    elif form == "onednn, apart":
        with mock.patch.object(conv, "plain_conv2d", apart):
            yield conv.conv2d
    else:
        yield conv.conv2d


def _encoder(widths: Sequence[int], dtype: str) -> Any:
    """ResNet-18 by its widths, else one block for each width."""
    from alphacl_jax.models import resnet

    if tuple(widths) == RESNET18:
        return resnet.resnet18(small_stem=True, dtype=dtype)
    return resnet.small_resnet(widths, dtype=dtype)


def make_encoder(form: str, widths: Sequence[int], shape: tuple[int, ...], dtype: str) -> Call:
    """Value and gradient of an encoder in training mode, compiled."""
    import jax
    import jax.numpy as jnp

    from alphacl_jax.models import resnet

    encoder = _encoder(widths, dtype)
    images = jax.random.normal(jax.random.key(0), shape)
    variables = encoder.init(jax.random.key(1), images, train=True)

    def loss(params: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        variables_now = {**variables, "params": params}
        features, _ = encoder.apply(variables_now, images, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(features))

    with _convolution(form) as function, mock.patch.object(resnet, "conv2d", function):
        traced = jax.jit(jax.value_and_grad(loss)).lower(variables["params"], images)
    compiled = traced.compile(_options(form))
    return lambda: jax.block_until_ready(compiled(variables["params"], images))


def layers(widths: Sequence[int], shape: tuple[int, ...]) -> dict[Layer, int]:
    """The distinct convolutions of an encoder, and how often it has each."""
    import jax
    import jax.numpy as jnp

    from alphacl_jax.models import conv, resnet

    found: dict[Layer, int] = {}

    def record(x: Any, kernel: Any, strides: Any, padding: Any) -> Any:
        key = x.shape, kernel.shape, strides, padding
        found[key] = found.get(key, 0) + 1
        return conv.plain_conv2d(x, kernel, strides, padding)

    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    initialise = functools.partial(_encoder(widths, "float32").init, train=False)
    with mock.patch.object(resnet, "conv2d", record):
        jax.eval_shape(initialise, jax.random.key(0), images)
    return found


def make_part(form: str, part: str, layer: Layer, dtype: str) -> Call:
    """A convolution, or one of its gradients, compiled on its own."""
    import jax

    of_x, of_kernel, strides, padding = layer
    x, kernel = (jax.random.normal(jax.random.key(0), of, dtype) for of in (of_x, of_kernel))
    with _convolution(form) as convolution:
        function = functools.partial(convolution, strides=strides, padding=padding)
        gradient = jax.random.normal(
            jax.random.key(1), jax.eval_shape(function, x, kernel).shape, dtype
        )

        def of_part(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
            value, pull = jax.vjp(function, x, kernel)
            return (value, *pull(gradient))[PARTS.index(part)]

        traced = jax.jit(of_part).lower(x, kernel, gradient)
    compiled = traced.compile(_options(form))
    return lambda: jax.block_until_ready(compiled(x, kernel, gradient))


def make_sum(form: str, count: int) -> Call:
    """The gradient of a kernel that is used `count` times: a sum of as many convolutions."""
    import jax
    import jax.numpy as jnp

    x, kernel = jnp.ones((count, 2, 8, 8, 16)), jnp.ones((3, 3, 16, 16))
    with _convolution(form) as function:

        def loss(kernel: jax.Array, x: jax.Array) -> jax.Array:
            values = [function(each, kernel, (1, 1), ((1, 1), (1, 1))) for each in x]
            return sum(map(jnp.vdot, values, x), start=jnp.zeros(()))

        traced = jax.jit(jax.grad(loss)).lower(kernel, x)
    compiled = traced.compile(_options(form))
    return lambda: jax.block_until_ready(compiled(kernel, x))


def make_torch_part(part: str, layer: Layer, dtype: str) -> Call:
    """The same in PyTorch, on all cores, its arrays in channels-last memory."""
    import torch
    from torch.nn.functional import conv2d

    from experiments.benchmarks import benchmarking

    torch.set_num_threads(benchmarking.usable_cores())
    (batch, height, width, c_in), (rows, columns, _, c_out), strides, padding = layer
    form: dict[str, Any] = {
        "dtype": getattr(torch, dtype),
        "memory_format": torch.channels_last,
    }
    x = torch.randn(batch, c_in, height, width).to(**form)
    kernel = torch.randn(c_out, c_in, rows, columns).to(**form)
    function = functools.partial(conv2d, stride=strides, padding=[before for before, _ in padding])
    if part == "forward":
        return lambda: function(x, kernel)
    wanted = (x if part == "input gradient" else kernel).requires_grad_()
    value = function(x, kernel)
    gradient = torch.randn(value.shape).to(**form)
    return lambda: torch.autograd.grad(value, wanted, gradient, retain_graph=True)
