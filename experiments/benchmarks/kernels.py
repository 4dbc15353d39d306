"""Kernels beside their peers: time and peak memory of value and gradient, by size.

    pip install -e '.[bench]'
    python -m experiments.benchmarks.kernels --json=kernels.json --plot=kernels.png

Float32, the both-views layout, so that 2n anchors meet 2n candidates. Against each other stand the
three matrix products that a dense kernel cannot do without (a Gram matrix, and two products of its
size with the embeddings), our losses dense and in blocks, and on the same embeddings the NT-Xent
losses of lightly and pytorch-metric-learning, NT-Xent by F.cross_entropy, and α-CL-direct in
PyTorch. All are first checked to give the same value and gradient on a small problem.

Memory is what the process holds at most during one call, above what it held before: inputs are not
in it, the gradient is. Dense forms that would not fit --memory_limit_gb are skipped. The picture
can be drawn again without measuring: --from_json=kernels.json --plot=kernels.png

The peers work on the CPU. Both sides on one accelerator: experiments/benchmarks/accelerator.sh
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.runs.settings import LOSSES
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking
from experiments.benchmarks.benchmarking import Aim
from experiments.benchmarks.kernel_entries import PEERS, PRODUCTS, Entry, check_peer, entries

_PACKAGES = ("jax", "jaxlib", "numpy", "torch", "lightly", "pytorch-metric-learning")
_AIM_SIZES = 512, 4096, 8192, 65536

Row = dict[str, Any]


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""

    def whole_numbers(name: str, default: list[str], text: str) -> None:
        flags.DEFINE_list(name, default, text, flag_values=values)

    whole_numbers("sizes", list(map(str, _AIM_SIZES)), "Anchors, 2n; even.")
    flags.DEFINE_integer("dim", 128, "Of the embeddings.", lower_bound=1, flag_values=values)
    flags.DEFINE_multi_enum(
        "objectives",
        ["alpha_direct", "info_nce"],
        LOSSES,
        "Our losses; repeat the flag for several.",
        flag_values=values,
    )
    whole_numbers("block_sizes", ["auto"], "Of ours, beside dense: numbers, or auto.")
    flags.DEFINE_list(
        "peers", list(PEERS), f"Of {', '.join(PEERS)}; empty for none.", flag_values=values
    )
    flags.DEFINE_float(
        "memory_limit_gb", 6.0, "Dense forms that need more are skipped.", 0, flag_values=values
    )
    flags.DEFINE_integer("rounds", 5, "Turns of each competitor.", 1, flag_values=values)
    flags.DEFINE_float("seconds", 2.0, "Timed per competitor and size.", 0, flag_values=values)
    flags.DEFINE_string("json", "", "Write the results to this file.", flag_values=values)
    flags.DEFINE_string("plot", "", "Draw time and memory to this PNG file.", flag_values=values)
    flags.DEFINE_string(
        "from_json", "", "Show the results in this file, and measure nothing.", flag_values=values
    )


def measure(values: flags.FlagValues) -> dict[str, Any]:
    """The report that the flags ask for; prints each size as it is measured."""
    sizes = _whole_numbers(values)
    competitors = list(entries(values.objectives, values.block_sizes, values.peers))
    benchmarking.require_installed([PEERS[peer][0] for peer in values.peers])
    report: dict[str, Any] = {"unit": "seconds", "dim": values.dim}
    report |= benchmarking.describe(_PACKAGES)
    print(benchmarking.heading(report), flush=True)
    for peer in values.peers:
        benchmarking.alone(check_peer, peer)
    rows: list[Row] = []
    for size in sizes:
        found = _measure_size(size, competitors, values)
        print(table(found), flush=True)
        rows += found
    return {**report, "results": rows, "aims": [aim.as_json() for aim in aims(rows)]}


def _whole_numbers(values: flags.FlagValues) -> list[int]:
    """The sizes, smallest first."""
    for text in values.sizes:
        if not (text.isdecimal() and int(text) >= 4 and int(text) % 2 == 0):
            raise RunError(f"--sizes={text}: use even numbers >= 4, as there are two views")
    return sorted({int(text) for text in values.sizes})


def _measure_size(size: int, competitors: Sequence[Entry], values: flags.FlagValues) -> list[Row]:
    limit = 1e9 * values.memory_limit_gb
    measured = benchmarking.measure_in_turn(
        {
            entry.name: functools.partial(entry.make, size, values.dim)
            for entry in competitors
            if entry.needs_bytes(size) <= limit
        },
        rounds=values.rounds,
        seconds=values.seconds,
    )
    rows = []
    for entry in competitors:
        row: Row = {"size": size, "entry": entry.name, "side": entry.side}
        row |= {"objective": entry.objective, "form": entry.form}
        if entry.name in measured:
            result = measured[entry.name]
            row |= {"seconds": result.seconds, "times": result.times}
            row |= {"peak_bytes": result.peak_bytes}
        else:
            row |= {"skipped": True, "needs_bytes": entry.needs_bytes(size)}
        rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> str:
    """One size: time, its ratio to the products' and to ours in blocks, and memory."""
    titles = [f"2n = {rows[0]['size']:,}", "ms", "/ products", "/ ours", "peak, MB"]
    products = _seconds(rows, PRODUCTS)
    lines = []
    for row in rows:
        if "skipped" in row:
            lines.append([row["entry"], f"skipped (needs ~{row['needs_bytes'] / 1e9:,.0f} GB)"])
            lines[-1] += ["", "", ""]
            continue
        ours = _first_blocked(rows, row["objective"])
        lines.append(
            [
                row["entry"],
                f"{1e3 * row['seconds']:,.1f}",
                f"{row['seconds'] / products:.2f}" if products else "",
                f"{row['seconds'] / ours:.2f}" if ours else "",
                benchmarking.megabytes(row["peak_bytes"]),
            ]
        )
    return "\n" + align([titles, *lines])


