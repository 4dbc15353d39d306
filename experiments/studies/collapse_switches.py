"""Which switches keep a Siamese network from collapsing: predictor, target, BatchNorm.

    python -m experiments.studies.collapse_switches --dataset=folder --data_dir=PATH

trains one view to predict what a target makes of another, without negatives, under each setting of
the switches, and prints for each the standard deviation of the normalised projections (1/sqrt(dim)
where they spread, 0 where they collapse), their effective rank, and probes of the features beside
those of the untrained encoder. Draws std.png and accuracy.png.

One optimiser serves all (--optimizer, where BYOL was published with LARS and the others with SGD),
and nothing was tuned for any of them. The momentum of a moving average starts at 0.97.
"""

from alphacl_jax.methods.spread import COLLAPSED
from alphacl_jax.runs.cells import Cell
from experiments.studies import draw
from experiments.studies.claims import Claim, is_higher, is_within
from experiments.studies.report import KNN, LINEAR, PROBES, SPREAD, Column, Rows, table_of
from experiments.studies.study import UNTRAINED, Study, Variant, study_main

# BYOL's first momentum for its shortest training, of 40 epochs.
_EMA = {"method": "siamese", "target": "ema", "ema_momentum": 0.97}
_NO_NORMS = {"projector_norm": "none", "projector_output_norm": "none", "predictor_norm": "none"}

BYOL, SIMSIAM = "BYOL: mlp, ema", "SimSiam: mlp, stop-gradient"
DIRECTPRED, LINEAR_EMA = "DirectPred: set, ema", "linear, ema"
SIMSIAM_SHARED, BYOL_NONE = "SimSiam without stop-gradient", "BYOL without predictor"


def variants(projector_dim: int) -> list[Variant]:
    """Every setting of the switches, for embeddings of so many dimensions."""
    simsiam = {
        "method": "siamese", "target": "stop_gradient", "projector_depth": 3,
        "projector_output_norm": "no_affine",
    }  # fmt: skip
    # A bottleneck of a quarter of the width, at a constant rate, is SimSiam's.
    mlp = {
        **simsiam,
        "predictor_hidden": max(1, projector_dim // 4),
        "predictor_constant_rate": True,
    }
    return [
        Variant(BYOL, _EMA),
        Variant(SIMSIAM, mlp),
        Variant(DIRECTPRED, {**_EMA, "predictor": "directpred"}),
        Variant("DirectCopy: set, ema", {**_EMA, "predictor": "directcopy"}),
        Variant(LINEAR_EMA, {**_EMA, "predictor": "linear"}),
        Variant(SIMSIAM_SHARED, {**mlp, "target": "shared"}),
        Variant(BYOL_NONE, {**_EMA, "predictor": "none"}),
        Variant("SimSiam without predictor", {**simsiam, "predictor": "none"}),
        Variant("BYOL without its heads' BatchNorm", {**_EMA, **_NO_NORMS}),
        Variant("SimSiam without its heads' BatchNorm", {**mlp, **_NO_NORMS}),
        UNTRAINED,
    ]


_HEALTHY = 0.5  # of 1/sqrt(dim); below `COLLAPSED` of it the trainer warns, too
COLUMNS = (
    SPREAD,
    Column("embedding_rank", "rank", digits=1),
    Column("eigenspace_alignment", "alignment"),
    LINEAR,
    KNN,
)


def with_spread(cells: list[Cell]) -> list[Cell]:
    """The cells with their standard deviation as a multiple of the healthy one."""
    return [
        {**cell, SPREAD.key: cell["std"] / cell["healthy_std"]} if "std" in cell else cell
        for cell in cells
    ]


def claims(rows: Rows) -> list[Claim]:
    """What is claimed of these methods."""
    found = []
    for row in (BYOL, SIMSIAM, DIRECTPRED):
        name = row.partition(":")[0]
        found.append(is_within(f"{name} does not collapse", rows[row], SPREAD.key, low=_HEALTHY))
        for probe, key in PROBES.items():
            text = f"{name} beats the untrained encoder, {probe}"
            found.append(is_higher(text, rows, row, UNTRAINED.name, key))
    for row in (SIMSIAM_SHARED, BYOL_NONE):
        found.append(is_within(f"{row} collapses", rows[row], SPREAD.key, high=COLLAPSED))
    text = "DirectPred is better than the learned linear predictor"
    return [*found, is_higher(text, rows, DIRECTPRED, LINEAR_EMA)]


def run(study: Study) -> None:
    """Trains all, and shows what came of it."""
    wanted = variants(study.settings({}).model.projector_dim)
    rows = {name: with_spread(cells) for name, cells in study.rows(wanted).items()}
    study.finish(
        "Which switches keep a Siamese network from collapsing",
        table_of(rows, COLUMNS, "predictor, target"),
        claims(rows),
        {
            "std.png": lambda: draw.bars(
                rows, SPREAD, title="Spread of the projections",
                xlabel="standard deviation, as a multiple of the healthy one",
            ),
            "accuracy.png": lambda: draw.bars(
                rows, LINEAR, title="Linear probe", xlabel="accuracy, %",
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
