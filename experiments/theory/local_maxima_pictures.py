"""The pictures of the local maxima experiment, and the energies that its map shows."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from alphacl_jax.evaluation.pictures import COLOURS, MARKERS
from alphacl_jax.theory.nonlinear.activations import LINEAR, RELU
from alphacl_jax.theory.nonlinear.local_maxima import find_local_maxima, node_energy
from alphacl_jax.theory.nonlinear.patterns import pattern_data
from experiments.theory.lab import progress
from experiments.theory.legends import seen

_ON_SPHERE = {"linear": LINEAR, "ReLU": RELU}


def energies_on_sphere(key: jax.Array, noise: float) -> dict[str, Any]:
    """Energies over the whole of a 2-sphere, of three orthonormal patterns, with their maxima."""
    # Turned so that they surround the middle of the map, clear of its poles.
    around = np.pi / 2 + 2 * np.pi / 3 * np.arange(3)
    side = np.sqrt(2 / 3)
    patterns = np.stack(
        [np.full(3, np.sqrt(1 / 3)), side * np.cos(around), side * np.sin(around)], axis=1
    )
    frequencies = jnp.asarray([0.40, 0.33, 0.27])
    data = pattern_data(key, jnp.asarray(patterns), frequencies, num_samples=128, noise=noise)
    longitude = np.linspace(-np.pi, np.pi, 91)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, 46)
    lon, lat = np.meshgrid(longitude, latitude)
    w = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    result: dict[str, Any] = {
        "longitude": longitude,
        "latitude": latitude,
        "patterns": patterns,
    }
    for name in progress(list(_ON_SPHERE), lambda name: f"sphere, {name}"):
        activation = _ON_SPHERE[name]
        grid = jnp.asarray(w.reshape(-1, 3))
        energies = jax.jit(jax.vmap(lambda w, a=activation: node_energy(w, data, a)))(grid)
        maxima = find_local_maxima(key, data, activation, num_starts=64)
        points = maxima.weights
        if activation.sign_symmetric:
            points = np.concatenate([points, -points])
        result[name] = {
            "energy": np.asarray(energies).reshape(lon.shape),
            "maxima": points,
            "distinct": len(maxima.energies),
        }
    return result


def draw_sphere(found: Mapping[str, Any]) -> Figure:
    """The energy over a sphere of filters, linear beside ReLU, with patterns and maxima."""
    figure = Figure(figsize=(11.0, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, subplot_kw={"projection": "mollweide"})
    for ax, name in zip(axes, _ON_SPHERE, strict=True):
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
    figure.legend(*seen(axes[0]), loc="outside lower center", ncols=2)
    figure.suptitle("Energy of one node over all filters of norm 1; three orthonormal patterns")
    return figure


def draw_maxima(found: Mapping[str, Any]) -> Figure:
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


def draw_layers(found: Mapping[str, Any], num_patterns: int) -> Figure:
    """What trained layers find over their number of nodes: linear maxima, ReLU patterns."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    ax = figure.subplots()
    for i, (name, what) in enumerate((("linear", "maxima"), ("ReLU", "patterns"))):
        of = found[name][what]
        ax.errorbar(
            found["nodes"], of["mean"], yerr=of["std"], color=COLOURS[2 * i], marker=MARKERS[i],
            capsize=3, linestyle="none", label=f"{name}: {what} found (mean ± std over layers)",
        )  # fmt: skip
    ax.plot(
        found["nodes"], found["predicted"], color=COLOURS[2],
        label="ReLU: patterns predicted by the basins",
    )  # fmt: skip
    highest = max(num_patterns, *found["linear"]["maxima"]["mean"])
    ax.axhline(num_patterns, color=COLOURS[3], linestyle="--", label="patterns in the data")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    ax.set(
        xlabel="nodes K of the layer",
        ylabel="found by one layer",
        title="More nodes find more patterns, if they are nonlinear",
        ylim=(0, highest * 1.15),
    )
    ax.grid(alpha=0.3)
    figure.legend(*seen(ax), fontsize="small", loc="outside lower center", ncols=2)
    return figure


def _on_map(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arctan2(w[:, 1], w[:, 0]), np.arcsin(np.clip(w[:, 2], -1, 1))
