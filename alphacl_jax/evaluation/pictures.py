"""Pictures of a run, as PNG files: its history, its spectrum, a map of its features.

Figures are made without pyplot, so that nothing global is touched, and each file appears whole
or not at all.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # scikit-learn brings it

from alphacl_jax.evaluation.checks import check_features, check_labels
from alphacl_jax.evaluation.spectrum import effective_rank
from alphacl_jax.files import replaced

# Ten colours told apart with any colour vision (Petroff 2021, arXiv:2107.02270); markers double
# them, and carry on where there are more classes.
COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "p")
_MAX_POINTS = 2000
_MAX_LEGEND = len(COLOURS) * len(MARKERS)


def plot_history(path: str | os.PathLike[str], records: Sequence[Mapping[str, Any]]) -> None:
    """Loss and energy over the training steps, one panel each.

    Args:
        path: of the PNG file.
        records: each with a "step", and a "loss" and an "energy" or one of them; other keys are
            ignored.

    Raises:
        ValueError: no record with a step and a loss or energy.
    """
    panels: dict[str, np.ndarray] = {}
    for key, label in (("loss", "loss"), ("energy", r"energy  $\mathrm{tr}\,C_\alpha[f, f]$")):
        points = [(r["step"], r[key]) for r in records if "step" in r and key in r]
        if points:
            panels[label] = np.asarray(points, np.float64)
    if not panels:
        raise ValueError(
            f"no history to plot: none of {len(records)} records has a step and a loss or energy"
        )
    figure = Figure(figsize=(4.8 * len(panels), 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (label, curve), colour in zip(axes, panels.items(), COLOURS[::2], strict=False):
        # A line of one point would not be seen.
        ax.plot(*curve.T, color=colour, marker="o" if len(curve) < 20 else None, markersize=4)
        ax.set(xlabel="training step", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
    figure.suptitle("Training history")
    save_figure(figure, path)


def plot_spectrum(path: str | os.PathLike[str], spectra: Mapping[str, ArrayLike]) -> None:
    """Singular values of one or more covariances on a log scale, with their effective ranks.

    Args:
        path: of the PNG file.
        spectra: name (such as "embedding z") → `singular_values` of it, `[dim]`.

    Raises:
        ValueError: no spectra, or one that is negative or not finite.
    """
    if not spectra:
        raise ValueError("no spectrum to plot: spectra is empty")
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    ax = figure.subplots()
    largest = 0.0
    for i, (name, sigma) in enumerate(spectra.items()):
        sigma = np.asarray(sigma, np.float64)
        label = f"{name}: effective rank {effective_rank(sigma):.1f} of {len(sigma)}"
        largest = max(largest, sigma.max(initial=0.0))
        ax.plot(
            np.arange(1, len(sigma) + 1),
            np.where(sigma > 0, sigma, np.nan),  # a log scale has no 0
            color=COLOURS[2 * i % 10],
            marker=MARKERS[i % 10],
            markersize=3,
            linewidth=1,
            label=label,
        )
    ax.set_yscale("log")
    if largest > 0:
        # What lies lower is nothing beside it, and partly the rounding of float32 features.
        low = max(ax.get_ylim()[0], 1e-10 * largest)
        ax.set_ylim(low, 2 * largest)
    ax.set(xlabel="index, by size", ylabel="singular value of the covariance")
    ax.set_title("Spectrum of the centred covariance")
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small")
    save_figure(figure, path)


def plot_map(
    path: str | os.PathLike[str],
    features: ArrayLike,
    labels: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> None:
    """A two-dimensional t-SNE map of features, coloured by class.

    Args:
        path: of the PNG file.
        features: `[n, dim]`, n ≥ 4; more than 2000 are sampled down to that.
        labels: `[n]` in [0, len(class_names)), or None for an unlabelled map.
        class_names: one name for each class; needed with labels.
        seed: of the sample and of t-SNE.

    Raises:
        AssertionError: shapes.
        ValueError: features that are not finite, fewer than 4 of them, labels out of range or
            without names.

    References:
        van der Maaten and Hinton 2008, "Visualizing data using t-SNE".
    """
    x = check_features("features", features)
    n = len(x)
    if n < 4:
        raise ValueError(f"a map needs at least 4 points; got {n}")
    if (labels is None) != (class_names is None):
        raise ValueError("labels and class_names belong together: give both or neither")
    if labels is not None and class_names is not None:
        labels = check_labels("labels", labels, n, len(class_names))
    chosen = np.arange(n)
    if n > _MAX_POINTS:
        chosen = np.random.default_rng(seed).choice(n, _MAX_POINTS, replace=False)
    x = x[chosen]
    # PCA has nothing to start from in one dimension or where all features are equal.
    varied = x.shape[1] >= 2 and bool(np.any(x != x[0]))
    tsne = TSNE(
        perplexity=min(30.0, (len(x) - 1) / 3),
        max_iter=500,
        init="pca" if varied else "random",
        random_state=seed,
    )
    # Its many short OpenMP loops take up to ten times as long where other work shares the cores.
    with threadpool_limits(1, user_api="openmp"):
        points = tsne.fit_transform(x)

    figure = Figure(figsize=(6.5, 5.4), layout="constrained")
    ax = figure.subplots()
    if labels is None or class_names is None:
        ax.scatter(points[:, 0], points[:, 1], s=10, color=COLOURS[0], linewidths=0)
    else:
        y = np.asarray(labels)[chosen]
        present = np.unique(y)
        for c in present:
            ax.scatter(
                points[y == c, 0],
                points[y == c, 1],
                s=14,
                color=COLOURS[c % 10],
                marker=MARKERS[c // 10 % 10 if len(class_names) > 10 else c],
                linewidths=0,
                label=str(class_names[c]),
            )
        if len(present) <= _MAX_LEGEND:
            columns = -(-len(present) // 25)
            figure.set_figwidth(6.5 + 1.4 * columns)
            ax.legend(
                title="class",
                loc="center left",
                bbox_to_anchor=(1.0, 0.5),
                ncols=columns,
                fontsize="small",
                markerscale=1.5,
                frameon=False,
            )
    counted = f"{len(x)} points" if len(x) == n else f"{len(x)} of {n} points"
    ax.set_title(f"t-SNE map of the features ({counted})")
    ax.set(xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")
    save_figure(figure, path)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure as PNG beside the target, then renames: nobody reads half a file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as half:
        figure.savefig(half, format="png", dpi=150)
