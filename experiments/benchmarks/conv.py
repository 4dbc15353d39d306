"""An encoder's value and gradient with XLA's plain convolutions, with ours, and with oneDNN's.

Ours are compiled as the trainer compiles them, with `compiler_options` of `training/compiler.py`.
On a CPU, where XLA was built with oneDNN's calls and knows the options that turn them on, ours are
timed with them too: as they come, and with the sum of a kernel gradient's parts kept apart from the
calls it adds up. As they come, XLA makes a sum's other terms operands of its first call, and oneDNN
refuses more than so many: the process is killed. Sums of several lengths are tried, and a form that
did not live is shown as "ended".

    python -m experiments.benchmarks.conv [--cases=32-64-128] [--layers]

`--layers` also times each distinct convolution of the encoders on its own, forward and both
gradients, beside PyTorch's where that is installed: the least of the times. Away from the CPU plain
and ours are the same.
"""

import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking, conv_forms
from experiments.benchmarks.benchmarking import Call, Measurement

Case = tuple[Sequence[int], tuple[int, ...]]

CASES: dict[str, Case] = {
    "grey8": ((32, 64, 128), (256, 8, 8, 1)),
    "16-32-64": ((16, 32, 64), (512, 32, 32, 3)),
    "32-64-128": ((32, 64, 128), (512, 32, 32, 3)),
    "resnet18": (conv_forms.RESNET18, (256, 32, 32, 3)),
}
_PEER = "PyTorch"
_SUMS = (16, 32, 64)
# A layer's part takes milliseconds: this is timed of each, over all turns.
_LAYER_SECONDS = 0.2


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_list("cases", list(CASES), f"Of {', '.join(CASES)}.", flag_values=values)
    flags.DEFINE_bool("bfloat16", True, "In it too, where it is fast.", flag_values=values)
    flags.DEFINE_integer("rounds", 5, "Turns of each form.", 1, flag_values=values)
    flags.DEFINE_float("seconds", 2.0, "Timed per form.", 0, flag_values=values)
    flags.DEFINE_bool("layers", False, "Time each convolution too.", flag_values=values)
    flags.DEFINE_string("json", "", "Write the results to this file.", flag_values=values)


def measure_encoder(
    case: Case, dtype: str, forms: Sequence[str], rounds: int, seconds: float
) -> dict[str, Any]:
    """An encoder in all forms, None for those that ended."""
    widths, shape = case
    measured = benchmarking.measure_in_turn(
        {form: functools.partial(conv_forms.make_encoder, form, *case, dtype) for form in forms},
        rounds=rounds,
        seconds=seconds,
        may_end=conv_forms.ONEDNN_FORMS,
    )
    times = {form: measured[form].seconds if form in measured else None for form in forms}
    peaks = {form: measured[form].peak_bytes if form in measured else None for form in forms}
    return {
        "widths": widths,
        "images": shape,
        "dtype": dtype,
        "seconds": times,
        "peak_bytes": peaks,
        "ratio": measured["plain"].seconds / measured["ours"].seconds,
    }


def measure_layers(
    case: Case, dtype: str, forms: Sequence[str], rounds: int
) -> list[dict[str, Any]]:
    """Each part of each distinct convolution of an encoder in all forms, None where one ended."""
    results = []
    for layer, count in benchmarking.alone(conv_forms.layers, *case).items():
        for part in conv_forms.PARTS:
            measured = benchmarking.measure_in_turn(
                {form: _part_maker(form, part, layer, dtype) for form in forms},
                rounds=rounds,
                seconds=_LAYER_SECONDS,
                may_end=conv_forms.ONEDNN_FORMS,
            )
            results.append(
                {
                    "images": layer[0],
                    "kernel": layer[1],
                    "stride": layer[2][0],
                    "times": count,
                    "dtype": dtype,
                    "part": part,
                    "seconds": {form: _least(measured, form) for form in forms},
                }
            )
    return results


def _part_maker(form: str, *of: Any) -> Callable[[], Call]:
    if form == _PEER:
        return functools.partial(conv_forms.make_torch_part, *of)
    return functools.partial(conv_forms.make_part, form, *of)


def _least(measured: Mapping[str, Measurement], form: str) -> float | None:
    return min(measured[form].times) if form in measured else None


