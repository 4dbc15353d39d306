"""Whether contrastive predictive coding learns who speaks: nine speakers' vowels.

    pip install -e '.[sequences]'
    python -m experiments.sequences.speakers

640 utterances of two Japanese vowels by nine men, 7 to 29 moments of 12 coefficients each, in the
published parts, 270 to train on and 370 to test. CPC is trained without labels; a GRU's contexts
are then probed for the speaker. The probes read the mean over an utterance, or mean and standard
deviation: logistic regression on 2 and 5 labelled utterances of each speaker, in twenty draws, and
on all 30; and a network of one hidden layer on all. Penalties are chosen on training recordings
that are held out. With all labels nearly all is right, whatever is probed, so that few labels say
more. Beside CPC stand the coefficients themselves, the same network untrained, and trained end to
end by cross-entropy on all labels, of which the linear figure is that of its own last layer.
Learning rates are chosen on held-out training recordings, for CPC and for cross-entropy alike.

Prints the probes, how often the positive of k steps ahead is picked out on test recordings, and
what the figures say to each claim; an error covers other seeds and other test recordings, not other
draws of labels, which are the same in all rows. Draws speakers.png, a map of the contexts of the
test recordings of the first seed, coloured by speaker, and accuracy_by_k.png.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from alphacl_jax.evaluation.pictures import plot_map, warned_of
from alphacl_jax.objectives.predictive import NEGATIVES
from alphacl_jax.runs.cells import Cell
from alphacl_jax.runs.fields import setting
from alphacl_jax.training.mesh import data_mesh
from experiments.sequences import vowels
from experiments.sequences.cpc_rows import (
    RATES,
    CPCRows,
    by_k,
    cell_of,
    pooled,
    signals,
    table_by_k,
)
from experiments.sequences.experiment import Experiment, experiment_main
from experiments.sequences.parts import Parts
from experiments.sequences.vowels import BOTH, COLUMNS, FIVE, LINEAR, TWO, VowelSettings
from experiments.studies import draw
from experiments.studies.claims import Claim, is_higher, lost
from experiments.studies.own_flags import Own
from experiments.studies.report import Rows, table_of

RAW, UNTRAINED, CPC, SUPERVISED = "coefficients", "untrained network", "CPC", "supervised"


@dataclasses.dataclass(frozen=True)
class SpeakerSettings(VowelSettings):
    """Networks and training, and how far CPC predicts."""

    predicted_steps: int = setting(8, "K: how many steps ahead CPC predicts.", lower=1)
    negatives: str = setting(
        "mixed_excluded",
        "CPC's negatives. Of few recordings some are in a batch twice, where other windows of the "
        "same one share moments with it: by default these are no negatives.",
        choices=tuple(NEGATIVES),
    )


def shown(rows: Rows) -> dict[str, list[Cell]]:
    """The rows of the table: what is known of means, and of means and standard deviations.

    The supervised network has seen all labels, so nothing is said of few.

    Args:
      rows: representation → cells with the keys of both.
    """
    found = {}
    for name, cells in rows.items():
        if name == SUPERVISED:
            few = (TWO.key, FIVE.key)
            found[name] = [{k: v for k, v in cell.items() if k not in few} for cell in cells]
            continue
        found[f"{name}, mean"] = list(cells)
        found[f"{name}, mean and std"] = [_of_both(cell) for cell in cells]
    return found


def _of_both(cell: Cell) -> Cell:
    kept = {key.removesuffix(BOTH): value for key, value in cell.items() if key.endswith(BOTH)}
    lost = {"diverged": True} if "diverged" in cell else {}
    correct = {
        key.removesuffix(BOTH): value
        for key, value in cell.get("correct", {}).items()
        if key.endswith(BOTH)
    }
    return {**lost, **kept, "correct": correct}


def claims(rows: Rows) -> list[Claim]:
    """What is claimed of CPC.

    Args:
      rows: as `shown` has them.
    """
    wanted = [
        (f"{CPC}, mean", f"{RAW}, mean"),
        (f"{CPC}, mean", f"{UNTRAINED}, mean"),
        (f"{CPC}, mean and std", f"{RAW}, mean and std"),
    ]
    found = [
        is_higher(f"{better} tells more than {worse}: {column.title[:-3]}", rows, better, worse,
                  column.key)
        for better, worse in wanted
        for column in (TWO, FIVE, LINEAR)
    ]  # fmt: skip
    ours = f"{CPC}, mean"
    text = f"{SUPERVISED} end to end tells more than {ours}: {LINEAR.title[:-3]}"
    return [*found, is_higher(text, rows, SUPERVISED, ours, LINEAR.key), falls(rows[ours])]


def falls(cells: Sequence[Cell]) -> Claim:
    """The claim that what is further ahead is harder to pick out, at each step and every seed."""
    text = "the positive is picked out less often the further ahead it is"
    if problem := lost(cells):
        return Claim(text, problem, "not settled")
    found = by_k(cells)
    shown = ", ".join(f"{100 * value:.1f}" for value in found.mean(axis=0))
    if (np.diff(found, axis=1) < 0).all():
        verdict = "holds"
    else:
        verdict = "not settled" if (found[:, -1] < found[:, 0]).all() else "does not hold"
    return Claim(text, f"{shown} %", verdict)


def draw_map(experiment: Experiment, rows: CPCRows, data: Parts) -> None:
    """The map of the first seed's contexts, trained once more."""
    path = experiment.output / "speakers.png"
    with warned_of(str(path)):
        trained = rows.trained(CPC, experiment.seeds[0])
        made = pooled(rows.contexts(trained, data.test))
        names = [f"speaker {name}" for name in data.test.class_names]
        plot_map(path, made, data.test.labels, names)
        print(f"picture: {path}", flush=True)


