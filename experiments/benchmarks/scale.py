"""Time and memory of value and gradient as the batch grows, and the laws they follow.

    python -m experiments.benchmarks.scale --sizes=16384,65536,262144 --json=scale.json \\
        --picture=scale.png

Float32, the both-views layout: n rows are two views of n/2 samples and meet each other, n²
distances. On one device a loss that is made of sums over pairs visits each pair once, in square
tiles, and so it does over several, whose blocks are passed around a ring; a rule that solves an
equation for each row works on whole rows. Beside the ring stands what it replaced, the same loss
with each device's share of the rows compared with a copy of all. The devices share the cores.

Memory is what the process holds at most during one call, above what it held before, over all its
devices: inputs are not in it, the gradient is. Each case has a fresh process. A call that took long
is timed once.

With --json each result is written as soon as it is known, and what the file holds already is not
measured again: a run can be killed and started again. Laws are fitted to all results in the file.
That of memory needs sizes of 16,384 rows or more: below, "auto" holds all pairs of some forms.
"""

import functools
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.runs.settings import LOSSES
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking, memory
from experiments.benchmarks.kernel_entries import example_views, our_loss
from experiments.benchmarks.memory import Call
from experiments.benchmarks.scale_laws import Law, anchors, laws

_PACKAGES = ("jax", "jaxlib", "numpy")
# A call that took longer is not repeated.
_LONG_SECONDS = 10.0
_PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds=86400"

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What a process of its own measures.

    Attributes:
      loss: a name of `--loss`.
      devices: over how many the rows are spread.
      form: "tiles", in which each pair is visited once on one device; "ring", the same over
        several; or "rows", in which each row meets all.
      size: how many rows.
      dim: of the embeddings.
    """

    loss: str
    devices: int
    form: str
    size: int
    dim: int


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_list("sizes", ["16384", "65536"], "Rows, smallest first.", flag_values=values)
    flags.DEFINE_integer("dim", 128, "Of the embeddings.", lower_bound=1, flag_values=values)
    flags.DEFINE_list("devices", ["1", "4"], "Of the CPU.", flag_values=values)
    flags.DEFINE_multi_enum(
        "losses",
        ["info_nce", "alpha_direct", "alpha_inverse"],
        LOSSES,
        "Repeat the flag for several.",
        flag_values=values,
    )
    flags.DEFINE_float("seconds", 5.0, "Timed per case.", 0, flag_values=values)
    flags.DEFINE_string("json", "", "Keep the results in this file.", flag_values=values)
    flags.DEFINE_string("picture", "", "Draw time and memory to this PNG.", flag_values=values)


def cases(values: flags.FlagValues) -> Iterator[Case]:
    """What the flags ask for, small sizes first.

    Raises:
      RunError: for a size or a number of devices that cannot be used.
    """
    sizes = _whole_numbers("sizes", values.sizes, 4)
    devices = _whole_numbers("devices", values.devices, 1)
    for size in sizes:
        for count in devices:
            if size % (2 * count):
                raise RunError(
                    f"--sizes={size} is not divisible by 2 views times --devices={count}"
                )
    for size in sizes:
        for loss in values.losses:
            for count in devices:
                once = ("tiles",) if count == 1 else ("ring", "rows")
                for form in once if has_sums(loss) else ("rows",):
                    yield Case(loss, count, form, size, values.dim)


def _whole_numbers(name: str, texts: Sequence[str], least: int) -> list[int]:
    if not texts:
        raise RunError(f"--{name} is empty: give one number or more")
    for text in texts:
        if not (text.isdecimal() and int(text) >= least):
            raise RunError(f"--{name}={text}: use whole numbers >= {least}")
    return sorted({int(text) for text in texts})


def has_sums(loss: str) -> bool:
    """Whether a loss, by its name, is made of sums over pairs."""
    from alphacl_jax import Rule
    from alphacl_jax.runs.objectives import make_objective
    from alphacl_jax.runs.settings import ContrastiveSettings
    from alphacl_jax.sums import rule_sums

    objective = make_objective(ContrastiveSettings(loss=loss))
    return not isinstance(objective, Rule) or rule_sums(objective, True) is not None


def prepared(case: Case) -> Call:
    """Value and gradient, compiled; a tiny problem has started the runtime."""
    import jax
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    from alphacl_jax import ring
    from alphacl_jax.training.mesh import data_mesh

    if case.form == "rows":
        ring.MOST_DEVICES = 1
    mesh = data_mesh(jax.devices()[: case.devices])
    spread = NamedSharding(mesh, P("data"))
    local = functools.partial(our_loss(case.loss), block_size="auto", axis_name="data")
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(P("data"), P("data")), out_specs=P())
    gradient = jax.jit(jax.value_and_grad(mapped, argnums=(0, 1)))

    def of_size(size: int) -> Call:
        views = jax.device_put(tuple(example_views(size, case.dim)), spread)
        compiled = gradient.lower(*views).compile()
        return lambda: jax.block_until_ready(compiled(*views))

    of_size(4 * case.devices)()
    return of_size(case.size)


def start_devices(count: int) -> None:
    """Has this process begin with so many devices of the CPU.

    XLA ends a program of which one device is more than 40 seconds ahead of another. Here they take
    what time the cores leave them.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_PATIENCE}"

    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)


