"""The pictures of the local maxima experiment."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from alphacl_jax.evaluation.pictures import COLOURS, MARKERS


def sphere(found: Mapping[str, Any]) -> Figure:
    """The energy over a sphere of filters, linear beside ReLU, with patterns and maxima."""
    figure = Figure(figsize=(11.0, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, subplot_kw={"projection": "mollweide"})
    for ax, name in zip(axes, ("linear", "ReLU"), strict=True):
        of = found[name]
        mesh = ax.pcolormesh(
            found["longitude"], found["latitude"], of["energy"], cmap="viridis", shading="gouraud",
            rasterized=True,
        )  # fmt: skip
        figure.colorbar(mesh, ax=ax, shrink=0.7, label="energy $E(w)$")
        ax.plot(
            *_on_map(found["patterns"]), "o", color="white", markeredgecolor="black", markersize=12,
            linestyle="none", label="pattern",
        )  # fmt: skip
        ax.plot(
            *_on_map(of["maxima"]), "X", color=COLOURS[2], markeredgecolor="white", markersize=9,
            linestyle="none", label="local maximum",
        )  # fmt: skip
        count = of["distinct"]
        same = ", up to sign" if name == "linear" else ""
        ax.set_title(f"{name}: {count} local {'maximum' if count == 1 else 'maxima'}{same}")
        ax.set(xticklabels=[], yticklabels=[])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle("Energy of one node over all filters of norm 1; three orthonormal patterns")
    return figure


def maxima(found: Mapping[str, Any]) -> Figure:
    """For each activation, how its maxima lie to the patterns."""
    figure = Figure(figsize=(2.4 * len(found), 3.2), layout="constrained")
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for ax, (name, of) in zip(axes, found.items(), strict=True):
        cosines = np.abs(of["cosines"])
        image = ax.imshow(cosines, vmin=0, vmax=1, cmap="viridis", aspect="equal")
        rows, columns = cosines.shape
        ax.set_xticks(range(columns), [str(i + 1) for i in range(columns)])
        ax.set_yticks(range(rows), [f"{b:.0%}" for b in of["basins"]])
        ax.set(xlabel="pattern", title=name)
    axes[0].set_ylabel("local maximum: its share of starts")
    figure.colorbar(image, ax=axes, label=r"$|\cos(w_*, u_l)|$", shrink=0.7)
    figure.suptitle("Local maxima against patterns")
    return figure


def layers(found: Mapping[str, Any], num_patterns: int) -> Figure:
    """Distinct maxima that a layer finds over its number of nodes."""
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    ax = figure.subplots()
    for i, name in enumerate(("linear", "ReLU")):
        of = found[name]
        ax.errorbar(
            found["nodes"], of["mean"], yerr=of["std"], color=COLOURS[2 * i], marker=MARKERS[i],
            capsize=3, linestyle="none", label=f"{name}: found (mean ± std over layers)",
        )  # fmt: skip
        ax.plot(
            found["nodes"], of["predicted"], color=COLOURS[2 * i],
            label=f"{name}: predicted by the basins",
        )  # fmt: skip
    ax.axhline(num_patterns, color=COLOURS[3], linestyle="--", label="patterns in the data")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    ax.set(
        xlabel="nodes K of the layer",
        ylabel="distinct local maxima found",
        title="More nodes find more patterns, if they are nonlinear",
        ylim=(0, num_patterns * 1.1),
    )
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small", loc="center right")
    return figure


def _on_map(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arctan2(w[:, 1], w[:, 0]), np.arcsin(np.clip(w[:, 2], -1, 1))
