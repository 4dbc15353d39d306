"""The pictures of `experiments.theory.linear_networks`."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alphacl_jax.evaluation.pictures import COLOURS, MARKERS
from experiments.theory.legends import add_legend


def draw_spectra(spectra: Mapping[str, np.ndarray]) -> Figure:
    """The eigenvalues of each X_α, largest first."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    ax = figure.subplots()
    for (name, values), colour, marker in zip(spectra.items(), COLOURS[::2], "os", strict=False):
        ax.plot(1 + np.arange(len(values)), values, marker=marker, color=colour, label=name)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="eigenvalue number", ylabel="eigenvalue", title=r"Eigenspectrum of $X_\alpha$")
    ax.grid(alpha=0.3)
    add_legend(ax, frameon=False)
    return figure


def draw_objectives(
    shallow: Mapping[str, Mapping[str, np.ndarray]],
    own_size: Mapping[str, Any],
    constant: Mapping[str, Any],
) -> Figure:
    """Distance of the energy from its maximum over the steps; a row per X_α.

    Args:
      shallow: X_α → k → maximum minus energy, `[seeds, steps + 1]`.
      own_size: network → its `Deep`, with steps of each layer's own size.
      constant: the same with a constant step size.
    """
    figure = Figure(figsize=(12.5, 3.5 * len(shallow)), layout="constrained")
    grid = figure.subplots(len(shallow), 3, squeeze=False)
    for row, (name, by_k) in zip(grid, shallow.items(), strict=True):
        for (label, gaps), colour in zip(by_k.items(), COLOURS, strict=False):
            _band(row[0], gaps, colour, label)
        row[0].set(
            yscale="log",
            xlabel="step",
            ylabel=r"$\sum_{i \leq k} \lambda_i - E_\alpha$",
            title=f"Corollary 2, {name}",
        )
        row[0].set_ylim(1e-9, None)
        row[0].set_xlim(0, _settled(by_k.values()))
        columns = (
            (row[1], own_size, "steps of each layer's own size"),
            (row[2], constant, "constant step size"),
        )
        for ax, found, kind in columns:
            deep = {k.split(", ")[1]: v for k, v in found.items() if k.startswith(name)}
            for (label, d), colour in zip(deep.items(), COLOURS, strict=False):
                _band(ax, d.energies, colour, label)
            ax.axhline(1, color="black", linewidth=0.8, linestyle=":")
            ax.set(
                xscale="log",
                xlabel="step",
                ylabel=r"$E_\alpha / \lambda_{\max}$",
                title=f"Theorem 3, {name}\n{kind}",
            )
            ax.set_ylim(-0.15, 1.08)
        for ax in row:
            ax.grid(alpha=0.3)
            add_legend(ax, frameon=False, fontsize=8)
    figure.suptitle("Objective over time: median and range from 5 to 95 % of the starts")
    return figure


def _settled(gaps: Any) -> int:
    """The step by which all medians are below what the axis shows."""
    late = [np.flatnonzero(np.median(g, axis=0) > 1e-9) for g in gaps]
    return max([20, *(int(1.1 * step[-1]) for step in late if len(step))])


def _band(ax: Axes, curves: np.ndarray, colour: str, label: str) -> None:
    low, middle, high = np.quantile(curves, (0.05, 0.5, 0.95), axis=0)
    steps = np.arange(curves.shape[1])
    ax.plot(steps, middle, color=colour, label=label)
    ax.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)


def draw_layers(name: str, theorem: Any, filters: Any) -> Figure:
    """What the layers of one deep network are in the end: their ranks and hidden directions."""
    figure = Figure(figsize=(12.5, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    looks = zip(theorem.spectra, itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False)
    for number, (sigma, colour, marker) in enumerate(looks, 1):
        arrived = sigma[theorem.arrived] if theorem.arrived.any() else np.full_like(sigma, np.nan)
        values = np.maximum(np.median(arrived, axis=0), 1e-16)
        # Hollow and of growing size, so that equal values stand around each other.
        left.plot(
            1 + np.arange(len(values)), values, marker + "-", color=colour, mfc="none",
            label=f"$W_{number}$", ms=3 + 1.5 * number, linewidth=1,
        )  # fmt: skip
    left.set(yscale="log", xlabel="singular value number", ylabel="median over starts")
    left.set_title("Theorem 3: every layer has rank one")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(left, frameon=False, fontsize=8, ncols=2)
    depth = theorem.misalignments.shape[1]
    labels = [r"$v_1, v_0$", *(rf"$v_{i + 1}, u_{i}$" for i in range(1, depth))]
    aligned = np.maximum(theorem.misalignments[theorem.arrived], 1e-16)
    for start in aligned:
        middle.plot(range(depth), start, ".", color=COLOURS[0], alpha=0.4)
    middle.set(yscale="log", ylabel="1 − |cosine|", xlabel="singular vectors of neighbours")
    middle.set_ylim(3e-17, 1.0)
    middle.set_xticks(range(depth), labels, fontsize=8)
    middle.set_title("Theorem 3: neighbouring layers are aligned")
    limit = 1.05 * max(np.abs(theorem.directions).max(), 1.5)
    bins = np.linspace(-limit, limit, 61)
    for deep, label, colour in (
        (theorem, "layers of norm 1 (Theorem 3)", COLOURS[0]),
        (filters, "filters of one length (Corollary 3)", COLOURS[1]),
    ):
        entries = deep.directions[deep.arrived].ravel()
        if entries.size:
            right.hist(entries, bins, color=colour, alpha=0.75, label=label)
    right.set(xlabel=r"$\sqrt{n_1}\,[v_1]_k$", ylabel="hidden units, all starts")
    right.set_title("Hidden direction of the first layer")
    add_legend(right, frameon=False, fontsize=8)
    for ax in (left, middle, right):
        ax.grid(alpha=0.3)
    figure.suptitle(f"{name}, starts that arrived")
    return figure