def run(experiment: Experiment) -> None:
    """Trains all, and shows what came of it."""
    own, data, mesh = experiment.own, vowels.load_vowels(), data_mesh()
    methods = {
        CPC: vowels.cpc_of(own, mesh, steps=own.predicted_steps, negatives=own.negatives),
        SUPERVISED: vowels.supervised_of(own, len(data.train.class_names)),
    }
    experiment.depends_on(data.digests)
    networks, recipe = vowels.networks_of(own), vowels.recipe_of(own)
    of_methods = CPCRows(experiment, data, networks, methods, recipe, vowels.probes_of(own), mesh)

    def cell(row: str, seed: int) -> Cell:
        if row == RAW:
            return cell_of(vowels.probed(data, signals(data.train), signals(data.test), seed))
        return of_methods.untrained(CPC, seed) if row == UNTRAINED else of_methods.cell(row, seed)

    rows = experiment.rows((RAW, UNTRAINED, CPC, SUPERVISED), cell)
    table = shown(rows)
    title = (
        f"Nine speakers' vowels: {len(data.train)} training and {len(data.test)} test recordings, "
        "probes of the speaker"
    )
    curve = [(k, values) for k, values in enumerate(by_k(rows[CPC]).T, 1)]
    experiment.finish(
        f"{title}\n\n{table_of(table, (*COLUMNS, *RATES))}\n\n"
        f"CPC: {table_by_k(rows[CPC])}",
        claims(table),
        {
            "accuracy_by_k.png": lambda: draw.lines(
                {"test recordings": curve}, title="CPC picks out what comes k steps later",
                xlabel="k, steps ahead", ylabel="accuracy, %", factor=100,
            ),
        },
    )  # fmt: skip
    draw_map(experiment, of_methods, data)


OWN = Own(SpeakerSettings, {**vowels.QUICK, "predicted_steps": 2})

if __name__ == "__main__":
    experiment_main("speakers", __doc__, run, OWN)
