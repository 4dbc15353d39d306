"""Which switches keep a Siamese network from collapsing: predictor, target, BatchNorm.

    python -m experiments.studies.collapse_switches --dataset=folder --data_dir=PATH

trains one view to predict what a target makes of another, without negatives, under each setting of
the switches, and prints for each the standard deviation of the normalised projections (1/sqrt(dim)
where they spread, 0 where they collapse), their effective rank, and probes of the features beside
those of the untrained encoder. Draws std.png and accuracy.png.
"""

from alphacl_jax.runs.cells import Cell
from experiments.studies import draw
from experiments.studies.report import KNN, LINEAR, Claim, Column, is_higher, is_within, table_of
from experiments.studies.study import UNTRAINED, Study, Variant, study_main

_SIMSIAM = {
    "method": "siamese", "target": "stop_gradient", "projector_depth": 3,
    "projector_output_norm": "no_affine", "predictor_constant_rate": True,
}  # fmt: skip
# BYOL's first momentum for its shortest training, of 40 epochs.
_EMA = {"method": "siamese", "target": "ema", "ema_momentum": 0.97}
_NO_NORMS = {"projector_norm": "none", "projector_output_norm": "none", "predictor_norm": "none"}

BYOL = Variant("BYOL: mlp, ema", _EMA)
SIMSIAM = Variant("SimSiam: mlp, stop-gradient", _SIMSIAM)
DIRECTPRED = Variant("DirectPred: set, ema", {**_EMA, "predictor": "directpred"})
DIRECTCOPY = Variant("DirectCopy: set, ema", {**_EMA, "predictor": "directcopy"})
LINEAR_EMA = Variant("linear, ema", {**_EMA, "predictor": "linear"})
SIMSIAM_SHARED = Variant("SimSiam without stop-gradient", {**_SIMSIAM, "target": "shared"})
NONE_EMA = Variant("BYOL without predictor", {**_EMA, "predictor": "none"})
NONE_STOP = Variant(
    "SimSiam without predictor",
    {
        name: value
        for name, value in {**_SIMSIAM, "predictor": "none"}.items()
        if name != "predictor_constant_rate"
    },
)
VARIANTS = (
    BYOL,
    SIMSIAM,
    DIRECTPRED,
    DIRECTCOPY,
    LINEAR_EMA,
    SIMSIAM_SHARED,
    NONE_EMA,
    NONE_STOP,
    Variant("BYOL without its heads' BatchNorm", {**_EMA, **_NO_NORMS}),
    Variant("SimSiam without its heads' BatchNorm", {**_SIMSIAM, **_NO_NORMS}),
    UNTRAINED,
)
# Below a tenth of 1/sqrt(dim), where the trainer warns too.
_COLLAPSED, _SPREAD = 0.1, 0.5
COLUMNS = (
    Column("spread", "std·√dim"),
    Column("embedding_rank", "rank", digits=1),
    Column("eigenspace_alignment", "alignment"),
    LINEAR,
    KNN,
)


def with_spread(cells: list[Cell]) -> list[Cell]:
    """The cells with their standard deviation as a multiple of the healthy one."""
    return [
        {**cell, "spread": cell["std"] / cell["healthy_std"]} if "std" in cell else cell
        for cell in cells
    ]


def claims(rows: dict[str, list[Cell]]) -> list[Claim]:
    """What is claimed of these methods."""
    found = []
    for variant in (BYOL, SIMSIAM, DIRECTPRED):
        name = variant.name.partition(":")[0]
        found += [
            is_within(f"{name} does not collapse", rows[variant.name], "spread", low=_SPREAD),
            is_higher(
                f"{name} beats the untrained encoder, linear probe",
                rows, variant.name, UNTRAINED.name,
            ),
            is_higher(
                f"{name} beats the untrained encoder, kNN",
                rows, variant.name, UNTRAINED.name, "knn",
            ),
        ]  # fmt: skip
    for variant in (SIMSIAM_SHARED, NONE_EMA):
        text = f"{variant.name} collapses"
        found.append(is_within(text, rows[variant.name], "spread", high=_COLLAPSED))
    text = "DirectPred is better than the learned linear predictor"
    return [*found, is_higher(text, rows, DIRECTPRED.name, LINEAR_EMA.name)]


def run(study: Study) -> None:
    """Trains all, and shows what came of it."""
    rows = {name: with_spread(cells) for name, cells in study.rows(VARIANTS).items()}
    study.finish(
        "Which switches keep a Siamese network from collapsing",
        table_of(rows, COLUMNS, "predictor, target"),
        claims(rows),
        {
            "std.png": lambda: draw.bars(
                rows, "spread", title="Spread of the projections",
                xlabel="standard deviation, as a multiple of the healthy one",
            ),
            "accuracy.png": lambda: draw.bars(
                rows, "linear_all", title="Linear probe", xlabel="accuracy, %", factor=100,
            ),
        },
    )  # fmt: skip


if __name__ == "__main__":
    study_main(
        "collapse_switches",
        __doc__,
        run,
        varies=("projector_depth", "projector_norm", "projector_output_norm"),
    )
