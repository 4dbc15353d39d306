"""Pictures of a run, as PNG files: its history, its spectrum, a map of its features.

Figures are made without pyplot, so that nothing global is touched, and each file appears whole
or not at all.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # scikit-learn brings it

from alphacl_jax.evaluation.checks import check_features, check_labels
from alphacl_jax.evaluation.names import set_names, shown_names
from alphacl_jax.evaluation.spectrum import effective_rank
from alphacl_jax.files import write_png_atomically

# Ten colours told apart with any colour vision (Petroff 2021, arXiv:2107.02270); markers double
# them, and carry on where there are more classes.
COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "p")
# Of the map. On digits, twice the points or the iterations show the same islands, and the time is
# proportional to both.
_MAX_POINTS = 1000
_MAX_COMPONENTS = 50
_ITERATIONS = 400
_LEGEND_ROWS = 25
_MAX_LEGEND = len(COLOURS) * len(MARKERS)


# Title of each panel of the history → its curves: a record's key and its name.
_PANELS = {
    "loss": {"loss": "loss"},
    "alignment": {"alignment": "alignment"},
    "uniformity": {"uniformity": "uniformity"},
    "standard deviation of embeddings": {"std": "per dimension", "healthy_std": "where healthy"},
    "effective rank": {"effective_rank": "features", "embedding_rank": "embeddings"},
    "eigenspace alignment": {"eigenspace_alignment": "eigenspace alignment"},
    "accuracy of quick probes, %": {"knn": "kNN", "linear": "linear"},
    "learning rate": {"learning_rate": "learning rate"},
}
_FEW_POINTS = 20


def draw_each(
    wanted: Mapping[str, Callable[[Path], None]], output: Path, report: Callable[[str], None]
) -> None:
    """Draws pictures into a folder; one that fails is a warning.

    Args:
      wanted: file name → what draws it, given its path.
      output: the folder.
      report: told the name before each.
    """
    for name, draw in wanted.items():
        report(name)
        with warned_of(str(output / name)):
            draw(output / name)


def plot_history(path: str | os.PathLike[str], records: Sequence[Mapping[str, Any]]) -> None:
    """What training recorded over its epochs, one panel for each thing that the records have.

    Args:
        path: of the PNG file.
        records: each with an "epoch" and any of "loss", "alignment", "uniformity",
            "std", "healthy_std", "effective_rank", "embedding_rank", "eigenspace_alignment", "knn"
            and "linear" (accuracies in [0, 1]) and "learning_rate"; they need not all have the
            same, and other keys are ignored.

    Raises:
        ValueError: no record has an epoch and one of these.
    """
    panels: dict[str, dict[str, np.ndarray]] = {}
    for title, curves in _PANELS.items():
        for key, name in curves.items():
            points = [(r["epoch"], r[key]) for r in records if "epoch" in r and key in r]
            if points:
                panels.setdefault(title, {})[name] = np.asarray(points, np.float64)
    if not panels:
        keys = ", ".join(key for curves in _PANELS.values() for key in curves)
        raise ValueError(
            f"no history to plot: none of {len(records)} records has an epoch and one of {keys}"
        )
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.0 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (title, lines) in zip(axes, panels.items(), strict=False):
        _plot_panel(ax, title, lines)
    for ax in axes[len(panels) :]:
        ax.remove()
    figure.suptitle("Training history")
    write_png_atomically(path, figure)


def _plot_panel(ax: Axes, title: str, lines: Mapping[str, np.ndarray]) -> None:
    factor = 100 if title.endswith("%") else 1
    for i, (name, curve) in enumerate(lines.items()):
        # A line of one point would not be seen.
        marker = MARKERS[i] if len(curve) < _FEW_POINTS else None
        colour = COLOURS[(0, 2)[i]]
        ax.plot(curve[:, 0], factor * curve[:, 1], color=colour, marker=marker, markersize=4,
                label=name)  # fmt: skip
    values = np.concatenate([curve[:, 1] for curve in lines.values()])
    if title == "loss" and values.min() > 0 and values.max() > 30 * values.min():
        ax.set_yscale("log")  # or all but its first steps would lie on the axis
    if len(lines) > 1:
        ax.legend(fontsize="small")
    ax.set(xlabel="epoch", ylabel=title)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6))
    ax.grid(alpha=0.3)


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
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="index, by size", ylabel="singular value of the covariance")
    ax.set_title("Spectrum of the centred covariance")
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small")
    write_png_atomically(path, figure)


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
        features: `[n, dim]`, n ≥ 4; more than 1000 are sampled down to that.
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
    points = _embed_in_plane(x[chosen], seed)
    figure = Figure(figsize=(6.5, 5.4), layout="constrained")
    ax = figure.subplots()
    if labels is None or class_names is None:
        ax.scatter(points[:, 0], points[:, 1], s=12, color=COLOURS[0], linewidths=0)
    else:
        _plot_classes(ax, points, np.asarray(labels)[chosen], class_names)
    counted = f"{len(points)} points" if len(points) == n else f"{len(points)} of {n} points"
    ax.set_title(f"t-SNE map of the features ({counted})")
    ax.set(xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")
    write_png_atomically(path, figure)


def _embed_in_plane(x: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE `[n, 2]` of features `[n, dim]`, of their first 50 principal components."""
    # PCA has nothing to start from in one dimension or where all features are equal.
    varied = x.shape[1] >= 2 and bool(np.any(x != x[0]))
    if min(x.shape) > _MAX_COMPONENTS:
        x = PCA(_MAX_COMPONENTS, random_state=seed).fit_transform(x)
    tsne = TSNE(
        perplexity=min(30.0, (len(x) - 1) / 3),
        max_iter=_ITERATIONS,
        init="pca" if varied else "random",
        random_state=seed,
    )
    # Its many short OpenMP loops take up to ten times as long where other work shares the cores.
    with threadpool_limits(1, user_api="openmp"):
        return tsne.fit_transform(x)


