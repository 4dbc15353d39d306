"""Times an encoder's value and gradient with the plain convolutions and with ours.

    python -m experiments.benchmark_conv

prints both sides, the ratio and the machine. Away from the CPU the two are the same.
"""

import os
import platform
import time
from collections.abc import Sequence
from unittest import mock

import jax
import jax.numpy as jnp
from absl import flags
from jax import Array

from alphacl_jax.models import conv, resnet
from experiments.main import run_main

_CASES = (
    ((32, 64, 128), (256, 8, 8, 1)),
    ((16, 32, 64), (512, 32, 32, 3)),
    ((32, 64, 128), (512, 32, 32, 3)),
)


def _seconds(widths: Sequence[int], shape: tuple[int, ...], repeats: int) -> float:
    """The best time of value and gradient of a small ResNet in training mode."""
    encoder = resnet.small_resnet(widths)
    images = jax.random.normal(jax.random.key(0), shape)
    variables = encoder.init(jax.random.key(1), images, train=True)

    @jax.jit
    @jax.value_and_grad
    def value_and_gradient(params: dict[str, Array], images: Array) -> Array:
        variables_now = {**variables, "params": params}
        features, _ = encoder.apply(variables_now, images, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(features))

    times = []
    for _ in range(repeats + 1):  # the first compiles
        started = time.perf_counter()
        jax.block_until_ready(value_and_gradient(variables["params"], images))
        times.append(time.perf_counter() - started)
    return min(times[1:])


def main(argv: Sequence[str]) -> None:
    del argv
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, jax {jax.__version__}")
    print(f"{'widths':>12} {'images':>16} {'plain, ms':>10} {'ours, ms':>10} {'ratio':>6}")
    for widths, shape in _CASES:
        ours = _seconds(widths, shape, flags.FLAGS.repeats)
        with mock.patch.object(resnet, "conv2d", conv.plain_conv2d):
            plain = _seconds(widths, shape, flags.FLAGS.repeats)
        names = "-".join(map(str, widths)), "x".join(map(str, shape))
        print(
            f"{names[0]:>12} {names[1]:>16} {1e3 * plain:10.0f} {1e3 * ours:10.0f} "
            f"{plain / ours:6.1f}"
        )


if __name__ == "__main__":
    flags.DEFINE_integer("repeats", 5, "Timed repeats of each; the best counts.", lower_bound=1)
    run_main(main, __doc__)
