"""The learning rate of each variant, chosen on training images that are held out.

Rows that share one rate compare the losses only as far as that rate suits each of them alike. With
`--learning_rates=0.001,0.002,0.004` each trained variant has its own: it is trained at each rate on
four fifths of the training images, with a seed that no row has, and the rate of the best linear
probe of the other fifth is the one that all its seeds are then trained with, on all the training
images. The test images are not looked at. Nothing but the rate is chosen.
"""

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.data.sources import Dataset
from alphacl_jax.runs.cells import Cell
from alphacl_jax.runs.common_settings import LARGEST_SEED
from alphacl_jax.runs.fields import check_settings, setting
from alphacl_jax.runs.settings import OptimizerSettings
from experiments.studies.report import LINEAR, WIDTH, Column
from experiments.studies.study import Measure, Study, Variant, to_stderr

RATE = "learning_rate"
_TUNED = ("trained", "cross_entropy")
_PARTS = 5  # of which one is held out
_SEEDS = range(LARGEST_SEED, LARGEST_SEED + 1)
_IMAGES = "four fifths of the training images, tested on the other"


class Chosen(NamedTuple):
    """What came of it.

    Attributes:
      rows: as of `Study.rows`, by the variants' own names; the cells say the rate and what was
        tried.
      columns: that show it.
      note: what the columns mean, in words.
    """

    rows: dict[str, list[Cell]]
    columns: tuple[Column, ...]
    note: str


@dataclasses.dataclass(frozen=True)
class RateSettings:
    """The rates to be tried."""

    learning_rates: tuple[float, ...] = setting(
        (OptimizerSettings().learning_rate,),
        "Learning rates: one for all rows, or several, of which each row has the one that is best "
        "on a fifth of the training images, held out.",
        above=0,
    )

    def __post_init__(self) -> None:
        check_settings(self)


def rows_at_best_rates(
    study: Study, variants: Sequence[Variant], measure: Measure | None = None
) -> Chosen:
    """The rows of a study, each trained at its own learning rate where several are to be tried.

    Args:
      study: whose own settings are `RateSettings`.
      variants, measure: as of `Study.rows`.
    """
    rates = sorted(study.own.learning_rates)
    if len(rates) == 1:
        note = f"learning rate {rates[0]:g} in every row that was trained: it was chosen for none"
        given = {variant.name: rates[0] for variant in variants if variant.kind in _TUNED}
        return Chosen(_rows_at(study, variants, given, measure), (), note)
    scores = _scores(study, [variant for variant in variants if variant.kind in _TUNED], rates)
    chosen = {name: rates[best_of(found)] for name, found in scores.items()}
    said = {name: said_of(rates, found) for name, found in scores.items()}
    rows = {
        name: [{**cell, **said.get(name, {})} for cell in cells]
        for name, cells in _rows_at(study, variants, chosen, measure).items()
    }
    tried = ", ".join(f"{rate:g}" for rate in rates)
    columns = (Column("rate", "rate"), Column("tried", f"held out at {tried}, %"))
    return Chosen(rows, columns, _NOTE)


_NOTE = textwrap.fill(
    "rate: the learning rate of the best linear probe of the held-out fifth of the training "
    "images, after one run on the other four fifths, whose accuracies stand beside it; * the "
    "lowest or the highest that was tried: a better one may lie beyond",
    WIDTH,
)


def best_of(scores: Sequence[float]) -> int:
    """Which score is the highest, the first of equal ones; NaN is that of a run that diverged."""
    return int(np.argmax(np.nan_to_num(scores, nan=-1.0)))


def said_of(rates: Sequence[float], scores: Sequence[float]) -> dict[str, str]:
    """The rate that was chosen, marked where it is an end of the list, and all scores in %."""
    best = best_of(scores)
    mark = "*" if best in (0, len(rates) - 1) else ""
    shown = ("diverged" if math.isnan(score) else f"{100 * score:.1f}" for score in scores)
    return {"rate": f"{rates[best]:g}{mark}", "tried": " ".join(shown)}


def kept_of(images: int) -> int:
    """How many of the training images are not held out."""
    return images - images // _PARTS


def held_out(dataset: Dataset, images: np.ndarray, labels: np.ndarray) -> Dataset:
    """The data set of four fifths of the training images, the other fifth as its test images.

    Args:
      dataset: whose name and classes it has.
      images, labels: the training images, of which always the same are held out.
    """
    order = np.random.default_rng(0).permutation(len(images))
    first_kept = len(images) - kept_of(len(images))
    out, kept = (np.sort(part) for part in np.split(order, [first_kept]))
    parts = dataset_from_arrays(
        images[kept], labels[kept], images[out], labels[out], dataset.class_names, dataset.name
    )
    return dataclasses.replace(parts, title=dataset.title)


def _scores(
    study: Study, variants: Sequence[Variant], rates: Sequence[float]
) -> dict[str, list[float]]:
    """The held-out accuracy of each variant at each rate."""
    to_stderr("learning rates are chosen on training images that are held out")
    smaller = study.on(held_out(study.dataset, *study.train), _SEEDS, _IMAGES)
    cells = smaller.rows([_at(variant, rate) for variant in variants for rate in rates])

    def score(variant: Variant, rate: float) -> float:
        return float(cells[_at(variant, rate).name][0].get(LINEAR.key, math.nan))

    return {variant.name: [score(variant, rate) for rate in rates] for variant in variants}


def _rows_at(
    study: Study,
    variants: Sequence[Variant],
    rates: Mapping[str, float],
    measure: Measure | None,
) -> dict[str, list[Cell]]:
    """The rows, by the variants' own names, of those with a rate trained at it."""
    at = {v.name: _at(v, rates[v.name]) if v.name in rates else v for v in variants}
    found = study.rows(list(at.values()), measure)
    return {name: found[variant.name] for name, variant in at.items()}


def _at(variant: Variant, rate: float) -> Variant:
    """The variant at a rate, of which its name tells, and with it its run folder."""
    settings: dict[str, Any] = {**variant.settings, RATE: rate}
    return dataclasses.replace(
        variant, name=f"{variant.name}, learning rate {rate:g}", settings=settings
    )
