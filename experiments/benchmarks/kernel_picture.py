"""The picture of the kernel benchmark: time and memory against the number of anchors."""

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from alphacl_jax.errors import RunError
from alphacl_jax.files import write_png_atomically

_PEER_NAMES = {
    "lightly": "lightly NTXentLoss",
    "metric_learning": "pytorch-metric-learning NTXentLoss",
    "torch_nt_xent": "PyTorch, F.cross_entropy",
    "torch_alpha_direct": "PyTorch, α-CL-direct",
}
_REFERENCE_COLOUR = "0.55"


def draw(report: Mapping[str, Any], path: str) -> None:
    """Draws a report of `experiments.benchmarks.kernels` to a PNG file.

    Raises:
      RunError: where the file cannot be written.
    """
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in report["results"]:
        if "seconds" in row:
            lines.setdefault(row["entry"], []).append(row)
    styles = _styles(lines)
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for name, rows in lines.items():
        sizes = [row["size"] for row in rows]
        time.plot(sizes, [1e3 * row["seconds"] for row in rows], **styles[name])
        if all(row["peak_bytes"] is not None for row in rows):
            memory.plot(sizes, [max(row["peak_bytes"] / 1e6, 0.1) for row in rows], **styles[name])
    ticks = sorted({row["size"] for row in report["results"]})
    _finish(time, ticks, "time of value and gradient, ms")
    _finish(memory, ticks, "peak memory above the inputs, MB")
    figure.legend(*time.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    machine = report["machine"]
    figure.suptitle(
        f"Contrastive kernels, float32, d = {report['dim']}, {machine['cores']} cores of "
        f"{machine['cpu']}",
        fontsize="medium",
    )
    try:
        write_png_atomically(path, figure)
    except OSError as error:
        raise RunError(f"--plot={path} cannot be written: {error}") from error


def _styles(lines: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """A colour per loss of ours and per peer; blocks solid, dense dashed, peers dotted."""
    colours = iter(matplotlib.color_sequences["tab10"])
    ours: dict[str, Any] = {}
    styles = {}
    for name, rows in lines.items():
        side, objective, form = (rows[0][key] for key in ("side", "objective", "form"))
        style: dict[str, Any]
        if side == "reference":
            style = {"color": _REFERENCE_COLOUR, "marker": "x", "linestyle": "-"}
            label = "the three dense products alone"
        elif side == "ours":
            if objective not in ours:
                ours[objective] = next(colours)
            dense = form == "dense"
            style = {"color": ours[objective], "linestyle": "--" if dense else "-"}
            style |= {"marker": "o", "markerfacecolor": "white" if dense else ours[objective]}
            style |= {"linewidth": 1.5 if dense else 2.2}
            label = f"ours, {objective}, {'dense' if dense else f'block_size={form}'}"
        else:
            style = {"color": next(colours), "marker": "s", "linestyle": ":"}
            label = _PEER_NAMES.get(name, name)
        styles[name] = {"markersize": 5, "label": label, **style}
    return styles


def _finish(axes: Axes, ticks: list[int], title: str) -> None:
    finish_log_log(axes, "anchors, 2n", title)
    axes.xaxis.set_major_locator(FixedLocator(ticks))


def finish_log_log(axes: Axes, xlabel: str, title: str) -> None:
    """Logarithmic axes with numbers written out."""
    axes.set(xscale="log", yscale="log", xlabel=xlabel, title=title)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
