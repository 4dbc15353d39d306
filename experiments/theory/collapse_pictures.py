"""The pictures of `experiments.theory.collapse`."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alphacl_jax.evaluation.pictures import COLOURS
from alphacl_jax.theory.linear_networks.collapse import alignment_matrix
from experiments.theory.legends import add_legend

_FLOOR = 1e-12  # what a log axis shows of smaller values


def draw_spectra(eigenvalues: Mapping[str, Mapping[float, np.ndarray]]) -> Figure:
    """Eigenvalues of X by the strength of augmentation, a panel per α."""
    figure = Figure(figsize=(12.5, 3.8), layout="constrained")
    for ax, (name, by_noise) in zip(
        figure.subplots(1, len(eigenvalues)), eigenvalues.items(), strict=True
    ):
        for (noise, values), colour in zip(by_noise.items(), COLOURS, strict=False):
            label = f"noise variance {noise:.3g}"
            ax.plot(_numbers(values), values, "o-", color=colour, label=label, markersize=4)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set(xlabel="eigenvalue number", ylabel="eigenvalue", title=name)
        _finish(ax)
    add_legend(ax, frameon=False, fontsize=8)
    figure.suptitle(r"Eigenspectrum of $X = C_\alpha[x]$, as augmentation of some dimensions grows")
    return figure


def draw_one_layer(found: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Singular values of one layer over time, on each X; first seed."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    for ax, (name, one) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        _curves(ax, one["times"], one["sigma"][0])
        ax.set(yscale="log", xlabel="time t", ylabel="singular values of W(t)", title=name)
        _finish(ax, whole=False)
    figure.suptitle(r"One layer, $\dot W = WX$: directions with negative eigenvalues die out")
    return figure


def draw_two_layers(found: Any, aligned: float) -> Figure:
    """Singular value dynamics of two layers (first seed), and their rates beside the closed form.

    Args:
      found: a `TwoLayers`.
      aligned: the |cosine| from which points are drawn in the third panel.
    """
    figure = Figure(figsize=(12.5, 3.9), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    # Growth is explosive in t, which ends at a finite value: by relative change it can be seen.
    for ax, sigma, name in ((first, found.sigma1, "W_1"), (second, found.sigma2, "W_2")):
        _curves(ax, found.arc, sigma[0])
        ax.set(yscale="log", xlabel="relative change s", ylabel=f"singular values of ${name}$")
        ax.set_title(f"${name}$ under fixed α")
        ax.set_ylim(sigma[0, 0, 0] * 3e-3, None)
        _finish(ax, whole=False)
    inside = found.aligned[:, 1:-1] > aligned
    for layer, colour, marker in ((0, COLOURS[0], "o"), (1, COLOURS[2], "x")):
        closed, measured = (r[:, 1:-1, layer][inside] for r in (found.closed, found.measured))
        third.plot(
            closed, measured, marker, color=colour, ms=4, mfc="none", label=f"$W_{layer + 1}$"
        )
    if inside.any():
        ends = [closed.min(), closed.max()]
        third.plot(ends, ends, color="black", linewidth=0.8)
    third.set(
        xscale="log",
        yscale="log",
        xlabel=r"closed form  $\dot\sigma/\sigma$",
        ylabel=r"along the path  $\dot\sigma/\sigma$",
        title=f"Rates where |u₁ · v₂| > {aligned:g}, all seeds",
    )
    add_legend(third, frameon=False)
    _finish(third, whole=False)
    figure.suptitle("Singular value dynamics of two layers")
    return figure


def draw_alignment(found: Any, trained: Sequence[np.ndarray]) -> Figure:
    """|u_1ᵏ·v_2ᵐ| at the start, half way and end under fixed α, and after training.

    Args:
      found: a `TwoLayers`.
      trained: W_1 and W_2 of a network trained by InfoNCE.
    """
    steps = len(found.alignments)
    panels = {
        "fixed α, start": found.alignments[0],
        "fixed α, half way": found.alignments[steps // 2],
        "fixed α, end": found.alignments[-1],
        "trained by InfoNCE, end": np.asarray(alignment_matrix(*map(jnp.asarray, trained))),
    }
    figure = Figure(figsize=(12.5, 3.5), layout="constrained")
    for ax, (title, matrix) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        number = len(matrix) + 0.5
        image = ax.imshow(matrix, vmin=0, vmax=1, cmap="viridis", extent=(0.5, number, number, 0.5))
        ax.set(title=title, xlabel="m, right vectors of $W_2$", ylabel="k, left vectors of $W_1$")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=ax, label=r"$|u_1^k \cdot v_2^m|$")
    figure.suptitle("Singular vector alignment of the two layers")
    return figure


def draw_objectives(
    single: Mapping[str, Mapping[str, np.ndarray]], double: Any, runs: Mapping[str, Any]
) -> Figure:
    """The energy under fixed α and the loss in training, over time; one line per seed."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    curves = {f"one layer, {name}": (one["times"], one["energies"]) for name, one in single.items()}
    for (name, (times, energies)), colour in zip(curves.items(), COLOURS, strict=False):
        for energy in energies:
            left.plot(times / times[-1], energy, color=colour, label=name)
    for times, energy in zip(double.times, double.energies, strict=True):
        label = "two layers, weak augmentation"
        left.plot(times / times[-1], energy, color=COLOURS[2], label=label)
    left.set(xlabel="time t over the last t", ylabel=r"$E_\alpha$", title="Objective, fixed α")
    left.set_yscale("log", nonpositive="mask")  # from where it is positive
    for (name, run), colour in zip(runs.items(), COLOURS, strict=False):
        for losses in run["losses"]:
            right.plot(run["steps"], losses, color=colour, label=name)
    right.set(yscale="log", xlabel="step", ylabel="InfoNCE", title="Loss, trained by InfoNCE")
    for ax in (left, right):
        add_legend(ax, frameon=False, fontsize=8)
        _finish(ax, whole=False)
    figure.suptitle("Objective over time")
    return figure


