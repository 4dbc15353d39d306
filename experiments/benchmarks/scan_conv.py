"""A training as one compiled loop beside one call a step; convolutions beside matrix products.

    python -m experiments.benchmarks.scan_conv

An encoder of windows (`models.temporal.WindowEncoder`) makes its convolutions as matrix products;
here the same layers stand beside it as XLA's convolutions. Both are trained as CEBRA with positives
in time, by the same steps in two forms: all in one loop on the device, as the estimator does it, or
each dispatched by Python. All four compute the same losses, which is checked.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from jax import Array

from alphacl_jax.data.positive_batches import cut_windows
from alphacl_jax.data.positives import Positives, draw_moments, drawn_from
from alphacl_jax.data.sequences import recordings_from_arrays
from alphacl_jax.methods.cebra import Similarity, cebra_method
from alphacl_jax.models.temporal import WindowEncoder
from alphacl_jax.tables import align
from alphacl_jax.training.compiler import compiler_options
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.step import init_of, step_of
from experiments.benchmarks import benchmarking

PRODUCTS, CONVOLUTIONS = "matrix products", "convolutions"
LOOP, CALLS = "one loop", "a call a step"
_POSITIVES = Positives("time", offset=10)
_RATE = 3e-4


class ConvEncoder(nn.Module):
    """`WindowEncoder` of a receptive field of 10, by XLA's convolutions."""

    width: int
    dim: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        del train

        def conv(x: Array, width: int, kernel: int) -> Array:
            return nn.Conv(width, (kernel,), padding="VALID")(x)

        x = nn.gelu(conv(x, self.width, 2), approximate=False)
        for _ in range(3):
            x = x[:, 1:-1] + nn.gelu(conv(x, self.width, 3), approximate=False)
        return conv(x, self.dim, 3)


def as_convolutions(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a `WindowEncoder` as those of a `ConvEncoder`."""
    kernels = (2, 3, 3, 3, 3)
    return {
        f"Conv_{i}": {
            "kernel": params[f"Dense_{i}"]["kernel"].reshape(
                kernel, -1, params[f"Dense_{i}"]["kernel"].shape[1]
            ),
            "bias": params[f"Dense_{i}"]["bias"],
        }
        for i, kernel in enumerate(kernels)
    }


def trainings(
    steps: int, batch: int, width: int, channels: int, moments: int
) -> dict[tuple[str, str], Callable[[], np.ndarray]]:
    """By encoder and form, what trains so many steps and returns the loss of each."""
    encoder = WindowEncoder(10, width, 3)
    rng = np.random.default_rng(0)
    recordings = recordings_from_arrays(rng.poisson(1.0, (moments, channels)))
    found = drawn_from(recordings, _POSITIVES, encoder.before, encoder.after)
    arrays = jax.device_put({**found, "signal": recordings.signal})
    mesh = data_mesh(jax.local_devices()[:1])
    optimizer = optax.adam(_RATE)

    def draw(key: Array, arrays: Any) -> dict[str, Array]:
        at = draw_moments(key, arrays, _POSITIVES, batch)
        return cut_windows(arrays["signal"], at, encoder.before, encoder.after)

    def blank(key: Array, raw: Any) -> dict[str, Array]:
        return {"reference": jnp.zeros((1, 10, channels))}

    start = jax.jit(init_of(cebra_method(encoder, mesh, Similarity()), optimizer, blank, {}))(
        jax.random.key(0)
    )
    made: dict[tuple[str, str], Callable[[], np.ndarray]] = {}
    for name, module in ((PRODUCTS, encoder), (CONVOLUTIONS, ConvEncoder(width, 3))):
        state = start
        if name == CONVOLUTIONS:
            params = {"encoder": as_convolutions(start.params["encoder"])}
            state = start._replace(params=params, opt_state=optimizer.init(params))
        method = cebra_method(module, mesh, Similarity())
        step = step_of(method, optimizer, draw, optax.constant_schedule(_RATE))
        made[name, LOOP] = functools.partial(_in_a_loop(step, steps), state, arrays)
        made[name, CALLS] = functools.partial(_by_calls(step, steps), state, arrays)
    return made


def _in_a_loop(step: Callable[..., Any], steps: int) -> Callable[[Any, Any], np.ndarray]:
    def body(state: Any, arrays: Any) -> Array:
        def one(state: Any, _: None) -> tuple[Any, Array]:
            state, metrics = step(state, arrays, jnp.array(True))
            return state, metrics["loss"]

        return jax.lax.scan(one, state, length=steps)[1]

    compiled = jax.jit(body, compiler_options=compiler_options())
    return lambda state, arrays: np.asarray(compiled(state, arrays))


def _by_calls(step: Callable[..., Any], steps: int) -> Callable[[Any, Any], np.ndarray]:
    compiled = jax.jit(step, compiler_options=compiler_options())

    def run(state: Any, arrays: Any) -> np.ndarray:
        losses = []
        for _ in range(steps):
            state, metrics = compiled(state, arrays, True)
            losses.append(metrics["loss"])
        return np.asarray(jax.device_get(losses))

    return run


def require_same(losses: dict[tuple[str, str], np.ndarray]) -> None:
    """Raises an AssertionError where the forms compute different losses."""
    first = losses[PRODUCTS, LOOP]
    for values in losses.values():
        np.testing.assert_allclose(values, first, rtol=1e-3)


def table(times: dict[tuple[str, str], list[float]], steps: int) -> str:
    """Milliseconds a step of each encoder in each form, and how many times the loop takes."""
    rows = [["encoder", f"{LOOP}, ms", f"{CALLS}, ms", "loop / calls"]]
    for name in (PRODUCTS, CONVOLUTIONS):
        loop, calls = (1e3 * float(np.median(times[name, form])) / steps for form in (LOOP, CALLS))
        rows.append([name, f"{loop:.2f}", f"{calls:.2f}", f"{loop / calls:.2f}"])
    return align(rows)


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    for name, default, text in (
        ("steps", 50, "Of each training."),
        ("batch", 512, "References, and as many negatives."),
        ("width", 32, "Channels of the hidden layers."),
        ("channels", 100, "Of the signal."),
        ("moments", 12_000, "Of the signal."),
        ("rounds", 3, "Each form is timed so often, in turns."),
    ):
        flags.DEFINE_integer(name, default, text, 1, flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Checks that all forms agree, times them in turns, shows the table."""
    print(benchmarking.heading(benchmarking.describe(("jax", "jaxlib"))), flush=True)
    sizes = values.batch, values.width, values.channels, values.moments
    made = trainings(values.steps, *sizes)
    require_same({name: train() for name, train in made.items()})
    named = {"\n".join(name): train for name, train in made.items()}
    times = benchmarking.time_in_turn(named, values.rounds)
    print(table({name: times["\n".join(name)] for name in made}, values.steps))


if __name__ == "__main__":
    from alphacl_jax.cli.start import run_main

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
