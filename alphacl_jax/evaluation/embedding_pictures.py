"""Pictures of embeddings over time: in two or three dimensions by a context; how they were trained.

The maps of colours are read with any colour vision: viridis for what has a lowest and a highest
value, and for what comes round again twilight, darkened where it is as light as the page.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.evaluation.checks import check_features, check_labels
from alphacl_jax.evaluation.names import set_names, shown_names
from alphacl_jax.evaluation.pictures import COLOURS, MARKERS
from alphacl_jax.files import write_png_atomically

_MAX_POINTS = 4000  # of one embedding; more only cover each other
_COLUMNS = 3
_FEW_POINTS = 20
_POINTS_OF_CURVE = 200  # that are told apart: of a longer one means are drawn over it


def plot_embeddings(
    path: str | os.PathLike[str],
    embeddings: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    label: str = "context",
    period: float | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Embeddings side by side, each point coloured by its context, on one scale for all.

    Args:
      path: of the PNG file.
      embeddings: title → (embedding `[n, 2]` or `[n, 3]`, context `[n]`). Of more than 4,000 points
        as many are shown, spread evenly over time.
      label: what the context is, with its unit.
      period: of a context that comes round again, such as an angle's 2π; None for one that has a
        lowest and a highest value.
      class_names: where the contexts are classes, numbered from 0: one name for each.

    Raises:
      AssertionError, ArgumentError, ValueError: shapes, values that are not finite or out of range,
        no embedding.
    """
    if not embeddings:
        raise ArgumentError("embeddings", {}, "hold nothing to plot")
    if period is not None and not (np.isfinite(period) and period > 0):
        raise ArgumentError("period", period, "must be a number above 0, or None")
    if period is not None and class_names is not None:
        raise ArgumentError("period", period, "is of a number, and class_names makes it a class")
    points = {title: _checked(title, *given) for title, given in embeddings.items()}
    if class_names is not None:
        for title, (z, classes) in points.items():
            whole = classes.astype(np.int64)
            check_labels(f"the context of {title!r}", whole, len(z), max(2, len(class_names)))
    columns = min(_COLUMNS, len(points))
    rows = -(-len(points) // columns)
    figure = Figure(figsize=(4.0 * columns + 1.2, 4.0 * rows), layout="constrained")
    axes = []
    norm, colours = _scale([context for _, context in points.values()], period)
    for number, (title, (z, context)) in enumerate(points.items(), 1):
        projection = "3d" if z.shape[1] == 3 else None
        ax: Any = figure.add_subplot(rows, columns, number, projection=projection)
        axes.append(ax)
        kept = np.unique(np.linspace(0, len(z) - 1, min(len(z), _MAX_POINTS)).astype(int))
        z, context = z[kept], context[kept]
        if class_names is None:
            seen = context if period is None else context % period
            ax.scatter(*z.T, s=5, c=seen, cmap=colours, norm=norm, linewidths=0, **_flat(z))
        else:
            _scatter_classes(ax, z, context.astype(np.int64), len(class_names))
        _finish(ax, title, z)
    if class_names is None:
        bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, shrink=0.7, pad=0.03)
        bar.set_label(label)
    else:
        _add_legend(figure, label, class_names)
    write_png_atomically(path, figure)


