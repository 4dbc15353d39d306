"""The tables of the benchmark of an accelerator: what was measured, and what was not and why."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alphacl_jax.tables import align
from experiments.benchmarks.benchmarking import megabytes
from experiments.benchmarks.kernel_entries import PEERS, peer_scale

Part = Mapping[str, Any]
_STEP = ("step", "model", "augmentation", "loss", "optimiser", "data")
_PROBLEM = "not measured"


def tables(parts: Sequence[Part], sizes: Sequence[int]) -> str:
    """All that was measured; a part that was not has its reason in the last column."""
    of_kind = {
        kind: [part for part in parts if part["kind"] == kind]
        for kind in ("kernel", "training", "run")
    }
    found = [_kernels(of_kind["kernel"], sizes), *_agreement(of_kind["kernel"])]
    found += [_training(of_kind["training"]), _runs(of_kind["run"])]
    return "\n\n".join(found)


def _kernels(parts: Sequence[Part], sizes: Sequence[int]) -> str:
    titles = ["value and gradient, ms (peak MB)", *(f"2n = {size:,}" for size in sizes), _PROBLEM]
    lines = []
    for part in parts:
        cells = [f"{1e3 * r['seconds']:,.2f} ({megabytes(r['peak_bytes'])})" for r in part["rows"]]
        problem = part["problem"]
        if problem and cells:
            problem = f"from {sizes[len(cells)]:,} on: {problem}"
        lines.append([part["name"], *cells, *[""] * (len(sizes) - len(cells)), problem])
    return align([titles, *lines])


def _agreement(parts: Sequence[Part]) -> list[str]:
    """One line that says how far the losses' values are from those of our dense forms."""
    apart = list(_differences(parts))
    if not apart:
        return []
    name, largest = max(apart, key=lambda pair: math.inf if math.isnan(pair[1]) else pair[1])
    return [f"values of the losses: at most {largest:.1e} (relative) from ours, dense: {name}"]


def _differences(parts: Sequence[Part]) -> Iterator[tuple[str, float]]:
    values = {part["name"]: {r["size"]: r["value"] for r in part["rows"]} for part in parts}
    for part in parts:
        name = part["name"]
        peer = PEERS.get(name)
        objective = peer[1] if peer else name.removeprefix("ours, ").partition(",")[0]
        reference = values.get(f"ours, {objective}, dense", {})
        if reference is values[name]:
            continue
        scale = peer_scale(objective) if peer else 1.0
        for size in reference.keys() & values[name].keys():
            wanted = scale * reference[size]
            yield name, abs(values[name][size] - wanted) / abs(wanted)


def _training(parts: Sequence[Part]) -> str:
    titles = ["training", "images/s", "peak MB", "model's share", *(f"{p}, ms" for p in _STEP)]
    lines = []
    for part in parts:
        row: dict[str, Any] = {}
        for found in part["rows"]:
            row |= found
        of_step = row.get("milliseconds", {})
        lines.append(
            [
                part["name"],
                f"{row['images_per_second']:,.0f}" if row else "",
                megabytes(row["peak_bytes"]) if row else "",
                f"{row['model_share']:.0%}" if of_step else "",
                *(f"{of_step[p]:.2f}" if of_step else "" for p in _STEP),
                part["problem"],
            ]
        )
    return align([[*titles, _PROBLEM], *lines])


def _runs(parts: Sequence[Part]) -> str:
    titles = ["run", "epochs", "seconds", "images/s", "loss", "kNN, %", "linear, %", _PROBLEM]
    lines = []
    for part in parts:
        cells = [""] * 6
        for row in part["rows"]:
            cells = [
                f"{row['epoch']:.1f}",
                f"{row['seconds']:.0f}",
                f"{row['images_per_second']:,.0f}",
                f"{row['loss']:.4f}",
                *(_percent(row[name]) for name in ("knn", "linear")),
            ]
        lines.append([part["name"], *cells, part["problem"]])
    return align([titles, *lines])


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.1f}"
