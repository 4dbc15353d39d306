"""Whether SupCon gains by more positives for each anchor.

    python -m experiments.studies.positives --dataset=folder --data_dir=PATH

trains SupCon L_out with at most 1, 3, 5, 7 and 9 positives of each anchor and with all of its class
(the published ablation on ImageNet: 69.3, 76.6, 78.0, 78.4, 78.3, and 78.5 % with all, 13 of them),
and with 3 and 4 views of each image and all positives. The first positives are the other views of
the anchor's own image, then those of the images of its class that come next in the batch; those
beyond are neither positives nor negatives, as in the published code. Epochs are equal: 4 views cost
twice the time of 2. One learning rate serves all; it was chosen for none. Prints probes by the mean
number of positives, and draws linear.png and knn.png.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from alphacl_jax.distances import masked_logsumexp
from alphacl_jax.methods.method import Method
from alphacl_jax.methods.supervised import supervised_method
from alphacl_jax.objectives.classes import grouped, loss_of_rows
from alphacl_jax.runs.cells import Cell
from alphacl_jax.runs.networks import make_encoder, make_projector
from alphacl_jax.runs.run import Run
from alphacl_jax.runs.settings import SupervisedSettings
from alphacl_jax.sharded import AxisName
from experiments.studies import draw
from experiments.studies.claims import Claim, difference_of, is_higher, lost, paired
from experiments.studies.report import KNN, LINEAR, PROBES, Column, Rows, table_of, values_of
from experiments.studies.study import UNTRAINED, Study, Variant, study_main

CAPS = (1, 3, 5, 7, 9)
_VIEWS = 2
_SUPCON = {"method": "supervised", "loss": "supcon_out"}


def capped_supcon(
    z: Array, labels: Any, most: int, temperature: float, *, axis_name: AxisName = None
) -> Array:
    """SupCon L_out with at most so many positives of each anchor; the others are left out.

        −(1/|P'|) Σ_{p∈P'} log( e^{−d_ip/τ} / Σ_{a∈P'∪N} e^{−d_ia/τ} )

    P' are the first `most` of the anchor's class, those of its own sample before those of the
    samples after it in the batch, and N those of other classes.

    Args:
      z: normalised embeddings `[n, views, dim]`.
      labels: `[n]`.
      most: at least 1.
      temperature: τ > 0.
      axis_name: as in `supcon_loss`.

    Returns:
      The mean over the anchors.
    """
    views = z.shape[1]

    def rows(d: Array, same: Array, other: Array) -> tuple[Array, Array]:
        kept = first_positives(same, other, most, views)
        count, logits = jnp.sum(kept, axis=1), -d / temperature
        of_positives = jnp.sum(jnp.where(kept, logits, 0.0), axis=1) / jnp.maximum(count, 1)
        values = masked_logsumexp(logits, kept | other) - of_positives
        return jnp.where(count > 0, values, 0.0), count > 0

    return loss_of_rows(rows, grouped(z, labels, axis_name), None, "mean", axis_name)


def first_positives(same: Array, other: Array, most: int, views: int) -> Array:
    """The mask `[anchors, candidates]` of positives, `same`, with the first of each anchor alone.

    Args:
      same, other: where a candidate is a positive and a negative; an anchor's own column is
        neither.
      most: how many.
      views: of each sample, which lie next to each other.
    """
    itself = jnp.argmax(~(same | other), axis=1)
    columns = jnp.arange(same.shape[1])[None, :]
    own_sample = (itself // views * views)[:, None]
    # In the order of each anchor: from the first view of its own sample on, and around.
    in_order = jnp.take_along_axis(same, (own_sample + columns) % same.shape[1], axis=1)
    place = (columns - own_sample) % same.shape[1]
    return same & (jnp.take_along_axis(jnp.cumsum(in_order, axis=1), place, axis=1) <= most)


def capped_method(run: Run, most: int) -> Method:
    """SupCon with at most so many positives, of the run's network."""
    own = run.settings.method
    assert isinstance(own, SupervisedSettings)
    return supervised_method(
        make_encoder(run.settings.model, run.dataset.image_shape),
        make_projector(run.settings.model),
        functools.partial(capped_supcon, most=most, temperature=own.temperature),
        run.mesh,
    )


def _capped(most: int) -> Variant:
    return Variant(
        f"2 views, at most {most} positive{'s' * (most > 1)}",
        _SUPCON,
        method=functools.partial(capped_method, most=most),
    )


def _all_of_class(views: int) -> Variant:
    return Variant(f"{views} views, all positives", {**_SUPCON, "views": str(views)})


BY_CAP = {most: _capped(most) for most in CAPS}
BY_VIEWS = {views: _all_of_class(views) for views in (2, 3, 4)}
ALL = BY_VIEWS[_VIEWS]
VARIANTS = (*BY_CAP.values(), *BY_VIEWS.values(), UNTRAINED)
COLUMNS = (Column("positives", "positives of an anchor", digits=1), LINEAR, KNN)


def positives_of(labels: np.ndarray, batch_size: int, views: int, most: int | None = None) -> float:
    """How many positives an anchor has, the mean over the batches of one epoch.

    Args:
      labels: of the training images.
      batch_size: of a step.
      views: of each image.
      most: the cap, where there is one.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    whole = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
    alike = [(batch[:, None] == batch[None]).sum(axis=1) for batch in labels[whole]]
    found = views * np.array(alike) - 1
    return float((found if most is None else np.minimum(found, most)).mean())


def with_positives(rows: Rows, count: Callable[..., float]) -> dict[str, list[Cell]]:
    """The rows with the number of positives in their cells, `count(views, most)`."""
    counts = {variant.name: count(_VIEWS, most) for most, variant in BY_CAP.items()}
    counts |= {variant.name: count(views, None) for views, variant in BY_VIEWS.items()}
    return {
        name: [{**cell, "positives": counts[name]} if name in counts else cell for cell in cells]
        for name, cells in rows.items()
    }


def claims(rows: Rows) -> list[Claim]:
    """What was published, and the lecture shows."""
    one, three, seven = (BY_CAP[most].name for most in (1, 3, 7))
    found = []
    for probe, key in PROBES.items():
        found += [
            is_higher(f"three positives beat one, {probe}", rows, three, one, key),
            is_higher(f"all positives beat one, {probe}", rows, ALL.name, one, key),
            is_higher(f"4 views beat 2, {probe}", rows, BY_VIEWS[4].name, ALL.name, key),
        ]
    return [*found, diminishing(rows, (one, three), (seven, ALL.name))]


def diminishing(rows: Rows, first: tuple[str, str], last: tuple[str, str]) -> Claim:
    """The claim that the last step up gains less than the first, by more than chance."""
    text = "from one positive to three gains more than from seven to all, linear probe"
    if problem := lost(*(rows[name] for name in (*first, *last))):
        return Claim(text, problem, "not settled")
    early, late = (paired(rows[more], rows[fewer], LINEAR.key) for fewer, more in (first, last))
    gap = difference_of(early - late)
    found = f"{100 * early.mean():+.1f} and {100 * late.mean():+.1f}, a gap of {gap}"
    return Claim(text, found, gap.verdict())


def curves_of(rows: Rows, key: str) -> dict[str, list[draw.Point]]:
    """The points of a picture: positives of an anchor, accuracies over seeds."""

    def points(variants: Sequence[Variant]) -> list[draw.Point]:
        return [
            (round(cells[0]["positives"], 1), values_of(cells, key))
            for cells in (rows[variant.name] for variant in variants)
        ]

    return {
        "2 views, at most so many, and all": points([*BY_CAP.values(), ALL]),
        "2, 3 and 4 views, all": points(list(BY_VIEWS.values())),
    }


def run(study: Study) -> None:
    """Trains all, and shows what came of it."""
    batch_size = study.settings({}).optimizer.batch_size
    count = functools.partial(positives_of, study.train[1], batch_size)
    rows = with_positives(study.rows(VARIANTS), count)

    def picture(column: Column, title: str) -> Callable[[], Figure]:
        return lambda: draw.lines(
            curves_of(rows, column.key), title=title, xlabel="positives of an anchor, mean",
            ylabel="accuracy, %", factor=column.factor, log_x=True,
        )  # fmt: skip

    study.finish(
        "SupCon L_out by the number of positives of each anchor",
        table_of(rows, COLUMNS, "positives"),
        claims(rows),
        {
            "linear.png": picture(LINEAR, "SupCon: linear probe"),
            "knn.png": picture(KNN, "SupCon: nearest neighbours"),
        },
    )


if __name__ == "__main__":
    study_main("positives", __doc__, run, varies=("views",))
