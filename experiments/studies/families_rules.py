"""Every loss of the family and every rule for α, under one budget.

    python -m experiments.studies.families_rules --dataset=folder --data_dir=PATH

trains the same network with each of --losses for the same epochs and prints probes of its features,
those of the untrained encoder beside them, and alignment and uniformity of the embeddings of the
last batch. Every setting of a loss has its default and one learning rate serves all: none was
tuned, and each may do better with settings of its own. Draws accuracy.png.
"""

from dataclasses import dataclass

from alphacl_jax.runs.fields import check_settings, setting
from alphacl_jax.runs.settings import LOSSES
from experiments.studies import draw
from experiments.studies.claims import Claim, is_higher
from experiments.studies.own_flags import Own
from experiments.studies.report import (
    ALIGNMENT,
    KNN,
    LINEAR,
    UNIFORMITY,
    Rows,
    epochs_in_words,
    table_of,
)
from experiments.studies.study import UNTRAINED, Study, Variant, study_main

_QUADRATIC = "alpha_uniform"
_BETTER = ("alpha_direct", "info_nce")
COLUMNS = (LINEAR, KNN, ALIGNMENT, UNIFORMITY)


@dataclass(frozen=True)
class FamilySettings:
    """What this study varies."""

    losses: tuple[str, ...] = setting(LOSSES, "Families and rules.", choices=LOSSES)

    def __post_init__(self) -> None:
        check_settings(self)


def variants(own: FamilySettings) -> list[Variant]:
    """A run of each loss, in their order."""
    return [Variant(loss, {"loss": loss}) for loss in own.losses]


def claims(rows: Rows) -> list[Claim]:
    """What is claimed of the losses: the quadratic one is worse than the others."""
    return [
        is_higher(
            f"{_QUADRATIC}, the quadratic loss, is lower than {better}", rows, better, _QUADRATIC
        )
        for better in _BETTER
        if better in rows and _QUADRATIC in rows
    ]


def run(study: Study) -> None:
    """Trains all, and shows what came of it."""
    own = study.own
    assert isinstance(own, FamilySettings)
    rows = study.rows([*variants(own), UNTRAINED])
    length = epochs_in_words(study.settings({}).optimizer.epochs)
    study.finish(
        "Families and rules under one budget",
        f"{length}; the settings of each loss are its defaults, none tuned\n\n"
        f"{table_of(rows, COLUMNS, 'loss')}",
        claims(rows),
        {
            "accuracy.png": lambda: draw.bars(
                rows, LINEAR, title=f"Linear probe after {length}, nothing tuned",
                xlabel="accuracy, %",
            ),
        },
    )  # fmt: skip


OWN = Own(FamilySettings, {"losses": (*_BETTER, _QUADRATIC)})

if __name__ == "__main__":
    study_main("families_rules", __doc__, run, own=OWN)
