"""How far contrastive predictive coding should predict, and against which negatives.

    pip install -e '.[sequences]'
    python -m experiments.sequences.cpc_ablations

trains CPC on nine speakers' vowels, as `experiments.sequences.speakers` does, for each number of
steps that are predicted, with negatives of other recordings; and for each choice of negatives, at
one number of steps. Two of these, same and same_excluded, are told by who speaks, which CPC is not
to know: they ask what of a speaker is learned where all negatives are the speaker's own.

Each row has its own learning rate, chosen on training recordings that are held out. Prints probes
of the speaker from mean contexts, as `experiments.sequences.speakers` does; how often the next step
and the furthest one is picked out of the candidates on test recordings, and their number, which
negatives differ in; and what is said to the claims, which are of five labelled utterances of each
speaker. Draws steps.png, negatives.png and accuracy_by_k.png.
"""

import dataclasses
import math
from collections.abc import Sequence

from alphacl_jax.errors import ArgumentError
from alphacl_jax.objectives.predictive import NEGATIVES
from alphacl_jax.runs.cells import Cell
from alphacl_jax.runs.fields import setting
from alphacl_jax.training.mesh import data_mesh
from experiments.sequences import vowels
from experiments.sequences.cpc_rows import RATES, CPCRows, by_k
from experiments.sequences.experiment import Experiment, experiment_main
from experiments.sequences.probes import FIFTHS
from experiments.sequences.vowels import FIVE, LINEAR, TWO, VowelSettings
from experiments.studies import draw
from experiments.studies.claims import Claim, is_higher, lost
from experiments.studies.own_flags import Own
from experiments.studies.report import Column, Rows, table_of, values_of

EXCLUDED = "mixed_excluded"
UNTRAINED = "untrained network"
COLUMNS = (
    TWO,
    FIVE,
    LINEAR,
    Column("first", "picked out at 1, %", 100, 1),
    Column("last", "at K, %", 100, 1),
    Column("candidates", "candidates", digits=0, chosen=True),
    *RATES,
)


