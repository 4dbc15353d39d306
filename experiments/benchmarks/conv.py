"""An encoder's value and gradient with XLA's plain convolutions and with ours.

Ours are compiled as the trainer compiles them, with `compiler_options` of `training/compiler.py`.

    python -m experiments.benchmarks.conv [--layers]

`--layers` also times each distinct convolution of the encoders on its own: forward, input gradient
and kernel gradient. Away from the CPU the two are the same.
"""

import functools
from collections.abc import Sequence
from typing import Any
from unittest import mock

from absl import flags

from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking
from experiments.benchmarks.benchmarking import Call

_RESNET18 = (64, 128, 256, 512)
_CASES = (
    ((32, 64, 128), (256, 8, 8, 1)),
    ((16, 32, 64), (512, 32, 32, 3)),
    ((32, 64, 128), (512, 32, 32, 3)),
    (_RESNET18, (256, 32, 32, 3)),
)
_FORMS = ("plain", "ours")


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_integer("rounds", 5, "Turns of each form.", 1, flag_values=values)
    flags.DEFINE_float("seconds", 2.0, "Timed per form.", 0, flag_values=values)
    flags.DEFINE_bool("layers", False, "Time each convolution too.", flag_values=values)
    flags.DEFINE_string("json", "", "Write the results to this file.", flag_values=values)


def _encoder(widths: Sequence[int]) -> Any:
    """ResNet-18 by its widths, else one block for each width."""
    from alphacl_jax.models import resnet

    if tuple(widths) == _RESNET18:
        return resnet.resnet18(small_stem=True)
    return resnet.small_resnet(widths)


def _form(form: str) -> tuple[Any, dict[str, str | bool] | None]:
    """A form's convolution and what it is compiled with."""
    from alphacl_jax.models import conv
    from alphacl_jax.training.compiler import compiler_options

    if form == "ours":
        return conv.conv2d, compiler_options()
    return conv.plain_conv2d, None


def make_encoder(form: str, widths: Sequence[int], shape: tuple[int, ...]) -> Call:
    """Value and gradient of an encoder in training mode, compiled."""
    import jax
    import jax.numpy as jnp

    from alphacl_jax.models import resnet

    encoder = _encoder(widths)
    images = jax.random.normal(jax.random.key(0), shape)
    variables = encoder.init(jax.random.key(1), images, train=True)

    def loss(params: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        variables_now = {**variables, "params": params}
        features, _ = encoder.apply(variables_now, images, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(features))

    convolution, options = _form(form)
    with mock.patch.object(resnet, "conv2d", convolution):
        traced = jax.jit(jax.value_and_grad(loss)).lower(variables["params"], images)
    compiled = traced.compile(options)
    return lambda: jax.block_until_ready(compiled(variables["params"], images))


def show_layers(widths: Sequence[int], shape: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Times and prints each distinct convolution of an encoder; returns what it printed."""
    import jax
    import jax.numpy as jnp

    from alphacl_jax.models import conv, resnet

    layers: dict[tuple[Any, ...], int] = {}

    def record(x: Any, kernel: Any, strides: Any, padding: Any) -> Any:
        key = x.shape, kernel.shape, strides, padding
        layers[key] = layers.get(key, 0) + 1
        return conv.plain_conv2d(x, kernel, strides, padding)

    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    with mock.patch.object(resnet, "conv2d", record):
        jax.eval_shape(
            functools.partial(_encoder(widths).init, train=False), jax.random.key(0), images
        )
    titles = ["images", "kernel", "stride", "times"]
    titles += [f"{part} {form}, ms" for part in ("value", "input", "kernel") for form in _FORMS]
    lines, results = [], []
    for (of_x, of_kernel, strides, padding), count in layers.items():
        x, kernel = (jax.random.normal(jax.random.key(0), size) for size in (of_x, of_kernel))
        calls = {}
        for form in _FORMS:
            function, options = _form(form)
            value = functools.partial(function, strides=strides, padding=padding)
            for part, compiled in _compiled_parts(value, x, kernel, options).items():
                calls[f"{part} {form}"] = compiled
        times = benchmarking.time_in_turn(calls, rounds)
        names = ["x".join(map(str, size)) for size in (of_x, of_kernel)]
        best = {f"{title[:-4]}": 1e3 * min(times[title[:-4]]) for title in titles[4:]}
        lines.append([*names, str(strides[0]), str(count), *(f"{t:.1f}" for t in best.values())])
        results.append(dict(zip(titles, lines[-1], strict=True)))
    print(align([titles, *lines]), flush=True)
    return results


def _compiled_parts(
    function: Any, x: Any, kernel: Any, options: dict[str, str | bool] | None
) -> dict[str, Call]:
    """The convolution, its input gradient and its kernel gradient."""
    import jax
    import jax.numpy as jnp

    gradient = jnp.ones_like(function(x, kernel))
    forms = {
        "value": lambda x, kernel, gradient: function(x, kernel),
        "input": lambda x, kernel, gradient: jax.vjp(function, x, kernel)[1](gradient)[0],
        "kernel": lambda x, kernel, gradient: jax.vjp(function, x, kernel)[1](gradient)[1],
    }
    arguments = x, kernel, gradient

    def call(compiled: Any) -> Call:
        return lambda: jax.block_until_ready(compiled(*arguments))

    return {
        name: call(jax.jit(form).lower(*arguments).compile(options)) for name, form in forms.items()
    }


def run(values: flags.FlagValues, cases: Sequence[tuple[Sequence[int], tuple[int, ...]]]) -> None:
    """Measures and shows every case, a pair of widths and image shape."""
    report = {"unit": "seconds", **benchmarking.describe(("jax", "jaxlib", "flax"))}
    print(benchmarking.heading(report), flush=True)
    titles = ["widths", "images", "plain, ms", "ours, ms", "ratio", "plain, MB", "ours, MB"]
    lines, results = [], []
    for widths, shape in cases:
        measured = benchmarking.measure_in_turn(
            {form: functools.partial(make_encoder, form, widths, shape) for form in _FORMS},
            rounds=values.rounds,
            seconds=values.seconds,
        )
        seconds = [measured[form].seconds for form in _FORMS]
        peaks = [measured[form].peak_bytes for form in _FORMS]
        ratio = seconds[0] / seconds[1]
        layers = show_layers(widths, shape, values.rounds) if values.layers else []
        lines.append(["-".join(map(str, widths)), "x".join(map(str, shape))])
        lines[-1] += [*(f"{1e3 * s:.1f}" for s in seconds), f"{ratio:.2f}"]
        lines[-1] += map(benchmarking.megabytes, peaks)
        results.append(
            {
                "widths": widths,
                "images": shape,
                "seconds": dict(zip(_FORMS, seconds, strict=True)),
                "peak_bytes": dict(zip(_FORMS, peaks, strict=True)),
                "ratio": ratio,
                "layers": layers,
            }
        )
    print(align([titles, *lines]))
    if values.json:
        benchmarking.write_report(values.json, {**report, "results": results})


if __name__ == "__main__":
    from alphacl_jax.cli.start import run_main

    define_flags()
    run_main(lambda argv: run(flags.FLAGS, _CASES), __doc__)
