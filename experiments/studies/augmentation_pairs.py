"""Which augmentations make a contrastive task worth learning: one of them, or two together.

    python -m experiments.studies.augmentation_pairs --dataset=folder --data_dir=PATH

trains InfoNCE with a first view that one or two operations change and a second view that is the
image as it is, as in figure 5 of SimCLR (Chen et al. 2020). Prints the linear probes as a matrix:
single operations on the diagonal, pairs off it, the average of each row beside it. Two operations
are done in one order, so that half of the matrix is trained. SimCLR's figure crops images first,
once for both views, since ImageNet's differ in size; here that is left out. Beside them stand the
same pair on both views and the untrained encoder. Draws matrix.png.

crop: random resized crop with a mirror image half of the time; colour: jitter for 4 of 5 images and
grey for 1 of 5; turns: by 0, 90, 180 or 270 degrees; cutout of half of the side, noise of standard
deviation 0.1, blur and sobel for all images. None of these strengths was tuned, nor were learning
rate and temperature. Images of one channel have no colour, and those that are not square no turns.

All seven operations are 29 runs for each seed, so that one seed is the default.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from alphacl_jax.errors import RunError
from alphacl_jax.runs.cells import Cell
from alphacl_jax.runs.fields import check_settings, setting
from alphacl_jax.tables import align
from experiments.studies import draw
from experiments.studies.claims import Claim, is_higher, lost
from experiments.studies.own_flags import Own
from experiments.studies.report import KNN, LINEAR, Rows, mean_and_spread, table_of, values_of
from experiments.studies.study import UNTRAINED, Study, Variant, study_main, to_stderr

_CROP, _COLOUR, _TURNS = "crop", "colour", "turns"
# Each field is 0 where the operation is not done.
OPERATIONS: dict[str, dict[str, float]] = {
    _CROP: {"crop_prob": 1, "flip_prob": 0.5},
    "cutout": {"cutout_prob": 1},
    _COLOUR: {"jitter_prob": 0.8, "grayscale_prob": 0.2},
    "sobel": {"sobel_prob": 1},
    "noise": {"noise_std": 0.1},
    "blur": {"blur_prob": 1},
    _TURNS: {"quarter_turn_prob": 0.75},
}
_AND = " + "
_LOSS = {"loss": "info_nce"}


@dataclass(frozen=True)
class PairSettings:
    """What this study varies."""

    operations: tuple[str, ...] = setting(
        tuple(OPERATIONS), "Operations on the first view.", choices=tuple(OPERATIONS)
    )

    def __post_init__(self) -> None:
        check_settings(self)


def name_of(one: str, other: str) -> str:
    """What the run with these operations is called; the two may be the same."""
    return one if one == other else _AND.join(sorted((one, other), key=list(OPERATIONS).index))


BEST = name_of(_CROP, _COLOUR)


def _augmented(one: str, other: str) -> dict[str, Any]:
    """The settings of a run whose views these operations change."""
    fields = OPERATIONS[one] | OPERATIONS[other]
    changes = ",".join(f"{k}={v}" for k, v in fields.items())
    return {**_LOSS, "augmentation": "none", "augmentation_overrides": changes}


def variant_of(one: str, other: str) -> Variant:
    """The run whose first view these operations change, and whose second view nothing does."""
    back = ",".join(f"{field}=0" for field in OPERATIONS[one] | OPERATIONS[other])
    own = {**_augmented(one, other), "second_view_overrides": back}
    return Variant(name_of(one, other), own)


BOTH_VIEWS = Variant(f"{BEST}, both views", _augmented(_CROP, _COLOUR))


def usable(names: Sequence[str], shape: tuple[int, int, int]) -> list[str]:
    """Those of the operations that images of a shape can have, in the order of the table."""
    height, width, channels = shape
    impossible = {_COLOUR: channels == 1, _TURNS: height != width}
    return [name for name in OPERATIONS if name in names and not impossible.get(name)]


def matrix_of(rows: Rows, operations: Sequence[str]) -> np.ndarray:
    """Linear probes in percent, `[operations, operations]`, the mean over seeds.

    NaN where every seed diverged.
    """

    def entry(one: str, other: str) -> float:
        values = 100 * values_of(rows[name_of(one, other)], LINEAR.key)
        return float(values.mean()) if len(values) else np.nan

    return np.array([[entry(one, other) for other in operations] for one in operations])


def with_averages(matrix: np.ndarray) -> np.ndarray:
    """A matrix with one more column, the averages of its rows over what is not NaN."""
    known = np.isfinite(matrix)
    sums = np.where(known, matrix, 0).sum(axis=1)
    averages = np.where(known.any(axis=1), sums / np.maximum(known.sum(axis=1), 1), np.nan)
    return np.column_stack([matrix, averages])


def error_of(rows: Rows) -> str:
    """What a figure of the matrix is uncertain by, in words: the largest of all."""
    trained = [cells for cells in rows.values() if len(values_of(cells, LINEAR.key))]
    seeds = max((len(cells) for cells in rows.values()), default=0)
    if seeds > 1:
        spreads = [mean_and_spread(values_of(cells, LINEAR.key))[1] for cells in trained]
        what = f"mean over {seeds} seeds, standard deviation"
    else:
        spreads = [values_of(cells, f"{LINEAR.key}_se").max() for cells in trained]
        what = "one seed, standard error by the test images"
    return f"{what} at most {100 * max(spreads, default=np.nan):.1f}"


def claims(rows: dict[str, list[Cell]]) -> list[Claim]:
    """What SimCLR claims of these operations.

    The best other pair is chosen by the test images that it is compared on, to its advantage: the
    threshold is that of the best of several.
    """
    if BEST not in rows:
        return []
    means = {
        name: values_of(cells, LINEAR.key).mean()
        for name, cells in rows.items()
        if _AND in name and name not in (BEST, BOTH_VIEWS.name) and not lost(cells)
    }
    best_other = [max(means, key=lambda name: means[name])] if means else []
    return [
        *(is_higher(f"{BEST} beats the best of {len(means)} other pairs by these figures, {name}",
                    rows, BEST, name, among=len(means))
          for name in best_other),
        *(is_higher(f"{BEST} beats {name} alone", rows, BEST, name) for name in (_CROP, _COLOUR)),
        is_higher("both views augmented beat one", rows, BOTH_VIEWS.name, BEST),
        is_higher(
            f"{BEST} of one view beats the untrained encoder", rows, BEST, UNTRAINED.name
        ),
    ]  # fmt: skip


def run(study: Study) -> None:
    """Trains all, and shows what came of it.

    Raises:
      RunError: where the images can have none of the operations.
    """
    wanted = study.own.operations
    operations = usable(wanted, study.dataset.image_shape)
    if left_out := sorted(set(wanted) - set(operations)):
        shape = "x".join(map(str, study.dataset.image_shape))
        to_stderr(f"left out, since images of {shape} cannot have it: {', '.join(left_out)}")
    if not operations:
        raise RunError(f"no operation is left. Choose others from {', '.join(OPERATIONS)}")
    pairs = [variant_of(*pair) for pair in combinations_with_replacement(operations, 2)]
    rows = study.rows([*pairs, BOTH_VIEWS, UNTRAINED])
    beside = {name: rows[name] for name in (BOTH_VIEWS.name, UNTRAINED.name)}
    of_pairs = {variant.name: rows[variant.name] for variant in pairs}
    matrix = with_averages(matrix_of(rows, operations))
    columns = [*operations, "average"]
    lines = [["", *columns]]
    lines += [
        [name, *(f"{value:.1f}" if np.isfinite(value) else "diverged" for value in row)]
        for name, row in zip(operations, matrix, strict=True)
    ]
    caption = f"linear probe, %: {error_of(of_pairs)}"
    study.finish(
        "Operations on the first view alone",
        f"{caption}\n{align(lines)}\n\n{table_of(beside, (LINEAR, KNN), 'beside them')}",
        claims(rows),
        {
            "matrix.png": lambda: draw.matrix(
                matrix, operations, columns, title=caption,
                xlabel="second operation", ylabel="first operation",
            ),
        },
    )  # fmt: skip


if __name__ == "__main__":
    study_main(
        "augmentation_pairs",
        __doc__,
        run,
        varies=("augmentation", "augmentation_overrides", "second_view_overrides"),
        defaults={"num_seeds": 1},
        own=Own(PairSettings, {"operations": tuple(OPERATIONS)[:3]}),
    )
