"""What fine-tuning found, as a table and in words."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from alphacl_jax.evaluation.report import format_table, over_seeds, verdicts
from alphacl_jax.runs.cells import Cell
from alphacl_jax.runs.finetune_settings import FinetuneSettings
from alphacl_jax.tables import align

FINE_TUNED, SCRATCH, PROBE = "fine-tuned", "from scratch", "linear probe"
ROWS = (FINE_TUNED, SCRATCH, PROBE)


@dataclasses.dataclass(frozen=True)
class Finetuning:
    """What fine-tuning found.

    Attributes:
      settings: that were asked for.
      cells: figures by label fraction, seed and row, those that were asked for.
      figures: as the file has them.
    """

    settings: FinetuneSettings
    cells: Sequence[Cell]
    figures: dict[str, Any]

    def __str__(self) -> str:
        """The tables as people read them."""
        titles = _titles(self.cells)
        rows = self.figures["over_seeds"]
        seeds = self.settings.num_seeds
        lines = [f"mean ± standard deviation over {seeds} seeds"] if seeds > 1 else []
        lines += [format_table(rows, titles), *self.figures["verdicts"]]
        lines += ["", *_rates(self.cells, titles, self.settings), *self.figures["notes"]]
        return "\n".join(lines)


def percent(fraction: float) -> str:
    """A share, such as "10 %"."""
    return f"{100 * fraction:.6g} %"


def in_words(cell: Cell) -> str:
    """What a finished cell gave, in a line."""
    text = f"{percent(cell['label_fraction'])} of the labels, seed {cell['seed']}, {cell['row']}: "
    text += "diverged" if "accuracy" not in cell else f"{100 * cell['accuracy']:.1f} %"
    if "encoder_learning_rate" in cell:
        chosen = ", chosen on held-out labels" if cell["tried"] else ""
        text += f" (encoder's learning rate {cell['encoder_learning_rate']:g}{chosen})"
    return text


def _titles(cells: Sequence[Cell]) -> dict[str, str]:
    """The columns, by their share of the labels."""
    return {
        str(cell["label_fraction"]): (
            f"{percent(cell['label_fraction'])}, {cell['labels']:,} labels"
        )
        for cell in cells
    }


def summary_of(cells: Sequence[Cell], settings: FinetuneSettings) -> dict[str, Any]:
    """The table over seeds, what won where, and what is to be known of it."""
    rows: dict[str, dict[str, float]] = {row: {} for row in ROWS}
    for row in ROWS:
        for fraction in settings.label_fraction:
            own = [c for c in cells if (c["label_fraction"], c["row"]) == (fraction, row)]
            if all("accuracy" in cell for cell in own):  # a mean of the others would flatter
                name = str(fraction)
                runs = [{name: c["accuracy"], f"{name}_se": c["accuracy_se"]} for c in own]
                rows[row] |= over_seeds(runs)
    return {
        "over_seeds": rows,
        "verdicts": verdicts(rows, titles=_titles(cells)),
        "notes": _notes(cells, settings),
    }


def _notes(cells: Sequence[Cell], settings: FinetuneSettings) -> list[str]:
    smaller = {
        f"{percent(c['label_fraction'])}: batches of {c['batch_size']} in place of "
        f"{settings.batch_size}, for there are {c['labels']} labelled images": None
        for c in cells
        if c.get("batch_size", settings.batch_size) < settings.batch_size
    }
    diverged = [f"{in_words(c)}; its column has no figure" for c in cells if c.get("diverged")]
    chosen = [c["encoder_learning_rate"] for c in cells if c.get("tried")]
    ends = (min(settings.encoder_learning_rate), max(settings.encoder_learning_rate))
    at_end = sum(rate in ends for rate in chosen)
    beyond = f"{at_end} of the {len(chosen)} chosen are an end of these: one beyond may be better"
    return [*([beyond] if at_end else []), *smaller, *diverged]


def _rates(cells: Sequence[Cell], titles: dict[str, str], settings: FinetuneSettings) -> list[str]:
    """A table of the encoder's learning rates, seed by seed."""

    def of(row: str, fraction: str) -> str:
        own = [c for c in cells if (str(c["label_fraction"]), c["row"]) == (fraction, row)]
        rates = " ".join(f"{c['encoder_learning_rate']:g}" for c in own)
        return rates if any(c["tried"] for c in own) else f"{rates} (not chosen)"

    grid = ", ".join(f"{rate:g}" for rate in settings.encoder_learning_rate)
    if len(settings.encoder_learning_rate) == 1:
        return [
            f"the encoder's learning rate: {grid}; the classifier's: "
            f"{settings.classifier_learning_rate:g}"
        ]
    table = [["encoder's learning rate, by seed", *titles.values()]]
    table += [[row, *(of(row, fraction) for fraction in titles)] for row in (FINE_TUNED, SCRATCH)]
    return [
        align(table),
        f"chosen on held-out labels from {grid}; the classifier's: "
        f"{settings.classifier_learning_rate:g}",
    ]