@dataclasses.dataclass(frozen=True)
class AblationSettings(VowelSettings):
    """What is varied."""

    predicted_steps: tuple[int, ...] = setting((1, 2, 4, 8), "K: how many steps are predicted.")
    negatives: tuple[str, ...] = setting(
        tuple(NEGATIVES), "Which other moments are negatives.", choices=tuple(NEGATIVES)
    )
    steps_of_negatives: int = setting(4, "K of the rows that vary the negatives.", lower=1)
    held_out_fifths: int = setting(
        2,
        "Of the training recordings, how many fifths are held out, each in its turn, where a rate "
        "is chosen.",
        lower=1,
        upper=FIFTHS,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps_of_negatives not in self.predicted_steps:
            shown = ", ".join(map(str, self.predicted_steps))
            problem = f"must be one of predicted_steps ({shown}), whose row is that of {EXCLUDED}"
            raise ArgumentError("steps_of_negatives", self.steps_of_negatives, problem)


def name_of(steps: int, negatives: str) -> str:
    """Of a row, in the file."""
    return f"K = {steps}, {negatives}"


def grids(own: AblationSettings) -> tuple[dict[str, str], dict[str, str]]:
    """What the first column of each table shows → the row's name."""
    of_steps = {str(k): name_of(k, EXCLUDED) for k in sorted(own.predicted_steps)}
    chosen = [name for name in NEGATIVES if name in own.negatives]
    return of_steps, {name: name_of(own.steps_of_negatives, name) for name in chosen}


def with_ends(cells: Sequence[Cell]) -> list[Cell]:
    """Cells that say how often the first and the last of the steps to come is picked out."""
    found = []
    for cell in cells:
        accuracies = by_k([cell])
        if not len(accuracies):
            found.append(cell)
            continue
        ends = {"first": float(accuracies[0, 0]), "last": float(accuracies[0, -1])}
        found.append({**cell, **ends, "candidates": cell["held_out"]["candidates"]})
    return found


def _mean(rows: Rows, name: str) -> float:
    """Of a row; one of which a seed diverged is never the best."""
    return -math.inf if lost(rows[name]) else float(values_of(rows[name], FIVE.key).mean())


def claims(of_steps: Rows, of_negatives: Rows) -> list[Claim]:
    """What is claimed of each variation, of which the rows may lack some.

    Args:
      of_steps: K → cells.
      of_negatives: negatives → cells.
    """
    found = []
    more = [name for name in of_steps if name not in ("1", UNTRAINED)]
    if "1" in of_steps and more:
        best = max(more, key=lambda name: _mean(of_steps, name))
        number = f"the best of {len(more)}" if len(more) > 1 else "the only one"
        text = f"predicting several steps tells more than the next alone (K = {best}, {number})"
        found.append(is_higher(text, of_steps, best, "1", FIVE.key, among=len(more)))
    for other in ("mixed", "same", "current"):
        if EXCLUDED in of_negatives and other in of_negatives:
            text = f"negatives of other recordings tell more of the speaker than {other}"
            found.append(is_higher(text, of_negatives, EXCLUDED, other, FIVE.key))
    for name, rows in (("K = ", of_steps), ("", of_negatives)):
        found += [
            is_higher(
                f"{name}{row} tells more than the untrained network", rows, row, UNTRAINED,
                FIVE.key,
            )
            for row in rows
            if row != UNTRAINED
        ]  # fmt: skip
    return found


def run(experiment: Experiment) -> None:
    """Trains all, and shows what came of it."""
    own, data, mesh = experiment.own, vowels.load_vowels(), data_mesh()
    of_steps, of_negatives = grids(own)
    wanted = [
        *((k, EXCLUDED) for k in sorted(own.predicted_steps)),
        *((own.steps_of_negatives, name) for name in of_negatives if name != EXCLUDED),
    ]
    methods = {
        name_of(k, negatives): vowels.cpc_of(own, mesh, steps=k, negatives=negatives)
        for k, negatives in wanted
    }
    experiment.depends_on(data.digests)
    networks, recipe = vowels.networks_of(own), vowels.recipe_of(own)
    trained = CPCRows(experiment, data, networks, methods, recipe, vowels.probes_of(own), mesh)
    start = name_of(own.steps_of_negatives, EXCLUDED)

    def cell(row: str, seed: int) -> Cell:
        return trained.untrained(start, seed) if row == UNTRAINED else trained.cell(row, seed)

    cells = {k: with_ends(v) for k, v in experiment.rows((UNTRAINED, *methods), cell).items()}
    steps_rows, negatives_rows = (
        {**{shown: cells[name] for shown, name in grid.items()}, UNTRAINED: cells[UNTRAINED]}
        for grid in (of_steps, of_negatives)
    )
    curves = {
        f"K = {k}": [(i, values) for i, values in enumerate(by_k(cells[name]).T, 1)]
        for k, name in of_steps.items()
    }
    experiment.finish(
        f"Nine speakers' vowels: how far CPC predicts, against other recordings\n\n"
        f"{table_of(steps_rows, COLUMNS, 'K')}\n\n"
        f"Which negatives, at K = {own.steps_of_negatives}\n\n"
        f"{table_of(negatives_rows, COLUMNS, 'negatives')}",
        claims(steps_rows, negatives_rows),
        {
            "steps.png": lambda: draw.lines(
                {
                    column.title[:-3]: [
                        (float(k), values_of(steps_rows[k], column.key)) for k in of_steps
                    ]
                    for column in (TWO, FIVE, LINEAR)
                },
                title="Linear probe of the speaker", xlabel="K", ylabel="accuracy, %", factor=100,
                log_x=True,
            ),
            "negatives.png": lambda: draw.bars(
                negatives_rows, FIVE, title="Linear probe of the speaker, 5 labels each",
                xlabel="accuracy, %",
            ),
            "accuracy_by_k.png": lambda: draw.lines(
                curves, title="CPC picks out what comes k steps later",
                xlabel="k, steps ahead", ylabel="accuracy on test recordings, %", factor=100,
            ),
        },
    )  # fmt: skip


OWN = Own(
    AblationSettings,
    {
        **vowels.QUICK,
        "predicted_steps": (1, 2),
        "negatives": ("mixed_excluded", "same"),
        "steps_of_negatives": 2,
    },
)

if __name__ == "__main__":
    experiment_main("cpc_ablations", __doc__, run, OWN)