def draw_embeddings(
    relative: Mapping[str, np.ndarray], runs: Mapping[str, Any], growth: float
) -> Figure:
    """Singular values of the whole map at equal growth, and embedding variances after training."""
    figure = Figure(figsize=(10.5, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, sigma), colour in zip(relative.items(), COLOURS, strict=False):
        for values in sigma:
            left.plot(
                _numbers(values),
                np.maximum(values, _FLOOR),
                "o-",
                color=colour,
                label=name,
                markersize=4,
                linewidth=1,
            )
    left.set(yscale="log", xlabel="number", ylabel=r"singular value of $W$ over the largest")
    left.set_title(f"Fixed α, X ⪰ 0, after {growth:.0f}-fold growth")
    for (name, run), colour, marker in zip(runs.items(), COLOURS, "o^sDv", strict=False):
        last = run["spectra"][:, -1]
        for values in last / last[:, :1]:
            right.plot(
                _numbers(values),
                np.maximum(values, _FLOOR),
                marker + "-",
                color=colour,
                label=name,
                markersize=4,
                linewidth=1,
            )
    right.set(yscale="log", xlabel="number", ylabel="embedding variance over the largest")
    right.set_title("Trained by InfoNCE")
    for ax in (left, right):
        add_legend(ax, frameon=False, fontsize=8)
        _finish(ax)
    figure.suptitle("Embedding spectrum: one line per seed")
    return figure


def _curves(ax: Axes, times: np.ndarray, sigma: np.ndarray) -> None:
    """A line per singular value, from dark (largest) to light."""
    for k, curve in enumerate(sigma.T):
        ax.plot(times, curve, color=COLOURS[0], alpha=1 - 0.75 * k / sigma.shape[1], linewidth=1.2)


def _numbers(values: np.ndarray) -> np.ndarray:
    return 1 + np.arange(len(values))


def _finish(ax: Axes, *, whole: bool = True) -> None:
    ax.grid(alpha=0.3)
    if whole:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
