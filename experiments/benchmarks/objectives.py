"""Losses with labels beside their peers: the same numbers, and the time they take.

    pip install -e '.[bench]'
    python -m experiments.benchmarks.objectives
    python -m experiments.benchmarks.objectives --time --json=objectives.json

The first compares value and gradient of each loss with pytorch-metric-learning's or lightly's in
float64, and says how their conventions differ. With --time, value and gradient of supcon_loss in
float32, dense and in blocks, take turns with pytorch-metric-learning's SupConLoss on the same
embeddings; forms that would not fit --memory_limit_gb are skipped.
"""

import functools
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.tables import align
from experiments.benchmarks import benchmarking
from experiments.benchmarks.benchmarking import Call

_PACKAGES = ("jax", "jaxlib", "numpy", "torch", "lightly", "pytorch-metric-learning")
_CLASSES, _TAU = 10, 0.1
_PEER = "SupConLoss"
# Memory of one call in units of 4·size² bytes, measured at size 2048; it says what to skip.
_SQUARES = {"dense": 3.7, "auto": 0.0, _PEER: 12.5}

Row = dict[str, Any]


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    flags.DEFINE_boolean("time", False, "Also measure time and memory.", flag_values=values)
    flags.DEFINE_list("sizes", ["512", "2048", "8192"], "Embeddings.", flag_values=values)
    flags.DEFINE_integer("dim", 128, "Of the embeddings.", lower_bound=1, flag_values=values)
    flags.DEFINE_float(
        "memory_limit_gb", 6.0, "Forms that need more are skipped.", 0, flag_values=values
    )
    flags.DEFINE_integer("rounds", 5, "Turns of each competitor.", 1, flag_values=values)
    flags.DEFINE_float("seconds", 2.0, "Timed per competitor and size.", 0, flag_values=values)
    flags.DEFINE_string("json", "", "Write the results to this file.", flag_values=values)


def compared() -> list[Row]:
    """Each loss, its peer, the conventions, and the differences of value and gradient."""
    from experiments.benchmarks.objective_peers import comparisons  # torch and JAX take their time

    rows = []
    for each in comparisons():
        row: Row = {"loss": each.loss, "peer": each.peer, "convention": each.convention}
        found = each.differences()
        rows.append(row | ({} if found is None else {"value": found[0], "gradient": found[1]}))
    return rows


def agreement_table(rows: Sequence[Row]) -> str:
    """The differences, and below each loss what was done to the peer's to get there."""
    cells = [["loss", "peer", "value", "gradient"]]
    cells += [
        [r["loss"], r["peer"], *(f"{r[k]:.0e}" if k in r else "" for k in ("value", "gradient"))]
        for r in rows
    ]
    title, *lines = align(cells).split("\n")
    wrap = functools.partial(textwrap.wrap, width=96, initial_indent="  ", subsequent_indent="  ")
    told = [[line, *wrap(r["convention"])] for line, r in zip(lines, rows, strict=True)]
    return "\n".join([title, *(part for lines in told for part in lines)])


