"""Larger batches or more negatives: the batch size, and a queue at one batch size.

    python -m experiments.studies.batch_size --dataset=folder --data_dir=PATH

trains InfoNCE with several batch sizes B for the same epochs, each anchor having 2B - 2 negatives;
and the method 'queue' at one batch size with several queues, which changes the number of negatives
and nothing else. A single one of --learning_rates is that of a batch of 128: for Adam it is
multiplied by sqrt(B/128), for SGD and LARS by B/128. Several are tried as they are in each row,
which has the one that is best on a fifth of the training images, held out. Larger batches take
fewer steps. The temperature is the same everywhere; neither it nor the queue's moving average was
tuned.

Prints probes of the features, the untrained encoder's beside them, and the lower bound log N - L of
the views' mutual information on the last batch, N being the negatives and the positive; it is at
most log N, and at most 2/temperature. Draws accuracy.png and bound.png.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.cells import Cell
from alphacl_jax.runs.fields import setting
from alphacl_jax.runs.settings import OptimizerSettings
from experiments.studies import choosing, draw
from experiments.studies.claims import Claim, is_higher
from experiments.studies.own_flags import Own
from experiments.studies.report import (
    KNN,
    LINEAR,
    Column,
    Rows,
    epochs_in_words,
    table_of,
    values_of,
)
from experiments.studies.study import UNTRAINED, Study, Variant, study_main

_REFERENCE = 128  # the batch size that a single one of --learning_rates is for
_POWERS = {"adam": 0.5, "adamw": 0.5, "sgd": 1.0, "lars": 1.0}

NEGATIVES = Column("negatives", "negatives", digits=0, chosen=True)
STEPS = Column("step", "steps", digits=0, chosen=True)
RATE = Column("learning_rate", "learning rate, 1e-3", 1000, chosen=True)
BOUND = Column("mutual_information_bound", "bound, nats")
LOG_N = Column("log_n", "log N", chosen=True)
COLUMNS = (NEGATIVES, STEPS, RATE, LINEAR, KNN, BOUND, LOG_N)


@dataclass(frozen=True)
class BatchSettings(choosing.RateSettings):
    """What this study varies."""

    batches: tuple[int, ...] = setting((32, 64, 128, 256, 512), "Batch sizes.", lower=2)
    queue_batch: int = setting(64, "The batch size of the runs with a queue.", lower=2)
    queues: tuple[int, ...] = setting(
        (128, 512, 2048), "Keys of a queue: multiples of two batches.", lower=2
    )
    temperature: float = setting(0.5, "Of InfoNCE, in all runs.", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        keys = 2 * self.queue_batch
        uneven = [size for size in self.queues if size % keys]
        if uneven:
            problem = f"must be multiples of {keys}, the keys of one batch of {self.queue_batch}"
            raise ArgumentError("queues", ",".join(map(str, uneven)), problem)


def scaled_rate(rate: float, batch_size: int, optimizer: str) -> float:
    """The learning rate of a batch size, from that of a batch of 128."""
    return float(rate * (batch_size / _REFERENCE) ** _POWERS[optimizer])


def variants(own: BatchSettings, optimizer: OptimizerSettings) -> dict[str, dict[str, Variant]]:
    """By curve, of several batch sizes and of several queues, and by their name in the table."""

    def variant(name: str, batch_size: int, **more: object) -> Variant:
        rate = scaled_rate(own.learning_rates[0], batch_size, optimizer.optimizer)
        settings = {
            "loss": "info_nce", "temperature": own.temperature, "batch_size": batch_size,
            "learning_rate": rate,
        }  # fmt: skip
        # Of another temperature it is another run, in a folder of its own.
        return Variant(f"{name}, temperature {own.temperature:g}", {**settings, **more})

    at = f"at batch {own.queue_batch}"
    names = {f"queue of {size} {at}": size for size in sorted(own.queues)}
    return {
        "batch": {f"batch {size}": variant(f"batch {size}", size) for size in sorted(own.batches)},
        f"queue {at}": {
            name: variant(name, own.queue_batch, method="queue", queue_size=size)
            for name, size in names.items()
        },
    }


def with_negatives(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of runs with what follows from their settings."""
    return [{**cell, **_of_settings(cell["settings"])} for cell in cells]


