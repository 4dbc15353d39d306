"""A nonlinear two-layer network finds many patterns by contrastive learning, a linear one cannot.

    python -m experiments.theory.nonlinearity [--table=T1|T2|T3] [--quick]

Trains the published grids of a two-layer network with filters of their own at each location, on
sequences of tokens with patterns and wildcards, and prints each table beside the published one:
T1 (InfoNCE, linear against ReLU), T2 (BatchNorm on and off, embeddings of unequal size), T3
(quadratic loss). Each entry is χ̄₊, how well the tokens of the patterns are met by filters: mean ±
standard deviation over seeds. Then what the slides claim of each table, with a verdict.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from absl import flags

from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.tables import align
from alphacl_jax.theory.tokens.network import info_nce_loss, quadratic_loss
from alphacl_jax.theory.tokens.sequences import TokenSetting, half_scales
from alphacl_jax.theory.tokens.training import Recipe
from experiments.theory.checks import Check, agreement, format_checks
from experiments.theory.lab import Lab, define_lab_flags, main, settings_of
from experiments.theory.nonlinearity_cells import (
    Condition,
    Job,
    Result,
    define_data_flags,
    seeds_from,
    token_setting,
    train_jobs,
)
from experiments.theory.nonlinearity_pictures import filters_figure, tables_figure
from experiments.theory.nonlinearity_tables import (
    BETAS,
    PER_LOCATION,
    TABLES,
    Cell,
    Values,
    cell_checks,
    claims,
    format_layout,
)

_QUICK_CELLS = ((1, 1), (3, 1), (3, 10), (10, 1))  # P and β: enough for each kind of claim
_QUICK_SEEDS, _QUICK_STEPS = 2, 1000
_PICTURED = (3, 5)  # P and β
_COMPARED = (5, 2)  # P and β of the cell that PyTorch trains too
_CLAIMS = ", claims"  # after a table's name, the title of what the slides say of it


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    define_lab_flags("nonlinearity", values)
    flags.DEFINE_enum("table", "all", ["all", *TABLES], "Which table.", flag_values=values)
    flags.DEFINE_bool(
        "quick",
        False,
        f"A few cells (and not those of --per_location and --betas), with at most {_QUICK_SEEDS} "
        f"seeds and {_QUICK_STEPS:,} steps.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "per_location", [str(p) for p in PER_LOCATION], "P: tokens of patterns at a location.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_list(
        "betas", [str(beta) for beta in BETAS], "β: filters for each of these tokens.",
        flag_values=values,
    )  # fmt: skip
    define_data_flags(values)
    flags.DEFINE_float("learning_rate", 0.02, "Of SGD.", flag_values=values)
    flags.DEFINE_float(
        "zeta",
        10.0,
        "Non-uniformity in T2: half of the token embeddings times 1/ζ, half times ζ.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "compare_torch",
        False,
        "Also train one cell with one seed by a PyTorch loop, and show both times.",
        flag_values=values,
    )


def condition_of(
    table: str, column: str, *, tokens: int, zeta: float, learning_rate: float
) -> Condition:
    """The condition of a table's column.

    In T2 half of the embeddings are scaled by 1/ζ and half by ζ, and BatchNorm's variance carries
    gradient: `experiments.theory.nonlinearity_search` compares these with other readings of the
    slides.

    Raises:
      ArgumentError: zeta or learning_rate <= 0.
    """
    if not learning_rate > 0:
        raise ArgumentError("learning_rate", f"{learning_rate:g}", "must be above 0")
    if not zeta > 0:
        raise ArgumentError("zeta", f"{zeta:g}", "is no scale; it must be above 0")
    if table == "T2":
        return Condition(
            batch_norm=column == "BN",
            variance_gradient=True,
            scales=tuple(half_scales(tokens, 1 / zeta, zeta).tolist()),
            learning_rate=learning_rate,
        )
    return Condition(linear=column == "Linear", learning_rate=learning_rate)


def chosen(quick: bool, per_location: Sequence[str], betas: Sequence[str]) -> list[tuple[int, int]]:
    """P and β of the cells that the flags choose.

    Raises:
      RunError: for a P or β that the published tables do not have.
    """
    if quick:
        return list(_QUICK_CELLS)
    return [
        (p, beta)
        for p in _numbers("per_location", per_location, PER_LOCATION)
        for beta in _numbers("betas", betas, BETAS)
    ]


def cells_of(table: str, pairs: Sequence[tuple[int, int]]) -> list[Cell]:
    """The cells of a table at each P and β, in both columns."""
    return [Cell(*pair, column) for pair in pairs for column in TABLES[table].columns]


def _numbers(name: str, given: Sequence[str], known: tuple[int, ...]) -> list[int]:
    unknown = [text for text in given if text not in map(str, known)]
    if unknown or not given:
        raise RunError(
            f"--{name}={','.join(given)}: the published tables have {', '.join(map(str, known))}"
        )
    return [int(text) for text in given]


def run(values: flags.FlagValues) -> None:
    """Trains, shows and writes the tables of the flags."""
    setting = token_setting(
        values.locations, values.tokens, values.patterns, values.fixed, values.redrawn
    )
    seeds, steps = seeds_from(values.seed, values.num_seeds), values.steps
    if values.quick:
        seeds, steps = seeds[:_QUICK_SEEDS], min(steps, _QUICK_STEPS)
    names = list(TABLES) if values.table == "all" else [values.table]
    # All is made before anything is trained, so that what is impossible is refused at once.
    recipes = {
        name: Recipe(
            batch_size=values.batch_size,
            loss=quadratic_loss if name == "T3" else info_nce_loss,
        )
        for name in names
    }
    pairs = chosen(values.quick, values.per_location or [], values.betas or [])
    jobs = {
        name: {
            cell: Job(
                cell,
                condition_of(
                    name,
                    cell.column,
                    tokens=values.tokens,
                    zeta=values.zeta,
                    learning_rate=values.learning_rate,
                ),
            )
            for cell in cells_of(name, pairs)
        }
        for name in names
    }
    torch_loop = _torch_loop(setting) if values.compare_torch else None
    lab = Lab(settings_of(values))
    if values.quick:
        lab.show("--quick shows how it works: most cells agree with the slides later in training")
    found: dict[str, Values] = {}
    checks: dict[str, list[Check]] = {}
    numbers: dict[str, Any] = {}
    for name in names:
        lab.show(f"\n{name}: {TABLES[name].title}; {len(seeds)} seed(s), {steps:,} steps")
        started = time.monotonic()
        trained = train_jobs(
            list(jobs[name].values()), seeds, setting, recipes[name], steps=steps, dim=values.dim
        )
        seconds = time.monotonic() - started
        results = {cell: trained[job] for cell, job in jobs[name].items()}
        _require_finite(results)
        found[name] = {cell: result.quality[-1] for cell, result in results.items()}
        checks |= show_table(lab, name, results, found[name], found.get("T1"))
        lab.show(f"{len(results)} cells, {len(seeds)} seed(s) each: {seconds:.0f} s")
        numbers[name] = {"seconds": seconds, "cells": _as_json(results)}
    if torch_loop is not None:
        condition = Condition(learning_rate=values.learning_rate)
        numbers["beside PyTorch"] = _compare(
            lab, torch_loop, setting, Recipe(batch_size=values.batch_size), condition, steps, seeds
        )
    lab.finish(numbers, checks, conclusion(checks))


def show_table(
    lab: Lab, name: str, results: Mapping[Cell, Result], found: Values, info_nce: Values | None
) -> dict[str, list[Check]]:
    """Shows a table with its claims and pictures, and returns its checks by title."""
    table = TABLES[name]
    cells, said = cell_checks(table, found), claims(name, found, info_nce)
    lab.show(format_checks(f"{name}, χ̄₊", cells))
    lab.show(f"\nour {name} in the slide's layout (* differs):")
    lab.show(format_layout(table, found))
    lab.show("\n" + format_checks("the slides' claims", said, expected=""))
    lab.picture(f"{name}.png", tables_figure(f"{name}, {table.title}", table, found))
    lab.picture(f"{name}-filters.png", filters_figure(_pictured(results)))
    return {name: cells, f"{name}{_CLAIMS}": said}


def conclusion(checks: Mapping[str, Sequence[Check]]) -> tuple[str, str]:
    """What the run has shown, of cells and of the slides' claims."""
    cells: list[Check] = []
    said: list[Check] = []
    for title, rows in checks.items():
        name = title.removesuffix(_CLAIMS)
        named = [replace(check, name=f"{name} {check.name}") for check in rows]
        (said if title.endswith(_CLAIMS) else cells).extend(named)
    return (
        agreement(cells, "cells", "agree with the published tables"),
        agreement(said, "claims of the slides", "hold of our values"),
    )