def example(size: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 `[size, dim]` on the unit sphere, and labels of ten classes."""
    rng = np.random.default_rng(size)
    z = rng.normal(size=(size, dim))
    labels = rng.integers(0, _CLASSES, size)
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32), labels


def make_ours(block_size: str | None, size: int, dim: int) -> Call:
    """Value and gradient of supcon_loss, compiled; a tiny problem has started the runtime."""
    import jax

    from alphacl_jax import objectives

    loss = functools.partial(objectives.supcon_loss, temperature=_TAU, block_size=block_size)
    gradient = jax.jit(jax.value_and_grad(loss))

    def prepared(size: int) -> Call:
        arrays = jax.tree.map(jax.numpy.asarray, example(size, dim))
        compiled = gradient.lower(*arrays).compile()
        return lambda: jax.block_until_ready(compiled(*arrays))

    prepared(8)()
    return prepared(size)


def make_peer(size: int, dim: int) -> Call:
    """Value and gradient of pytorch-metric-learning's SupConLoss, on all cores."""
    import torch
    from pytorch_metric_learning.losses import SupConLoss

    torch.set_num_threads(benchmarking.usable_cores())
    loss = SupConLoss(temperature=_TAU)

    def prepared(size: int) -> Call:
        z, labels = (torch.from_numpy(array) for array in example(size, dim))
        z.requires_grad_()

        def call() -> Any:
            value = loss(z, labels)
            return value.detach(), torch.autograd.grad(value, z)

        return call

    prepared(8)()
    return prepared(size)


def timed(values: flags.FlagValues) -> list[Row]:
    """Seconds and peak memory of each competitor at each size; prints each size as it is there."""
    makers: dict[str, Callable[[int, int], Call]] = {
        "dense": functools.partial(make_ours, None),
        "auto": functools.partial(make_ours, "auto"),
        _PEER: make_peer,
    }
    rows: list[Row] = []
    for size in _whole_numbers(values.sizes):
        needs = {form: 4.0 * _SQUARES[form] * size**2 for form in makers}
        fit = {f: m for f, m in makers.items() if needs[f] <= 1e9 * values.memory_limit_gb}
        measured = benchmarking.measure_in_turn(
            {form: functools.partial(make, size, values.dim) for form, make in fit.items()},
            rounds=values.rounds,
            seconds=values.seconds,
        )
        found: list[Row] = [
            {"size": size, "form": form, "seconds": m.seconds, "peak_bytes": m.peak_bytes}
            for form, m in measured.items()
        ]
        found += [
            {"size": size, "form": form, "needs_bytes": needs[form]}
            for form in makers
            if form not in fit
        ]
        print("\n" + time_table(found), flush=True)
        rows += found
    return rows


def _whole_numbers(texts: Sequence[str]) -> list[int]:
    for text in texts:
        if not (text.isdecimal() and int(text) >= 2):
            raise RunError(f"--sizes={text}: use whole numbers >= 2")
    return sorted({int(text) for text in texts})


def time_table(rows: Sequence[Row]) -> str:
    """One size: time, and how often ours in blocks fits into it, and memory."""
    ours = next(row["seconds"] for row in rows if row["form"] == "auto")
    cells = [[f"{rows[0]['size']:,} embeddings", "ms", "/ auto", "peak, MB"]]
    for row in rows:
        name = row["form"] if row["form"] == _PEER else f"supcon_loss, {row['form']}"
        if "seconds" not in row:
            cells.append([name, f"skipped (needs ~{row['needs_bytes'] / 1e9:,.0f} GB)", "", ""])
            continue
        ms, ratio = f"{1e3 * row['seconds']:,.1f}", f"{row['seconds'] / ours:.2f}"
        cells.append([name, ms, ratio, benchmarking.megabytes(row["peak_bytes"])])
    return align(cells)


def run(values: flags.FlagValues) -> None:
    """Compares and, where asked, measures.

    Raises:
      RunError: for flags or packages that cannot be used.
    """
    _whole_numbers(values.sizes)
    benchmarking.require_installed(["torch", "lightly", "pytorch-metric-learning"], otherwise="")
    report: dict[str, Any] = benchmarking.describe(_PACKAGES)
    print(benchmarking.heading(report), flush=True)
    report["agreement"] = benchmarking.alone(compared)
    print(agreement_table(report["agreement"]), flush=True)
    if values.time:
        report |= {"unit": "seconds", "dim": values.dim, "times": timed(values)}
    if values.json:
        benchmarking.write_report(values.json, report)


if __name__ == "__main__":
    from alphacl_jax.cli.start import (
        run_main,  # here, as its imports would slow each process measured
    )

    define_flags()
    run_main(lambda argv: run(flags.FLAGS), __doc__)