def try_sums() -> dict[str, bool]:
    """Whether oneDNN's calls live through the sums of several lengths; prints it."""
    makers = {
        f"{form}: a sum of {count}": functools.partial(conv_forms.make_sum, form, count)
        for form, count in itertools.product(conv_forms.ONEDNN_FORMS, _SUMS)
    }
    measured = benchmarking.measure_in_turn(makers, rounds=1, seconds=0, may_end=list(makers))
    lived = {name: name in measured for name in makers}
    for name, well in lived.items():
        print(f"{name} {'lived' if well else 'ended'}", flush=True)
    return lived


def show_encoders(results: Sequence[dict[str, Any]]) -> None:
    """Prints a line for each encoder and type of number."""
    forms = list(results[0]["seconds"])
    titles = ["widths", "images", "numbers", *(f"{form}, ms" for form in forms), "plain / ours"]
    lines = [[*titles, *(f"{form}, MB" for form in forms)]]
    for found in results:
        lines.append(["-".join(map(str, found["widths"])), _product(found["images"])])
        lines[-1] += [found["dtype"], *map(_milliseconds, found["seconds"].values())]
        lines[-1] += [f"{found['ratio']:.2f}"]
        lines[-1] += map(benchmarking.megabytes, found["peak_bytes"].values())
    print("\n" + align(lines), flush=True)


def show_layers(results: Sequence[dict[str, Any]]) -> None:
    """Prints a line for each part of each convolution, and what each part takes in all of them."""
    forms = list(results[0]["seconds"])
    lines = [["images", "kernel", "stride", "times", "part", *(f"{form}, ms" for form in forms)]]
    for found in results:
        lines.append([_product(found["images"]), _product(found["kernel"])])
        lines[-1] += [str(found["stride"]), str(found["times"]), found["part"]]
        lines[-1] += map(_milliseconds, found["seconds"].values())
    for part in conv_forms.PARTS:
        of_part = [found for found in results if found["part"] == part]
        sums = [_sum_of_all(of_part, form) for form in forms]
        lines.append(["all of them", "", "", "", part, *map(_milliseconds, sums)])
    print(f"\n{results[0]['dtype']}\n" + align(lines), flush=True)


def _sum_of_all(results: Sequence[dict[str, Any]], form: str) -> float | None:
    """Seconds of the layers together, each as often as the encoder has it; None if one ended."""
    seconds = [found["seconds"][form] for found in results]
    if None in seconds:
        return None
    return float(sum(s * found["times"] for s, found in zip(seconds, results, strict=True)))


def _product(shape: Collection[int]) -> str:
    return "x".join(map(str, shape))


def _milliseconds(seconds: float | None) -> str:
    return "ended" if seconds is None else f"{1e3 * seconds:.1f}"


def run(values: flags.FlagValues, cases: Mapping[str, Case]) -> None:
    """Measures and shows the cases that were asked for.

    Raises:
      RunError: for a case that is not known.
    """
    if unknown := sorted(set(values.cases) - set(cases)):
        raise RunError(f"--cases={unknown[0]} is unknown; use some of {', '.join(cases)}")
    report: dict[str, Any] = {
        "unit": "seconds",
        **benchmarking.describe(("jax", "jaxlib", "flax", "torch")),
    }
    print(benchmarking.heading(report), flush=True)
    forms = [*conv_forms.FORMS]
    if benchmarking.alone(conv_forms.calls_onednn):
        forms += conv_forms.ONEDNN_FORMS
        report["sums"] = try_sums()
    else:
        print("without oneDNN: this XLA calls it for no convolution", flush=True)
    chosen = [cases[name] for name in values.cases]
    both = list(itertools.product(chosen, benchmarking.dtypes(values.bfloat16)))
    results = [measure_encoder(*one, forms, values.rounds, values.seconds) for one in both]
    show_encoders(results)
    if values.layers:
        if report["versions"]["torch"]:
            forms.append(_PEER)
        else:
            print("without PyTorch: pip install -e '.[bench]'", flush=True)
        for found, one in zip(results, both, strict=True):
            found["layers"] = measure_layers(*one, forms, values.rounds)
            show_layers(found["layers"])
    if values.json:
        benchmarking.write_report(values.json, {**report, "results": results})


if __name__ == "__main__":
    from alphacl_jax.cli.start import run_main

    define_flags()
    run_main(lambda argv: run(flags.FLAGS, CASES), __doc__)
