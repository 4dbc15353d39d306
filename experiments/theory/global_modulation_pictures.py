"""The pictures of the global modulation experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from alphacl_jax.evaluation.pictures import COLOURS, MARKERS
from experiments.theory.legends import add_legend


def draw_trajectories(found: Mapping[str, Any]) -> Figure:
    """Filters against what tells z apart, and λ, over time: flow as lines, network as points."""
    times = np.asarray(found["times"])
    flow, network = (np.asarray(found[f"cosines of the {name}"]) for name in ("flow", "network"))
    shown = np.unique(np.linspace(0, len(times) - 1, 20).astype(int))
    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k in range(min(4, flow.shape[1])):
        colour = COLOURS[k]
        left.plot(times, flow[:, k], color=colour, label=f"field {k + 1}")
        left.plot(times[shown], network[shown, k], MARKERS[k], color=colour, markersize=5)
    left.set(
        xlabel="time",
        ylabel=r"$|\cos(w_k,\ E[x_k|z{=}1] - E[x_k|z{=}0])|$",
        title="Filters turn to what tells $z$ apart",
        ylim=(0, 1.02),
    )
    add_legend(left, fontsize="small", loc="lower right")
    right.plot(times, found["energy of the flow"], color=COLOURS[0], label="dynamics (line)")
    right.plot(
        times[shown],
        np.asarray(found["energy of the network"])[shown],
        "o",
        color=COLOURS[2],
        markersize=5,
        label="network (points)",
    )
    right.set(xlabel="time", ylabel=r"$\lambda$, top eigenvalue of $V[f]$", title="Energy")
    add_legend(right, fontsize="small")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    figure.suptitle("Modulated dynamics (lines) and a ReLU network trained on samples (points)")
    return figure


def draw_samples(found: Mapping[str, Sequence[float]]) -> Figure:
    """The relative error of a network's gradient over its number of samples."""
    sizes, mean = np.asarray(found["samples"]), np.asarray(found["mean"])
    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    ax = figure.subplots()
    ax.errorbar(sizes, mean, yerr=found["std"], color=COLOURS[0], marker="o", label="network")
    guide = mean[0] * (sizes / sizes[0]) ** -0.5
    ax.plot(sizes, guide, "--", color=COLOURS[3], label=r"$\propto 1/\sqrt{N}$")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    ax.set(
        xlabel="samples N",
        ylabel="relative difference from the formula",
        title="Gradient of a network of N samples",
    )
    ax.grid(alpha=0.3)
    add_legend(ax)
    return figure


def draw_basins(found: Mapping[str, Any]) -> Figure:
    """The basin of the modulated pattern over the strength of its modulation."""
    strengths = np.asarray(found["strengths"])
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    ax = figure.subplots()
    dims = [name for name in found if name.startswith("dim ")]
    for i, name in enumerate(dims):
        colour = COLOURS[2 * i]
        ax.plot(strengths, found[name]["found"], color=colour, marker="o", label=f"{name}: found")
        closed = [(c, p) for c, p in zip(strengths, found[name]["predicted"], strict=True) if p]
        ax.plot(
            *np.asarray(closed).T, "x", color="black", markersize=9,
            label="closed form",
        )  # fmt: skip
    ax.set(
        xlabel="strength $c$ of the modulation (slope of $g$: 0.5)",
        ylabel="fraction of the sphere that flows to $u_l$",
        title="Modulation enlarges a basin (Theorem 4)",
        ylim=(0, 0.55),
    )
    ax.grid(alpha=0.3)
    add_legend(ax, loc="lower right", fontsize="small")
    return figure


def draw_gradients(found: Mapping[str, Any]) -> Figure:
    """Singular values of the gradients of one field's filters, linear beside ReLU."""
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    ax = figure.subplots()
    for i, name in enumerate(("linear", "ReLU")):
        values = np.asarray(found[name])
        relative = np.maximum(values / values[:, :1], 1e-18)
        index = np.arange(1, values.shape[1] + 1)
        for row in relative:
            ax.plot(
                index, row, color=COLOURS[2 * i], marker=MARKERS[i], linewidth=1, alpha=0.7,
                label=name,
            )  # fmt: skip
    ax.set_yscale("log")
    ax.set_xticks(index)
    ax.set(
        xlabel="index",
        ylabel="singular value, relative to the largest",
        title="Gradients of the filters of one field (a line each field)",
    )
    ax.grid(alpha=0.3)
    add_legend(ax)
    return figure
