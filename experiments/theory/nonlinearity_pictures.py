"""Pictures of the nonlinearity tables, and of filters over training."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from experiments.theory.checks import Check
from experiments.theory.nonlinearity_cells import Result
from experiments.theory.nonlinearity_tables import Cell, Table, Values, cell_checks


def tables_figure(title: str, table: Table, values: Values) -> Figure:
    """The published table, ours, and their difference; a cross where they do not agree."""
    betas = sorted({cell.beta for cell in values})
    columns = sorted({(cell.per_location, table.columns.index(cell.column)) for cell in values})
    shape = (len(betas), len(columns))
    published, ours, agrees = np.full(shape, np.nan), np.full(shape, np.nan), np.ones(shape, bool)
    for cell, check in zip(sorted(values), cell_checks(table, values), strict=True):
        row = betas.index(cell.beta)
        at = row, columns.index((cell.per_location, table.columns.index(cell.column)))
        published[at], ours[at], agrees[at] = check.expected, check.ours, check.agrees
    figure = Figure(figsize=(2.2 + 0.75 * len(columns), 0.9 + 2.1 * 3), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    names = [f"P={p}\n{table.columns[c]}" for p, c in columns]
    for ax, name, numbers, colours, limit in (
        (panels[0], "published", published, "viridis", (0.0, 1.0)),
        (panels[1], "ours", ours, "viridis", (0.0, 1.0)),
        (panels[2], "ours − published", ours - published, "RdBu", (-0.3, 0.3)),
    ):
        image = ax.imshow(numbers, cmap=colours, vmin=limit[0], vmax=limit[1], aspect="auto")
        for (row, column), number in np.ndenumerate(numbers):
            number = round(number, 2) + 0.0  # no -0.00
            if colours == "RdBu":
                dark = abs(number) > 0.15
                text = f"{number:+.2f}" + ("" if agrees[row, column] else " ×")
            else:
                dark = number < 0.6
                text = f"{number:.2f}"
            ax.text(
                column,
                row,
                text if np.isfinite(number) else "",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
        ax.set_yticks(range(len(betas)), [f"β={beta}" for beta in betas])
        ax.set_xticks(range(len(columns)), names, fontsize=8)
        ax.set_title(name, fontsize=10)
        figure.colorbar(image, ax=ax, pad=0.01)
    figure.suptitle(f"{title}: quality of features χ̄₊\n(× differs by more than max(2σ, 0.03))")
    return figure


def search_figure(checks: Mapping[str, Sequence[Check]]) -> Figure:
    """Ours − published of each cell under each reading, best reading first; crosses as above."""
    readings = list(checks)
    cells = [check.name for check in checks[readings[0]]]
    differences = np.array([[check.difference for check in checks[r]] for r in readings])
    size = (5.0 + 0.62 * len(cells), 1.8 + 0.34 * len(readings))
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(differences, cmap="RdBu", vmin=-0.3, vmax=0.3, aspect="auto")
    for (row, column), number in np.ndenumerate(differences):
        agrees = checks[readings[row]][column].agrees
        text = f"{round(number, 2) + 0.0:+.2f}" + ("" if agrees else " ×")
        colour = "white" if abs(number) > 0.15 else "black"
        ax.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    ax.set_xticks(range(len(cells)), [name.replace(" ", "\n") for name in cells], fontsize=7)
    ax.set_yticks(range(len(readings)), readings, fontsize=7)
    figure.colorbar(image, ax=ax, pad=0.01)
    figure.suptitle("Readings of the slide: ours − published (× more than max(2σ, 0.03))")
    return figure


def filters_figure(results: Mapping[Cell, Result], locations: int = 2) -> Figure:
    """Cosines of filters with token embeddings over training, at the first few locations.

    Args:
      results: cells of one P and β.
      locations: how many rows each cell gets.
    """
    cells = sorted(results)
    steps = results[cells[0]].steps
    locations = min(locations, results[cells[0]].relevant.shape[0])
    rows = [(cell, location) for cell in cells for location in range(locations)]
    figure = Figure(figsize=(2.1 * len(steps) + 1.5, 1.9 * len(rows) + 0.8), layout="constrained")
    axes = figure.subplots(len(rows), len(steps), squeeze=False)
    for (cell, location), line in zip(rows, axes, strict=True):
        result = results[cell]
        for ax, step, cosines in zip(line, steps, result.cosines[:, location], strict=True):
            image = _filters(ax, cosines, result.cosines[-1, location], result.relevant[location])
            if location == 0 and cell == cells[0]:
                ax.set_title(f"step {step:,}", fontsize=9)
        line[0].set_ylabel(f"{cell.column}\nlocation {location + 1}\nfilters", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("tokens", fontsize=8)
    figure.colorbar(image, ax=axes, label="cosine of filter and token embedding", shrink=0.6)
    where = f"P={cells[0].per_location}, β={cells[0].beta}"
    figure.suptitle(
        f"Filters against token embeddings over training, {where}\n"
        "(left of the line: tokens that occur in patterns at this location)"
    )
    return figure


def _filters(ax: Axes, cosines: np.ndarray, final: np.ndarray, relevant: np.ndarray) -> AxesImage:
    """One location at one time; tokens of patterns first, filters by what they end as."""
    tokens = np.argsort(~relevant, kind="stable")
    best = np.argmax(np.abs(final[:, tokens]), axis=1)
    order = np.argsort(best, kind="stable")
    image = ax.imshow(cosines[order][:, tokens], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    ax.axvline(relevant.sum() - 0.5, color="black", linewidth=1)
    ax.set_xticks([])
    ax.set_yticks([])
    return image
