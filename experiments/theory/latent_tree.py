"""Contrastive training finds the hidden hierarchy: nodes come to resemble latents never named.

Data from a binary latent tree, two views that share only the root, a locally connected ReLU network
of the tree's shape, SimCLR. At each level: the best correlation of a hidden node with its latent,
before and after training, beside the best that any function of the leaves below could have.

  python -m experiments.theory.latent_tree
  python -m experiments.theory.latent_tree --quick
  python -m experiments.theory.latent_tree --depths=5 --widths=10 --lowest_polarities=0.7,0.8,0.9
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from alphacl_jax.errors import RunError
from alphacl_jax.evaluation.pictures import COLOURS
from alphacl_jax.tables import align
from alphacl_jax.theory.latent_tree.model import TreeShape, check_polarity
from alphacl_jax.theory.latent_tree.training import TreeResult, TreeTraining, train_on_tree
from experiments.theory.checks import Check, agreement, format_checks
from experiments.theory.lab import (
    Lab,
    define_lab_flags,
    main,
    progress,
    require_finite_loss,
    settings_of,
)
from experiments.theory.legends import add_legend

Cell = tuple[int, int, float]  # depth, width, δ
_PUBLISHED_DEPTH, _PUBLISHED_WIDTH = 5, 10


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    define_lab_flags("latent_tree", values)
    flags.DEFINE_list("depths", ["3", "4", "5"], "Levels of the tree below its root.", values)
    flags.DEFINE_list("widths", ["2", "5", "10"], "Hidden nodes for each latent.", values)
    flags.DEFINE_list(
        "lowest_polarities",
        ["0.7", "0.8", "0.9"],
        "delta: each edge's correlation is uniform in [delta, 1].",
        values,
    )
    for name, default, least, text in (
        ("children", 2, 2, "Of each latent."),
        ("outputs", 50, 2, "Of the linear layer on the root's hidden nodes."),
        ("num_seeds", 3, 1, "Trees, networks and batches per cell."),
        ("batch_size", 128, 2, "Pairs of views per step, always fresh."),
        ("steps", 400, 1, "Of SGD with momentum 0.9."),
        ("test_samples", 2048, 2, "On which correlations are measured."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=least, flag_values=values)
    flags.DEFINE_float("learning_rate", 0.05, "Of SGD.", flag_values=values)
    flags.DEFINE_float("temperature", 0.1, "Of InfoNCE.", flag_values=values)
    flags.DEFINE_bool(
        "batch_norm", True, "On each hidden node, before its ReLU.", flag_values=values
    )
    flags.DEFINE_bool(
        "normalize", True, "Scale the outputs to the unit sphere.", flag_values=values
    )
    flags.DEFINE_bool(
        "quick",
        False,
        "The first depth with the first two widths, and 2 seeds, 200 steps.",
        flag_values=values,
    )


def numbers(name: str, items: Sequence[str], kind: type) -> list[Any]:
    """The entries of the list flag `name` as numbers, each once.

    Raises:
      RunError: for an empty list, repeats, or what is no number.
    """
    text = ",".join(items)
    try:
        found = [kind(v) for v in items]
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise RunError(f"--{name}={text} must be {what} separated by commas") from error
    if not found or len(set(found)) < len(found):
        raise RunError(f"--{name}={text} must be one or more different numbers")
    return found


def train_grid(
    keys: jax.Array,
    polarities: Sequence[float],
    shapes: Sequence[TreeShape],
    training: TreeTraining,
) -> dict[Cell, TreeResult]:
    """Results by cell, each with a leading axis of seeds; δ and seeds are one program."""
    by_seed = jax.vmap(train_on_tree, (0, None, None, None))
    run = jax.jit(jax.vmap(by_seed, (None, 0, None, None)), static_argnums=(2, 3))
    found: dict[Cell, TreeResult] = {}
    for shape in progress(shapes, lambda s: f"depth {s.depth}, width {s.width}"):
        result = jax.device_get(run(keys, jnp.array(polarities), shape, training))
        for i, delta in enumerate(polarities):
            found[shape.depth, shape.width, delta] = TreeResult(*(v[i] for v in result))
        where = f"at depth {shape.depth}, width {shape.width}"
        require_finite_loss(result.losses, "learning_rate", training.learning_rate, where)
    return found


def level_table(found: dict[Cell, TreeResult]) -> str:
    """Every cell: before → after (bound), by level from the root."""
    deepest = max(depth for depth, _, _ in found)
    titles = ["depth  width  delta", *(f"level {i}" for i in range(deepest))]
    titles[1] += " (root)"
    rows = []
    for (depth, width, delta), result in found.items():
        before, after, bound = (
            np.mean(v, axis=0) for v in (result.initial, result.trained, result.possible)
        )
        cells = [f"{a:.2f}→{b:.2f} ({c:.2f})" for a, b, c in zip(before, after, bound, strict=True)]
        rows.append([f"{depth:5}  {width:5}  {delta:5g}", *cells, *[""] * (deepest - depth)])
    return align([titles, *rows])


def claims(found: dict[Cell, TreeResult]) -> list[Check]:
    """What the theory says of the table, each as a count of cells (means over seeds)."""
    means = {c: [np.mean(v, axis=0) for v in result[:3]] for c, result in found.items()}
    checks = [
        Check(
            "cells where training raises the root's correlation",
            len(found),
            sum(bool(after[0] > before[0]) for before, after, _ in means.values()),
        ),
        Check(
            "cells where it raises the mean over levels",
            len(found),
            sum(bool(after.mean() > before.mean()) for before, after, _ in means.values()),
        ),
        Check(
            "cells where no level is above its bound (by 0.02)",
            len(found),
            sum(bool(np.all(after < bound + 0.02)) for _, after, bound in means.values()),
        ),
    ]
    pairs = _neighbours(found, axis=1)
    if pairs:
        rises = sum(bool(means[wide][1][0] > means[narrow][1][0]) for narrow, wide in pairs)
        checks.append(
            Check("steps to a larger width that raise the trained root's", len(pairs), rises)
        )
    pairs = _neighbours(found, axis=2)
    if pairs:
        rises = sum(bool(means[high][1][0] > means[low][1][0]) for low, high in pairs)
        checks.append(
            Check("steps to a larger delta that raise the trained root's", len(pairs), rises)
        )
    return checks


def _neighbours(found: dict[Cell, TreeResult], axis: int) -> list[tuple[Cell, Cell]]:
    """Pairs of cells that differ in one coordinate, by one step of its sorted values."""
    steps = list(itertools.pairwise(sorted({cell[axis] for cell in found})))
    return [
        (cell, (*cell[:axis], high, *cell[axis + 1 :]))  # type: ignore[misc]
        for cell in found
        for low, high in steps
        if cell[axis] == low
    ]


def run(values: flags.FlagValues) -> None:
    lab = Lab(settings_of(values))
    depths = numbers("depths", values.depths or [], int)
    widths = numbers("widths", values.widths or [], int)
    polarities = numbers("lowest_polarities", values.lowest_polarities or [], float)
    for delta in polarities:
        check_polarity(delta)
    seeds, steps = values.num_seeds, values.steps
    if values.quick:
        depths, widths, seeds, steps = depths[:1], widths[:2], min(seeds, 2), min(steps, 200)
    training = TreeTraining(
        values.temperature,
        values.batch_size,
        steps,
        values.learning_rate,
        values.normalize,
        values.test_samples,
    )
    # All shapes first: an impossible one ends the run before it starts.
    shapes = [
        TreeShape(depth, values.children, width, values.outputs, values.batch_norm)
        for depth, width in itertools.product(depths, widths)
    ]
    keys = jax.random.split(jax.random.key(values.seed), seeds)
    found = train_grid(keys, polarities, shapes, training)
    checks = claims(found)
    lab.show(f"{len(found)} cells, {seeds} seed(s) each, {steps} steps")
    lab.show("best correlation of a hidden node with its latent: before→after (bound)")
    lab.show(level_table(found))
    lab.show("")
    lab.show(format_checks("claim", checks, expected="theory"))
    lab.picture("latent_tree_levels.png", picture_of_levels(found))
    lab.picture("latent_tree_root.png", picture_of_root(found))
    cells = [
        {
            "depth": depth,
            "width": width,
            "lowest_polarity": delta,
            **{name: getattr(result, name).tolist() for name in ("initial", "trained", "possible")},
            "final_loss": result.losses[:, -1].tolist(),
        }
        for (depth, width, delta), result in found.items()
    ]
    lab.finish({"cells": cells}, {"claims": checks}, conclusion(found, checks))


def conclusion(found: dict[Cell, TreeResult], checks: list[Check]) -> tuple[str, str]:
    """What the run has shown."""
    before, after, best = (
        float(np.mean([getattr(result, name)[:, 0].mean() for result in found.values()]))
        for name in ("initial", "trained", "possible")
    )
    return (
        agreement(checks, "claims", "hold of every cell or step that they speak of"),
        f"On average over {len(found)} cells training took the best correlation of a hidden node "
        f"with the root, which no loss names, from {before:.2f} to {after:.2f}; the leaves allow "
        f"{best:.2f} at most.",
    )


def picture_of_levels(found: dict[Cell, TreeResult]) -> Figure:
    """By level, before, after and the bound: one panel for each δ, at the published shape."""
    depths, widths = {d for d, _, _ in found}, {w for _, w, _ in found}
    depth = _PUBLISHED_DEPTH if _PUBLISHED_DEPTH in depths else max(depths)
    width = _PUBLISHED_WIDTH if _PUBLISHED_WIDTH in widths else max(widths)
    shown = [cell for cell in found if cell[:2] == (depth, width)]
    figure = Figure(figsize=(3.6 * len(shown) + 0.8, 3.8), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for ax, cell in zip(panels, shown, strict=True):
        result = found[cell]
        levels = np.arange(depth)
        for values, colour, marker, label in (
            (result.possible, COLOURS[8], "_", "best possible from the leaves"),
            (result.trained, COLOURS[0], "o", "after training"),
            (result.initial, COLOURS[1], "s", "before training"),
        ):
            ax.errorbar(
                levels,
                values.mean(axis=0),
                values.std(axis=0),
                color=colour,
                marker=marker,
                capsize=3,
                label=label,
            )
        ax.set(title=f"δ = {cell[2]:g}", xlabel="level (0 is the root)", xticks=levels)
        ax.grid(alpha=0.3)
    panels[0].set_ylabel("best |correlation| of a node\nwith its latent")
    add_legend(panels[0], fontsize="small")
    figure.suptitle(f"Hidden nodes and their latents: depth {depth}, width {width}")
    return figure


def picture_of_root(found: dict[Cell, TreeResult]) -> Figure:
    """The root's correlation against width: one panel for each depth, a colour for each δ."""
    depths = sorted({depth for depth, _, _ in found})
    widths = sorted({width for _, width, _ in found})
    deltas = sorted({delta for _, _, delta in found})
    figure = Figure(figsize=(3.6 * len(depths) + 1.4, 3.8), layout="constrained")
    panels = figure.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for ax, depth in zip(panels, depths, strict=True):
        for colour, delta in zip(itertools.cycle(COLOURS[::2]), deltas, strict=False):
            cells = [found[depth, width, delta] for width in widths]
            after = np.array([c.trained[:, 0].mean() for c in cells])
            spread = np.array([c.trained[:, 0].std() for c in cells])
            before = [c.initial[:, 0].mean() for c in cells]
            ax.errorbar(
                widths, after, spread, color=colour, marker="o", capsize=3,
                label=f"δ = {delta:g}, after",
            )  # fmt: skip
            ax.plot(
                widths,
                before,
                "s--",
                color=colour,
                markersize=4,
                label="before",
            )
        ax.set_xscale("log")
        ax.minorticks_off()
        ax.set(title=f"depth {depth}", xlabel="width", xticks=widths, xticklabels=map(str, widths))
        ax.grid(alpha=0.3)
    panels[0].set_ylabel("best |correlation| of a node\nwith the root")
    add_legend(panels[-1], fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.suptitle("The root, named by no loss, before and after training")
    return figure


if __name__ == "__main__":
    define_flags()
    main(run, __doc__)