def _require_finite(results: Mapping[Cell, Result]) -> None:
    diverged = [str(cell) for cell, result in results.items() if np.isnan(result.quality).any()]
    if diverged:
        raise RunError(f"weights became NaN in {', '.join(diverged)}: lower --learning_rate")


def _pictured(results: Mapping[Cell, Result]) -> dict[Cell, Result]:
    """The results of one P and β: those nearest to `_PICTURED`."""

    def distance(cell: Cell) -> tuple[int, int]:
        return abs(cell.per_location - _PICTURED[0]), abs(cell.beta - _PICTURED[1])

    nearest = min(map(distance, results))
    return {cell: result for cell, result in results.items() if distance(cell) == nearest}


def _as_json(results: Mapping[Cell, Result]) -> dict[str, Any]:
    return {
        str(cell): {
            "steps": list(result.steps),
            "quality": result.quality.tolist(),
            "seconds_per_run": result.seconds,
        }
        for cell, result in results.items()
    }


def _torch_loop(setting: TokenSetting) -> Any:
    if setting.tokens < _COMPARED[0]:
        raise RunError(
            f"--compare_torch trains a cell with P={_COMPARED[0]}, for which "
            f"--tokens={setting.tokens} is too small"
        )
    try:
        from experiments.theory import nonlinearity_torch
    except ImportError as error:
        raise RunError(
            f"--compare_torch needs PyTorch ({error}): pip install -e '.[bench]', or leave it out"
        ) from error
    return nonlinearity_torch.train


