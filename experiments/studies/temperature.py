"""Which temperature is best, and whether longer training moves it.

    python -m experiments.studies.temperature --dataset=folder --data_dir=PATH

trains SimCLR, or another loss that has a temperature, at each temperature and each length. Each
length is a run of its own, whose learning rate falls to 0 at its end. Prints probes of the
features, the untrained encoder's beside them, and alignment and uniformity of the embeddings of the
last batch. Draws accuracy.png. Every setting but these two is the same in all runs: none was tuned
for a temperature.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from alphacl_jax.runs.fields import check_settings, setting
from alphacl_jax.runs.objectives import READ
from experiments.studies import draw
from experiments.studies.claims import Claim, is_higher, lost
from experiments.studies.own_flags import Own
from experiments.studies.report import (
    ALIGNMENT,
    KNN,
    LINEAR,
    UNIFORMITY,
    Rows,
    epochs_in_words,
    table_beside,
    values_of,
)
from experiments.studies.study import UNTRAINED, Study, Variant, study_main

_NAME = "temperature"
_LOSSES = tuple(loss for loss, read in READ.items() if _NAME in read)
_ONE = 1.0  # where InfoNCE has no temperature


@dataclass(frozen=True)
class TemperatureSettings:
    """What this study varies, and the loss."""

    loss: str = setting("info_nce", "The loss.", choices=_LOSSES)
    temperatures: tuple[float, ...] = setting(
        (0.05, 0.1, 0.2, 0.5, 1.0), "Temperatures of the loss.", above=0
    )
    training_epochs: tuple[int, ...] = setting(
        (5, 20), "Epochs of a run; each length is a run of its own."
    )

    def __post_init__(self) -> None:
        check_settings(self)


def variants(own: TemperatureSettings) -> dict[str, dict[str, Variant]]:
    """By length, and by temperature: both as the table has them."""
    return {
        epochs_in_words(epochs): {
            f"{temperature:g}": Variant(
                f"{own.loss}, temperature {temperature:g}, {epochs_in_words(epochs)}",
                {"loss": own.loss, _NAME: temperature, "epochs": epochs},
            )
            for temperature in sorted(own.temperatures)
        }
        for epochs in sorted(own.training_epochs)
    }


def _mean_accuracy(rows: Rows, name: str) -> float:
    """Of a row; one of which a seed diverged is never the best."""
    return -math.inf if lost(rows[name]) else float(values_of(rows[name], LINEAR.key).mean())


def claims(groups: Mapping[str, Rows]) -> list[Claim]:
    """What is claimed for any length of training: the best temperature is below 1.

    Args:
      groups: length → temperature → cells.
    """
    found = []
    for length, rows in groups.items():
        below = [name for name in rows if float(name) < _ONE]
        if f"{_ONE:g}" not in rows or not below:
            continue
        best = max(below, key=lambda name: _mean_accuracy(rows, name))
        number = f"the best of {len(below)}" if len(below) > 1 else "the only one"
        text = f"{length}: a temperature below 1 is better than 1 ({best}, {number} tried)"
        found.append(is_higher(text, rows, best, f"{_ONE:g}", among=len(below)))
    return found


def run(study: Study) -> None:
    """Trains all, and shows what came of it."""
    own = study.own
    assert isinstance(own, TemperatureSettings)
    grid = variants(own)
    cells = study.rows([*(v for of in grid.values() for v in of.values()), UNTRAINED])
    groups = {
        length: {name: cells[variant.name] for name, variant in of.items()}
        for length, of in grid.items()
    }
    beside = {
        length: {**rows, UNTRAINED.name: cells[UNTRAINED.name]} for length, rows in groups.items()
    }
    curves = {
        length: [(float(name), values_of(of, LINEAR.key)) for name, of in rows.items()]
        for length, rows in groups.items()
    }
    study.finish(
        f"Temperature and length of training: {own.loss}",
        f"{table_beside(beside, (LINEAR, KNN), _NAME)}\n\n"
        f"{table_beside(groups, (ALIGNMENT, UNIFORMITY), _NAME)}",
        claims(groups),
        {
            "accuracy.png": lambda: draw.lines(
                curves, title=f"Linear probe, {own.loss}", xlabel=_NAME, ylabel="accuracy, %",
                factor=LINEAR.factor, log_x=True,
            ),
        },
    )  # fmt: skip


OWN = Own(TemperatureSettings, {"temperatures": (0.1, 1.0), "training_epochs": (1, 2)})

if __name__ == "__main__":
    study_main("temperature", __doc__, run, varies=("epochs",), own=OWN)