def _seconds(rows: Sequence[Row], entry: str) -> float | None:
    return next((row.get("seconds") for row in rows if row["entry"] == entry), None)


def _first_blocked(rows: Sequence[Row], objective: str) -> float | None:
    """Seconds of the first of our blocked forms of a loss."""
    blocked = (r for r in rows if r["side"] == "ours" and r["form"] != "dense")
    return next((row["seconds"] for row in blocked if row["objective"] == objective), None)


def aims(rows: Sequence[Row]) -> list[Aim]:
    """What the library aims at, for the sizes that were measured."""
    at = {size: [row for row in rows if row["size"] == size] for size in _AIM_SIZES}
    small, medium, large, largest = _AIM_SIZES
    found = []
    for objective in dict.fromkeys(row["objective"] for row in rows if row["side"] == "ours"):
        ours = {size: _first_blocked(at[size], objective) for size in _AIM_SIZES}
        dense = _seconds(at[small], f"ours, {objective}, dense")
        products, lightly = (_seconds(at[medium], name) for name in (PRODUCTS, "lightly"))
        # What, of which two figures, the aim, and whether it is a ceiling.
        ratios = (
            (f"{small:,}: blocked / dense, 5 % noise", ours[small], dense, 1.05, True),
            (f"{medium:,}: blocked / three products", ours[medium], products, 0.9, True),
            (f"{medium:,}: lightly / blocked", lightly, ours[medium], 5.0, False),
        )
        for name, above, below, limit, at_most in ratios:
            if above and below:
                name = f"{objective}, 2n = {name}"
                found.append(Aim(name, above / below, limit, at_most))
        after, before = ours[largest], ours[large]
        if after and before:
            name = f"{objective}, 2n = {largest:,}: time / square law of {large:,}"
            found.append(Aim(name, after / before / (largest / large) ** 2, 1.3))
    for row in at[largest]:
        if row["side"] == "ours" and row.get("peak_bytes") is not None:
            found.append(
                Aim(f"{row['entry']}, 2n = {largest:,}: peak GB", row["peak_bytes"] / 1e9, 1.0)
            )
    return found


def run(values: flags.FlagValues) -> None:
    """Measures, or reads what was measured, and shows it.

    Raises:
      RunError: for flags, files or packages that cannot be used.
    """
    if values.from_json:
        report = _read(values.from_json)
        print(benchmarking.heading(report))
        for size in dict.fromkeys(row["size"] for row in report["results"]):
            print(table([row for row in report["results"] if row["size"] == size]))
    else:
        report = measure(values)
    print()
    for aim in aims(report["results"]):
        print(aim)
    if values.json:
        benchmarking.write_report(values.json, report)
    if values.plot:
        from experiments.benchmarks.kernel_picture import draw  # matplotlib takes its time

        draw(report, values.plot)
        print(f"picture: {values.plot}")


def _read(path: str) -> Mapping[str, Any]:
    try:
        report: Mapping[str, Any] = json.loads(Path(path).read_text())
        if not report["results"]:
            raise ValueError("it holds no results")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"--from_json={path} is not what --json writes: {error}") from error
    return report


if __name__ == "__main__":
    from alphacl_jax.cli.start import (
        run_main,  # here, as its imports would slow each process measured
    )

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