def plot_training(
    path: str | os.PathLike[str], runs: Mapping[str, Mapping[str, ArrayLike]]
) -> None:
    """What trainings recorded in each iteration, a panel for each quantity, a line for each run.

    Of long curves means over a two-hundredth of their length each are drawn, and where there is one
    run alone the whole curve, pale, behind them.

    Args:
      path: of the PNG file.
      runs: name of a run → quantity, such as "loss" or "temperature" → `[iterations]`, or
        `[iterations, 2]` of which the first column is the iteration.

    Raises:
      ArgumentError: no curve, or one that is of another shape.
    """
    panels: dict[str, dict[str, np.ndarray]] = {}
    for run, quantities in runs.items():
        for quantity, values in quantities.items():
            panels.setdefault(quantity, {})[run] = _curve(run, quantity, values)
    if not panels:
        raise ArgumentError("runs", shown(dict(runs)), "have no curve to plot")
    figure = Figure(figsize=(4.8 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (quantity, curves) in zip(axes, panels.items(), strict=True):
        for run, curve in curves.items():
            number = list(runs).index(run)
            colour, width = COLOURS[2 * number % 10], len(curve) // _POINTS_OF_CURVE
            if width > 1 and len(runs) == 1:
                ax.plot(*curve.T, color=colour, alpha=0.3, linewidth=0.6)
            curve = _means(curve, width) if width > 1 else curve
            # A line of one point would not be seen.
            marker = MARKERS[number % 10] if len(curve) < _FEW_POINTS else None
            ax.plot(*curve.T, color=colour, marker=marker, markersize=4, label=run)
        ax.set(xlabel="iteration", ylabel=quantity)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        ax.grid(alpha=0.3)
    if len(runs) > 1:
        set_names(axes[0].legend(fontsize="small"), shown_names(list(runs), range(len(runs))))
    write_png_atomically(path, figure)


def _checked(title: str, embedding: ArrayLike, context: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    z = check_features(f"embedding {title!r}", embedding)
    if z.shape[1] not in (2, 3):
        problem = f"of {title!r} must be [n, 2] or [n, 3]: choose columns, or principal components"
        raise ArgumentError("embeddings", shown(z), problem)
    column = np.asarray(context)
    if column.shape != (len(z),):
        problem = f"of {title!r} must be the context [{len(z)}], a number for each moment"
        raise ArgumentError("embeddings", shown(column), problem)
    return z, check_features(f"the context of {title!r}", column[:, None], np.float64)[:, 0]


def _scale(contexts: Sequence[np.ndarray], period: float | None) -> tuple[Normalize, Colormap]:
    if period is None:
        everything = np.concatenate(contexts)
        return Normalize(everything.min(), everything.max()), colormaps["viridis"]
    return Normalize(0, period), cyclic_colours()


def cyclic_colours() -> Colormap:
    """Twilight, whose lightest colours are made as dark as light grey, to be seen on a page."""
    colours = colormaps["twilight"](np.linspace(0, 1, 256))
    lightness = colours[:, :3] @ [0.2126, 0.7152, 0.0722]
    colours[:, :3] *= np.minimum(1, 0.72 / lightness)[:, None]
    return ListedColormap(colours, "twilight on white")


def _scatter_classes(ax: Any, z: np.ndarray, classes: np.ndarray, num_classes: int) -> None:
    for c in np.unique(classes):
        colour, marker = _look(int(c), num_classes)
        points = z[classes == c].T
        ax.scatter(*points, s=8, color=colour, marker=marker, linewidths=0, **_flat(z))


def _flat(z: np.ndarray) -> dict[str, bool]:
    """Keeps points that lie behind from being paler, since colours say what they are."""
    return {"depthshade": False} if z.shape[1] == 3 else {}


def _look(c: int, num_classes: int) -> tuple[str, str]:
    return COLOURS[c % 10], MARKERS[c // 10 % 10 if num_classes > 10 else c]


def _add_legend(figure: Figure, label: str, class_names: Sequence[str]) -> None:
    handles = []
    for c in range(len(class_names)):
        colour, marker = _look(c, len(class_names))
        handles.append(figure.axes[0].plot([], [], marker, color=colour)[0])
    names = shown_names(list(class_names), range(len(class_names)))
    legend = figure.legend(
        handles, [str(c) for c in range(len(names))], title=label, loc="outside right center"
    )
    set_names(legend, names)


def _finish(ax: Any, title: str, z: np.ndarray) -> None:
    ax.set_title(title)
    if z.shape[1] == 2:
        ax.set_aspect("equal", adjustable="datalim")
        ax.tick_params(labelsize="small")
        ax.grid(alpha=0.3)
        return
    # A cube, in which a sphere is one; its walls' numbers would be covered by the points.
    middle, reach = (z.max(axis=0) + z.min(axis=0)) / 2, np.ptp(z, axis=0).max() / 2 or 1.0
    for axis, centre in zip("xyz", middle, strict=True):
        getattr(ax, f"set_{axis}lim")(centre - reach, centre + reach)
        getattr(ax, f"{axis}axis").set_ticklabels([])
    ax.set_box_aspect((1, 1, 1))


def _curve(run: str, quantity: str, values: ArrayLike) -> np.ndarray:
    curve = np.asarray(values, np.float64)
    if curve.ndim == 1:
        curve = np.column_stack([np.arange(1, len(curve) + 1), curve])
    if curve.ndim != 2 or curve.shape[1] != 2 or not len(curve):
        problem = f"of {quantity!r} of {run!r} must be [iterations], or [iterations, 2]"
        raise ArgumentError("runs", shown(np.asarray(values)), problem)
    return curve


def _means(curve: np.ndarray, width: int) -> np.ndarray:
    return curve[: len(curve) // width * width].reshape(-1, width, 2).mean(axis=1)