def _plot_classes(ax: Axes, points: np.ndarray, y: np.ndarray, class_names: Sequence[str]) -> None:
    """Points by class, with a legend beside them that says of every class how it looks."""
    present = np.unique(y)
    handles = [
        ax.scatter(
            points[y == c, 0],
            points[y == c, 1],
            s=14,
            color=COLOURS[c % 10],
            marker=MARKERS[c // 10 % 10 if len(class_names) > 10 else c],
            linewidths=0,
        )
        for c in present
    ]
    title = "class"
    if missing := len(class_names) - len(present):
        title += f" ({missing} without a point)"
    listed = [int(c) for c in present[:_MAX_LEGEND]]
    names = shown_names([str(class_names[c]) for c in listed], listed)
    _log_numbers(names, class_names, listed)
    handles = handles[:_MAX_LEGEND]
    if left := len(present) - len(names):
        names.append(f"and {left} more, with these looks again")
        handles.append(ax.scatter([], [], s=0))
    columns = -(-len(names) // _LEGEND_ROWS)
    # Of the height of 25 rows; the width of a letter is about 0.08 inch.
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    figure.set_figwidth(6.5 + (0.5 + 0.08 * max(map(len, names))) * columns)
    legend = ax.legend(
        handles,
        [str(i) for i in range(len(names))],
        title=title,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        ncols=columns,
        fontsize="small",
        markerscale=1.5,
        frameon=False,
    )
    set_names(legend, names)


def _log_numbers(shown: Sequence[str], class_names: Sequence[str], numbers: Sequence[int]) -> None:
    """Says which classes a legend tells apart by their numbers alone."""
    numbered = [
        f"{number} is {str(class_names[number])!r}"
        for name, number in zip(shown, numbers, strict=True)
        if name.startswith(f"{number}: ") and name != class_names[number]
    ]
    if numbered:
        logging.warning("classes that the legend shows by number: %s", ", ".join(numbered))


@contextmanager
def warned_of(picture: str) -> Iterator[None]:
    """Makes one warning of whatever goes wrong with a picture, which may not cost a run more."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        logging.warning("%s could not be drawn: %s", picture, reason[0])
