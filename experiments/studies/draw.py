"""Pictures of studies: lines over what is varied, bars of rows, a matrix of cells."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alphacl_jax.evaluation.pictures import COLOURS, MARKERS
from experiments.studies.report import Column, Rows, mean_and_spread, values_of

Point = tuple[float, np.ndarray]
# Of a title, which lies over the middle of the axes and not of the figure.
_LETTERS_PER_INCH = 8
_NEAR = 1.2  # a ratio of ticks
Course = tuple[Sequence[float], Sequence[float]]


def lines(
    curves: Mapping[str, Sequence[Point]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    factor: float = 1.0,
    log_x: bool = False,
) -> Figure:
    """A figure's mean over seeds against what is varied, with bars of a standard deviation.

    Args:
      curves: name → points (x, values over seeds).
      title, xlabel, ylabel: texts.
      factor: what is drawn is this times the values.
      log_x: whether x is on a log scale, to base 2, with a tick at each x that has room for one.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax = figure.subplots()
    for number, (name, points) in enumerate(curves.items()):
        known = [(x, mean_and_spread(factor * v)) for x, v in points if len(v)]
        x = [point[0] for point in known]
        mean, spread = (np.array([point[1][i] for point in known]) for i in (0, 1))
        ax.errorbar(x, mean, spread, color=COLOURS[number % 10], marker=MARKERS[number % 10],
                    markersize=5, capsize=3, linewidth=1.3, label=name)  # fmt: skip
    if log_x:
        ax.set_xscale("log", base=2)
        ticks = _apart(sorted({x for points in curves.values() for x, _ in points}))
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
        ax.minorticks_off()
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.grid(alpha=0.3)
    if len(curves) > 1:
        ax.legend(fontsize="small")
    return figure


def _apart(values: Sequence[float]) -> list[float]:
    """Those of ascending values whose labels do not overlap on a log scale."""
    kept: list[float] = []
    for value in values:
        if not kept or value > _NEAR * kept[-1]:
            kept.append(value)
    return kept


def courses(
    curves: Mapping[str, Sequence[Course]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    scale: str = "linear",
) -> Figure:
    """A figure of what was recorded over the steps, a line for each seed.

    Args:
      curves: name → (steps, values) of each seed, which may end at different steps.
      title, xlabel, ylabel: texts.
      scale: of y, as matplotlib calls it.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    ax = figure.subplots()
    for number, (name, seeds) in enumerate(curves.items()):
        for index, (x, y) in enumerate(seeds):
            label = None if index else name
            ax.plot(x, y, color=COLOURS[number % 10], linewidth=1.3, label=label)
    ax.set_yscale(scale)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # a step is whole
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small")
    return figure


def bars(rows: Rows, column: Column, *, title: str, xlabel: str) -> Figure:
    """A column of a table as horizontal bars, with a standard deviation over seeds."""
    named = {name: column.factor * values_of(cells, column.key) for name, cells in rows.items()}
    named = {name: values for name, values in named.items() if len(values)}
    figure = Figure(figsize=(7.0, 0.8 + 0.34 * len(named)), layout="constrained")
    ax = figure.subplots()
    found = [mean_and_spread(values) for values in named.values()]
    ax.barh(
        list(named),
        [mean for mean, _ in found],
        xerr=[spread for _, spread in found],
        color=COLOURS[0],
        capsize=3,
    )
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, title=title)
    ax.grid(alpha=0.3, axis="x")
    return figure


def matrix(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    digits: int = 1,
) -> Figure:
    """Numbers in a grid of colours; NaN is left white.

    Args:
      values: `[rows, columns]`.
      rows, columns: their names.
      title, xlabel, ylabel: texts.
      digits: after the point.
    """
    size = (2.2 + 0.75 * len(columns), 1.6 + 0.5 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(values, cmap="viridis", aspect="auto")
    figure.colorbar(image, ax=ax)
    middle = np.nanmean([np.nanmin(values), np.nanmax(values)])
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value < middle else "black"
            ax.text(j, i, f"{value:.{digits}f}", ha="center", va="center", color=colour, size=8)
    ax.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), rows)
    wrapped = textwrap.fill(title, int(_LETTERS_PER_INCH * size[0]))
    ax.set(xlabel=xlabel, ylabel=ylabel, title=wrapped)
    return figure


def grouped_bars(
    rows: Rows,
    groups: Mapping[str, str],
    levels: Mapping[str, float],
    *,
    title: str,
    ylabel: str,
    level: str,
    factor: float = 1.0,
) -> Figure:
    """Several figures of several rows: a group of bars for each figure, with a line across it.

    Args:
      rows: a bar in each group for every row, with a standard deviation over seeds where there
        are several.
      groups: key of a figure → what its group is called.
      levels: key of a figure → where the line of its group is.
      title, ylabel: texts.
      level: what the lines are called.
      factor: what is drawn is this times the figures.
    """
    figure = Figure(figsize=(1.6 + 1.5 * len(groups), 4.2), layout="constrained")
    ax = figure.subplots()
    places, width = np.arange(len(groups)), 0.8 / len(rows)
    for number, (name, cells) in enumerate(rows.items()):
        found = [factor * values_of(cells, key) for key in groups]
        mean = [v.mean() if len(v) else np.nan for v in found]
        spread = [mean_and_spread(v)[1] if len(v) > 1 else np.nan for v in found]
        shift = (number - (len(rows) - 1) / 2) * width
        ax.bar(places + shift, mean, width, yerr=spread, color=COLOURS[number % 10], capsize=3,
               label=name)  # fmt: skip
    heights = [factor * levels[key] for key in groups]
    ax.hlines(heights, places - 0.45, places + 0.45, "black", "dashed", label=level)
    ax.set_xticks(places, list(groups.values()))
    ax.set(ylabel=ylabel, title=title)
    ax.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure
