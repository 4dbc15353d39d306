"""Table T2 (BatchNorm, ζ = 10) comes out of some readings of its slide better than of others.

    python -m experiments.theory.nonlinearity_search [--cells=1:1,3:2,10:2]

The slide does not say how ζ scales the token embeddings, nor whether BatchNorm's variance carries
gradient, nor the learning rate. Trains chosen cells of T2 under every combination of readings, and
prints of each how many cells are within max(2σ, 0.03) of the published ones, and their mean
distance; best first.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import flags

from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.tables import align
from alphacl_jax.theory.tokens.sequences import graded_scales, half_scales
from alphacl_jax.theory.tokens.training import Recipe
from experiments.theory.checks import Check, agreement, format_checks
from experiments.theory.lab import Lab, define_lab_flags, main, settings_of
from experiments.theory.nonlinearity_cells import (
    Condition,
    Job,
    define_data_flags,
    seeds_from,
    token_setting,
    train_jobs,
)
from experiments.theory.nonlinearity_pictures import search_figure
from experiments.theory.nonlinearity_tables import TABLES, Cell, cell_checks

_TABLE = TABLES["T2"]

# Readings of ζ: the lengths of the embeddings of so many tokens.
READINGS: dict[str, Callable[[int, float], Any]] = {
    "half 1/ζ, half ζ": lambda tokens, zeta: half_scales(tokens, 1 / zeta, zeta),
    "half 1/√ζ, half √ζ": lambda tokens, zeta: half_scales(tokens, zeta**-0.5, zeta**0.5),
    "half 1, half ζ": lambda tokens, zeta: half_scales(tokens, 1.0, zeta),
    "half 1/ζ, half 1": lambda tokens, zeta: half_scales(tokens, 1 / zeta, 1.0),
    "graded 1/ζ to ζ": lambda tokens, zeta: graded_scales(tokens, 1 / zeta, zeta),
    "graded 1 to ζ": lambda tokens, zeta: graded_scales(tokens, 1.0, zeta),
}


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines this script's flags on `values`."""
    define_lab_flags("nonlinearity_search", values)
    flags.DEFINE_list(
        "cells",
        ["1:1", "1:10", "3:2", "5:2", "10:2", "10:5"],
        'P:β of the cells, each with and without BatchNorm; "all" for all of them.',
        flag_values=values,
    )
    flags.DEFINE_multi_enum(
        "reading", list(READINGS), list(READINGS), "How ζ scales embeddings.", flag_values=values
    )
    flags.DEFINE_list("learning_rates", ["0.02"], "Of SGD.", flag_values=values)
    flags.DEFINE_float("zeta", 10.0, "Non-uniformity ζ.", flag_values=values)
    define_data_flags(values)


def cells_of(names: list[str]) -> list[tuple[int, int]]:
    """P and β of each chosen cell.

    Raises:
      RunError: for one that T2 does not have.
    """
    known = {f"{c.per_location}:{c.beta}": (c.per_location, c.beta) for c in _TABLE.published}
    if names == ["all"]:
        return list(known.values())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise RunError(f"--cells={','.join(names)}: T2 has {', '.join(known)}, and all")
    return [known[name] for name in names]


def run(values: flags.FlagValues) -> None:
    """Trains the cells under every combination, and shows the combinations, best first."""
    setting = token_setting(
        values.locations, values.tokens, values.patterns, values.fixed, values.redrawn
    )
    seeds = seeds_from(values.seed, values.num_seeds)
    recipe = Recipe(batch_size=values.batch_size)
    chosen = cells_of(values.cells)
    if not values.zeta > 0:
        raise ArgumentError("zeta", f"{values.zeta:g}", "is no scale; it must be above 0")
    combinations = {}
    for reading in values.reading:
        scales = tuple(READINGS[reading](values.tokens, values.zeta).tolist())
        for text in values.learning_rates:
            rate = _learning_rate(text)
            for gradient in (True, False):
                variance = "with" if gradient else "without"
                name = f"{reading}; variance {variance} gradient; learning rate {rate:g}"
                combinations[name] = [
                    _job(p, beta, column, scales, rate, gradient)
                    for p, beta in chosen
                    for column in _TABLE.columns
                ]
    jobs = list({job for of_one in combinations.values() for job in of_one})
    lab = Lab(settings_of(values))
    lab.show(f"{len(jobs)} cells, {len(seeds)} seed(s), {values.steps:,} steps")
    results = train_jobs(jobs, seeds, setting, recipe, steps=values.steps, dim=values.dim)
    checks = {
        name: cell_checks(_TABLE, {job.cell: results[job].quality[-1] for job in of_one})
        for name, of_one in combinations.items()
    }
    order = sorted(checks, key=lambda name: (-_within(checks[name]), _distance(checks[name])))
    rows = []
    for name in order:
        row = [name]
        for column in _TABLE.columns:
            of_column = [check for check in checks[name] if check.name.endswith(f" {column}")]
            row += [f"{_within(of_column)} of {len(of_column)}", f"{_distance(of_column):.3f}"]
        rows.append([*row, f"{_within(checks[name])}", f"{_distance(checks[name]):.3f}"])
    titles = ["reading"]
    titles += [f"{c} {what}" for c in (*_TABLE.columns, "both") for what in ("within", "distance")]
    lab.show(align([titles, *rows]))
    lab.picture("search.png", search_figure({name: checks[name] for name in order}))
    lab.show(f"\nbest: {order[0]}")
    lab.show(format_checks("T2, χ̄₊", checks[order[0]]))
    ranking = [
        {"reading": name, "within": _within(checks[name]), "distance": _distance(checks[name])}
        for name in order
    ]
    lab.finish({"ranking": ranking}, checks, conclusion({name: checks[name] for name in order}))


def conclusion(checks: Mapping[str, list[Check]]) -> tuple[str, str]:
    """What the run has shown, of the checks of each reading, the nearest first."""
    best, *others = checks
    cells = agreement(checks[best], "cells", "agree with the published table")
    first = f"Of {len(checks)} reading(s) of T2 “{best}” is nearest to the slide: {cells}"
    if not others:
        return first, "There was no other reading beside it."
    last = checks[others[-1]]
    return first, (
        f"The farthest, “{others[-1]}”, has {_within(last)} of {len(last)} cells that agree, at a "
        f"mean distance of {_distance(last):.3f} where the nearest has "
        f"{_distance(checks[best]):.3f}."
    )


def _learning_rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = float("nan")
    if not 0 < rate < math.inf:
        raise RunError(f"--learning_rates: {text!r} is no finite number above 0")
    return rate


def _job(
    p: int, beta: int, column: str, scales: tuple[float, ...], rate: float, gradient: bool
) -> Job:
    normalised = column == "BN"
    return Job(
        Cell(p, beta, column),
        Condition(
            batch_norm=normalised,
            variance_gradient=normalised and gradient,  # one job where there is no variance
            scales=scales,
            learning_rate=rate,
        ),
    )


def _within(checks: list[Check]) -> int:
    return sum(check.agrees for check in checks)


def _distance(checks: list[Check]) -> float:
    """The mean of |ours − published|; infinite where a training diverged."""
    mean = float(np.mean([abs(check.difference) for check in checks]))
    return math.inf if math.isnan(mean) else mean


if __name__ == "__main__":
    define_flags()
    main(run, __doc__)