def _of_settings(own: Mapping[str, Any]) -> Cell:
    negatives = own.get("queue_size", 2 * own["batch_size"] - 2)
    return {NEGATIVES.key: negatives, RATE.key: own[RATE.key], LOG_N.key: math.log(negatives + 1)}


def claims(curves: Mapping[str, Rows]) -> list[Claim]:
    """What is claimed of batches and of negatives.

    Args:
      curves: the two curves, first that of batches; each name → cells, from few negatives to many.
    """
    found = []
    for rows, more in zip(curves.values(), ("larger batches", "more negatives"), strict=True):
        names = list(rows)
        few, many = names[0], names[-1]
        if few != many:
            text = f"{more} are better: {many}, over {few}"
            found.append(is_higher(text, rows, many, few))
    return found


def _points(rows: Rows, x: Column, y: Column) -> list[draw.Point]:
    """The points of a curve, whose x is that of a row."""
    return [(float(values_of(cells, x.key)[0]), values_of(cells, y.key)) for cells in rows.values()]


def _trained(
    study: Study, grid: Mapping[str, Mapping[str, Variant]]
) -> tuple[Mapping[str, list[Cell]], tuple[Column, ...], str]:
    """The cells by the variants' names, and what is to be shown of the choice of their rates."""
    own, optimizer = study.own, study.settings({}).optimizer.optimizer
    asked = [*(v for of in grid.values() for v in of.values()), UNTRAINED]
    if len(own.learning_rates) > 1:
        return choosing.rows_at_best_rates(study, asked)
    scaling = f"(batch / {_REFERENCE})^{_POWERS[optimizer]:g}"
    note = f"learning rate {own.learning_rates[0]:g} x {scaling}: it was chosen for no row"
    return study.rows(asked), (), note


def run(study: Study) -> None:
    """Trains all, and shows what came of it."""
    own, optimizer = study.own, study.settings({}).optimizer
    assert isinstance(own, BatchSettings)
    images, what = len(study.train[1]), "training images"
    if len(own.learning_rates) > 1:
        images, what = choosing.kept_of(images), f"{what} that are not held out"
    for flag, size in (("batches", max(own.batches)), ("queue_batch", own.queue_batch)):
        if size > images:
            raise ArgumentError(flag, size, f"is more than the {what}, {images:,}")
    grid = variants(own, optimizer)
    cells, columns, note = _trained(study, grid)
    curves = {
        curve: {name: with_negatives(cells[variant.name]) for name, variant in of.items()}
        for curve, of in grid.items()
    }
    rows = {name: of for curve in curves.values() for name, of in curve.items()}
    rows[UNTRAINED.name] = cells[UNTRAINED.name]
    accuracy = {name: _points(of, NEGATIVES, LINEAR) for name, of in curves.items()}
    bound = {name: _points(of, LOG_N, BOUND) for name, of in curves.items()}
    ends = sorted({x for points in bound.values() for x, _ in points})
    bound["log N"] = [(x, np.array([x])) for x in ends]
    shared = (
        f"InfoNCE, temperature {own.temperature:g}, {epochs_in_words(optimizer.epochs)}, "
        f"{optimizer.optimizer}"
    )
    study.finish(
        "Batch size and number of negatives",
        f"{shared}\n\n{table_of(rows, (*COLUMNS, *columns))}\n{note}",
        claims(curves),
        {
            "accuracy.png": lambda: draw.lines(
                accuracy, title="Linear probe", xlabel="negatives of an anchor",
                ylabel="accuracy, %", factor=LINEAR.factor, log_x=True,
            ),
            "bound.png": lambda: draw.lines(
                bound, title="Lower bound of the mutual information, last batch",
                xlabel="log N", ylabel="nats",
            ),
        },
    )  # fmt: skip


OWN = Own(BatchSettings, {"batches": (16, 32, 64), "queue_batch": 16, "queues": (32, 128)})

if __name__ == "__main__":
    study_main("batch_size", __doc__, run, varies=("batch_size", choosing.RATE), own=OWN)
