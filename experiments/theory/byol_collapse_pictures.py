"""The pictures of `experiments.theory.byol_collapse`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from alphacl_jax.evaluation.pictures import COLOURS
from alphacl_jax.theory.dual_networks.byol import ByolResult
from alphacl_jax.theory.dual_networks.contrast import ContrastHistory
from experiments.theory.legends import add_legend


def picture_of_grid(
    grid: Mapping[Any, ByolResult], collapsed_below: float, best_probe: float
) -> Figure:
    """Variance and probe of every combination, a dot for each seed."""
    names = [str(c) for c in grid]
    rows = np.arange(len(names))
    figure = Figure(figsize=(11.0, 0.28 * len(names) + 1.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for row, result in zip(rows, grid.values(), strict=True):
        collapsed = result.variance.mean() < collapsed_below
        colour = COLOURS[2] if collapsed else COLOURS[0]
        left.barh(row, result.variance.mean(), color=colour, alpha=0.6)
        left.plot(result.variance, np.full_like(result.variance, row), ".", color="black", ms=3)
        right.barh(row, result.probe.mean(), color=colour, alpha=0.6)
        right.plot(result.probe, np.full_like(result.probe, row), ".", color="black", ms=3)
    left.axvline(collapsed_below, color=COLOURS[8], linestyle="--", linewidth=1)
    left.set(title="variance of unit embeddings (red: collapsed)", xlim=(0, 1))
    left.set_yticks(rows, names, fontsize="small")
    left.set_ylim(len(names) - 0.4, -0.6)
    right.axvline(best_probe, color=COLOURS[8], linestyle="--", linewidth=1)
    right.set(title="probe of the root (dashed: exact posterior)", xlim=(0.45, 1))
    for ax in (left, right):
        ax.grid(axis="x", alpha=0.3)
    return figure


def picture_of_contrast(history: ContrastHistory, steps: int) -> Figure:
    """Cosines of the implicit contrast with the covariance operator, over training."""
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    times = np.arange(history.half.shape[1]) * steps // history.half.shape[1]
    mark = "." if len(times) == 1 else None  # a line of one point would not be seen
    for colour, values, label in (
        (COLOURS[0], history.half, "P = ½I, mean removed; uniform α"),
        (COLOURS[3], history.half_with_mean, "P = ½I, mean kept; uniform α"),
        (COLOURS[1], history.uniform, "learned P, mean removed; uniform α"),
        (COLOURS[2], history.info_nce, "learned P, mean removed; InfoNCE's α"),
    ):
        left.plot(times, values.mean(axis=0), marker=mark, color=colour, label=label)
        left.fill_between(times, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15)
    left.set(
        title="Implicit contrast and the covariance operator",
        xlabel="training step",
        ylabel="cosine",
        ylim=(-1.05, 1.05),
    )
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18)}
    add_legend(left, fontsize="small", ncols=2, **place)
    for values in history.variance:
        right.plot(times, values, marker=mark, color=COLOURS[0], linewidth=1)
    right.set(title="Variance of the outputs, by seed", xlabel="training step", ylabel="tr V[f]")
    right.set_yscale("log")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    return figure