def _compare(
    lab: Lab,
    torch_loop: Callable[..., float],
    setting: TokenSetting,
    recipe: Recipe,
    condition: Condition,
    steps: int,
    seeds: range,
) -> dict[str, Any]:
    """One cell by PyTorch and by us, one after the other; both with one-hot tokens."""
    cell = Cell(*_COMPARED, "ReLU")
    job = Job(cell, condition)
    started = time.perf_counter()
    theirs = torch_loop(
        setting,
        recipe,
        per_location=cell.per_location,
        filters=cell.filters,
        steps=steps,
        learning_rate=condition.learning_rate,
        seed=seeds[0],
    )
    rows: list[tuple[str, int, float, float]]
    rows = [("PyTorch loop", 1, time.perf_counter() - started, theirs)]
    for name, of_ours in (("ours, one seed", seeds[:1]), ("ours, all seeds", seeds)):
        started = time.perf_counter()
        found = train_jobs([job], of_ours, setting, recipe, steps=steps)[job].quality[-1]
        rows.append((name, len(of_ours), time.perf_counter() - started, float(found.mean())))
    lab.show(f"\n{cell}, {steps:,} steps; ours with compilation:")
    titles = ["", "seeds", "seconds", "seconds a seed", "χ̄₊"]
    cells = [[name, f"{n}", f"{s:.1f}", f"{s / n:.2f}", f"{q:.3f}"] for name, n, s, q in rows]
    lab.show(align([titles, *cells]))
    return {name: {"seconds": s, "seeds": n, "quality": quality} for name, n, s, quality in rows}


if __name__ == "__main__":
    define_flags()
    main(run, __doc__)