def measured(case: Case, seconds: float) -> Row:
    """Seconds of each call and peak memory; in a process of its own."""
    start_devices(case.devices)
    call = prepared(case)
    started = time.perf_counter()
    peak = memory.peak_bytes(call)
    times = [time.perf_counter() - started]
    if times[0] < _LONG_SECONDS:
        # The first call also fills caches and asks for memory.
        times = benchmarking.repeat(call, seconds)
    found = benchmarking.Measurement(tuple(times), peak)
    return {**asdict(case), "seconds": found.seconds, "times": times, "peak_bytes": peak}


def measure(values: flags.FlagValues) -> dict[str, Any]:
    """The report that the flags ask for, with what --json held before.

    Raises:
      RunError: for flags or a file that cannot be used.
    """
    asked = list(cases(values))
    report: dict[str, Any] = {"unit": "seconds", **benchmarking.describe(_PACKAGES)}
    report["results"] = _kept(values.json, report, values.dim)
    print(benchmarking.heading(report), flush=True)
    known = [{k: row[k] for k in asdict(asked[0])} for row in report["results"]]
    for case in asked:
        if asdict(case) in known:
            continue
        row = benchmarking.alone(measured, case, values.seconds)
        print(_line(row), flush=True)
        report["results"].append(row)
        if values.json:
            benchmarking.write_report(values.json, report)
    report["results"].sort(key=lambda row: row["size"])
    return {**report, "laws": [asdict(law) for law in laws(report["results"])]}


def _kept(path: str, here: Row, dim: int) -> list[Row]:
    """The results in a file, of this machine with these versions, and of that dimension."""
    if not path or not Path(path).exists():
        return []
    try:
        report = json.loads(Path(path).read_text())
        kept: list[Row] = report["results"]
        for row in kept:
            Case(**{name: row[name] for name in Case.__dataclass_fields__})
            row["seconds"], row["peak_bytes"]
        alike = all(report[name] == here[name] for name in ("machine", "versions"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"--json={path} is not what this script writes: {error}; give another file"
        ) from error
    if not alike or any(row["dim"] != dim for row in kept):
        raise RunError(
            f"--json={path} holds results of another machine, other versions or another --dim, "
            "which follow other laws; give another file"
        )
    return kept


def _line(row: Row) -> str:
    peak = benchmarking.megabytes(row["peak_bytes"])
    return f"{row['size']:>9,} {row['loss']}, {row['devices']}, {row['form']}: " + (
        f"{row['seconds']:.3g} s, {peak} MB"
    )


def table(rows: Sequence[Row]) -> str:
    """All results, a loss after the other."""
    titles = ["loss", "devices", "form", "rows", "seconds", "peak, MB"]
    lines = [
        [
            row["loss"],
            str(row["devices"]),
            row["form"],
            f"{row['size']:,}",
            f"{row['seconds']:,.3f}",
            benchmarking.megabytes(row["peak_bytes"]),
        ]
        for row in sorted(rows, key=lambda r: (r["loss"], r["devices"], r["form"], r["size"]))
    ]
    return align([titles, *lines])


def run(values: flags.FlagValues) -> None:
    """Measures what is not known yet, and shows all.

    Raises:
      RunError: for flags or files that cannot be used.
    """
    report = measure(values)
    print("\n" + table(report["results"]))
    found = laws(report["results"])
    print("\n" + align([Law.TITLES, *(law.cells() for law in found)]))
    print("\n" + anchors())
    if values.json:
        benchmarking.write_report(values.json, report)
    if values.picture:
        from experiments.benchmarks.scale_picture import draw  # matplotlib takes its time

        draw(report, values.picture)
        print(f"picture: {values.picture}")


if __name__ == "__main__":
    from alphacl_jax.cli.start import (
        run_main,  # here, as its imports would slow each process measured
    )

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
