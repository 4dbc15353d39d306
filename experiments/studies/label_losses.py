"""Losses with labels under one budget, beside α-CL, cross-entropy and no training at all.

    python -m experiments.studies.label_losses --dataset=folder --data_dir=PATH

trains one network by each loss for the same epochs, and prints probes of its features on the test
images. α-CL-direct stands there without labels, and with labels that only keep images of one class
from being negatives of each other. With --learning_rates=0.0005,0.001,0.002,0.004 each row has a
rate of its own, chosen on held-out training images; temperatures and margins are the defaults, and
chosen for none of them.
Cross-entropy trains encoder and one linear layer on one view of each image, so that it sees half
as many views in an epoch as the others. Features of losses with labels have seen the training
labels, which the probes are then fitted to. Draws linear.png and knn.png.
"""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from alphacl_jax.runs.fields import setting
from experiments.studies import choosing, draw
from experiments.studies.claims import Claim, is_higher
from experiments.studies.own_flags import Own
from experiments.studies.report import KNN, LINEAR, PROBES, Column, Rows, table_of
from experiments.studies.study import (
    CROSS_ENTROPY,
    PIXELS,
    UNTRAINED,
    Study,
    Variant,
    study_main,
)

_TEMPERATURE = 0.1
_ALPHA = {"method": "contrastive", "loss": "alpha_direct"}


def _supervised(name: str, loss: str, **more: float) -> Variant:
    return Variant(name, {"method": "supervised", "loss": loss, **more})


OUT = _supervised("SupCon L_out", "supcon_out", temperature=_TEMPERATURE)
IN = _supervised("SupCon L_in", "supcon_in", temperature=_TEMPERATURE)
NCA = _supervised("NCA, logarithm", "nca_log")
TRIPLET = _supervised("triplet, semi-hard", "triplet_semihard")
MARGIN = _supervised("margin", "margin")
ALPHA = Variant("α-CL-direct, no labels", _ALPHA)
LABELLED = Variant("α-CL-direct, labelled negatives", {**_ALPHA, "labelled": True})
# Those that may be left out.
BY_LOSS = {variant.settings["loss"]: variant for variant in (OUT, IN, NCA, TRIPLET, MARGIN)} | {
    "labelled": LABELLED
}
BESIDE = (ALPHA, CROSS_ENTROPY, UNTRAINED, PIXELS)
COLUMNS = (
    LINEAR,
    KNN,
    Column("embedding_rank", "rank", digits=1),
)


@dataclass(frozen=True)
class LabelSettings(choosing.RateSettings):
    """Which losses are trained."""

    losses: tuple[str, ...] = setting(
        tuple(BY_LOSS),
        "Losses with labels; labelled is α-CL-direct with labelled negatives.",
        choices=tuple(BY_LOSS),
    )


def claims(rows: Rows) -> list[Claim]:
    """What is claimed of these losses, and was published of SupCon on CIFAR-10 and ImageNet.

    Args:
      rows: name → cells; nothing is claimed of those that are not there.
    """
    wanted = [
        (OUT, worse, probe, key)
        for probe, key in PROBES.items()
        for worse in (ALPHA, IN, TRIPLET, MARGIN)
    ]
    published = "linear probe (published of CIFAR-10: 96.0 to 95.0 %)"
    wanted += [
        (OUT, CROSS_ENTROPY, published, LINEAR.key),
        (LABELLED, ALPHA, "linear probe", LINEAR.key),
    ]
    return [
        is_higher(f"{a.name} beats {b.name}, {probe}", rows, a.name, b.name, key)
        for a, b, probe, key in wanted
        if {a.name, b.name} <= rows.keys()
    ]


def run(study: Study) -> None:
    """Trains all, and shows what came of it."""
    own = study.own
    assert isinstance(own, LabelSettings)
    variants = [*(BY_LOSS[loss] for loss in own.losses), *BESIDE]
    rows, columns, note = choosing.rows_at_best_rates(study, variants)

    def picture(column: Column, title: str) -> Callable[[], Figure]:
        return lambda: draw.bars(rows, column, title=title, xlabel="accuracy, %")

    study.finish(
        "Losses with labels under one budget",
        f"{table_of(rows, (*COLUMNS, *columns), 'loss')}\n{note}",
        claims(rows),
        {
            "linear.png": picture(LINEAR, "Linear probe"),
            "knn.png": picture(KNN, "Nearest neighbours"),
        },
    )


if __name__ == "__main__":
    study_main(
        "label_losses",
        __doc__,
        run,
        varies=(choosing.RATE,),
        own=Own(LabelSettings, {}),
    )
