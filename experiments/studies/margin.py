"""The Siamese loss with and without its margin, on normalised and on unnormalised embeddings.

    python -m experiments.studies.margin --dataset=folder --data_dir=PATH

Pairs of one class are drawn together and others apart. With the margin the loss is the mean over
pairs of d, or of [margin − d]₊ for pairs of two classes; without it, of d and −d, which has no
lower bound where embeddings may be of any length: they grow for ever. Normalised embeddings bound
both. d is half a squared distance, and the margin 0.5 of it in either space: it was not chosen,
nor was the learning rate. Prints loss, norm of the projector's outputs (before they
are normalised) and gradient norm at the end, means over the last 20 steps; how much longer the
outputs are than at the first step; the step at which something ceased to be finite, where it did;
the spread of the normalised embeddings of the test images, in which 0 is a collapse and 1 healthy;
and probes. Draws loss.png and norm.png. How fast the norms grow depends on the optimiser: Adam's
steps do not grow with the gradient, those of --optimizer=sgd do.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from alphacl_jax.distances import l2_normalize, squared_distances
from alphacl_jax.methods.embedding import evaluated, project_views
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.methods.network import Network, flat_views
from alphacl_jax.methods.spread import spread
from alphacl_jax.objectives import margin_loss
from alphacl_jax.runs.any_run import prepare_training
from alphacl_jax.runs.cells import Cell
from alphacl_jax.runs.encoder import Encoder, encoder_of
from alphacl_jax.runs.networks import make_encoder, make_projector
from alphacl_jax.runs.run import Run
from alphacl_jax.runs.settings import SupervisedSettings
from experiments.studies import draw
from experiments.studies.claims import Claim, is_higher
from experiments.studies.report import (
    KNN,
    LINEAR,
    PROBES,
    SPREAD,
    Column,
    Rows,
    table_of,
    values_of,
)
from experiments.studies.study import UNTRAINED, Study, Variant, study_main

_WATCHED = ("loss", "norm", "gradient_norm")
_LAST = 20  # steps whose mean is the figure at the end
_POINTS = 200  # of a course that are kept
_GROWN = 10.0  # times as long as at first: no training needs that


def loss_without_margin(z: Array, labels: Array) -> Array:
    """The mean over ordered pairs of d within a class and −d between classes.

    Args:
      z: embeddings `[n, views, dim]`, of any length.
      labels: `[n]`.
    """
    x, classes = flat_views(z), jnp.repeat(labels, z.shape[1])
    d = squared_distances(x)
    same = classes[:, None] == classes[None, :]
    # Of an embedding to itself d is 0, or within rounding of it.
    return jnp.sum(jnp.where(same, d, -d)) / (len(x) * (len(x) - 1))


def pair_method(run: Run, *, with_margin: bool, normalised: bool) -> Method:
    """The loss as a method of the run's network.

    Args:
      run: of the method 'supervised', for its margin.
      with_margin: whether pairs of two classes are pushed apart up to the margin alone.
      normalised: whether embeddings are scaled to length 1.
    """
    own = run.settings.method
    assert isinstance(own, SupervisedSettings)
    margin = own.margin
    network = Network(
        {
            "encoder": make_encoder(run.settings.model, run.dataset.image_shape),
            "projector": make_projector(run.settings.model),
        }
    )

    def init(key: Array, batch: Batch) -> tuple[Any, Any]:
        return network.init(key, flat_views(batch["views"]))

    def loss(
        params: Any, state: Any, batch: Batch, key: Array
    ) -> tuple[Array, tuple[Any, Metrics]]:
        del key
        x, state = project_views(network, params, state, batch)
        z, labels = l2_normalize(x) if normalised else x, batch["labels"]
        value = margin_loss(z, labels, margin) if with_margin else loss_without_margin(z, labels)
        return value, (state, {"norm": jnp.mean(jnp.linalg.norm(x, axis=-1))})

    return Method(init, loss, *evaluated(network), unit="images")


def _variant(name: str, *, with_margin: bool, normalised: bool) -> Variant:
    return Variant(
        name,
        {"method": "supervised", "loss": "margin"},
        method=functools.partial(pair_method, with_margin=with_margin, normalised=normalised),
    )


COSINE = _variant("margin, normalised", with_margin=True, normalised=True)
EUCLIDEAN = _variant("margin, unnormalised", with_margin=True, normalised=False)
COSINE_WITHOUT = _variant("no margin, normalised", with_margin=False, normalised=True)
EUCLIDEAN_WITHOUT = _variant("no margin, unnormalised", with_margin=False, normalised=False)
SETTINGS = (COSINE, EUCLIDEAN, COSINE_WITHOUT, EUCLIDEAN_WITHOUT)
COLUMNS = (
    Column("loss", "loss", digits=3),
    Column("norm", "norm", digits=1),
    Column("growth", "grown by"),
    Column("gradient_norm", "gradient", digits=3),
    Column("ceased", "not finite at step", digits=0),
    SPREAD,
    LINEAR,
    KNN,
)


def train(study: Study, variant: Variant, seed: int) -> tuple[Encoder | None, dict[str, Any]]:
    """Trains a variant and looks at every step, up to the first that is not finite."""
    run = study.run_of(variant, seed)
    training = prepare_training(run)
    state = training.init(seed)
    course: list[list[float]] = []
    for step in range(1, training.schedule.total_steps + 1):
        state, metrics = training.step(state, next(training.batches), True)
        found = [float(metrics[name]) for name in _WATCHED]
        if not np.isfinite(found).all():
            return None, {"ceased": step, **figures_of(course)}
        course.append(found)
    return encoder_of(run.settings, run.describe(training.batches), state), figures_of(course)


def figures_of(course: Sequence[Sequence[float]]) -> dict[str, Any]:
    """What a cell says of the steps, `[steps, watched]`; nothing where there are none."""
    if not course:
        return {}
    values = np.array(course)
    end = dict(zip(_WATCHED, values[-_LAST:].mean(axis=0).tolist(), strict=True))
    kept = np.unique(np.linspace(0, len(values) - 1, _POINTS).round().astype(int))
    lines = {name: values[kept, i].tolist() for i, name in enumerate(_WATCHED)}
    growth = end["norm"] / values[0, _WATCHED.index("norm")]
    return {**end, "growth": growth, "course": {"step": (kept + 1).tolist(), **lines}}


def spread_of(study: Study, encoder: Encoder) -> Mapping[str, float]:
    """The standard deviation of the test images' normalised embeddings, 1 where it is healthy."""
    found = spread(jnp.asarray(encoder.embed(study.test[0])))
    return {SPREAD.key: float(found["std"] / found["healthy_std"])}


def grows(text: str, cells: Sequence[Cell], *, expected: bool) -> Claim:
    """The claim that norms grow by more than ten, or something ceases to be finite; or do not."""
    if not cells:
        return Claim(text, "no cells", "not settled")
    growth, ceased = values_of(cells, "growth"), sum("diverged" in cell for cell in cells)
    found = f"{ceased} of {len(cells)} ceased to be finite"
    if len(growth):
        found = f"norms grew {growth.min():.3g} to {growth.max():.3g} times; {found}"
    as_claimed = [("diverged" in cell or cell["growth"] > _GROWN) == expected for cell in cells]
    if all(as_claimed):
        return Claim(text, found, "holds")
    return Claim(text, found, "not settled" if any(as_claimed) else "does not hold")


def claims(rows: Rows) -> list[Claim]:
    """What is claimed of the margin, and of normalising."""
    without, with_it = rows[EUCLIDEAN_WITHOUT.name], rows[EUCLIDEAN.name]
    return [
        grows("unnormalised embeddings diverge without the margin", without, expected=True),
        grows("unnormalised embeddings do not diverge with it", with_it, expected=False),
        *(
            is_higher(
                f"{better.name}: better than {worse.name}, {probe}",
                rows, better.name, worse.name, key,
            )
            for better, worse in (
                (COSINE, EUCLIDEAN), (COSINE, UNTRAINED), (COSINE_WITHOUT, UNTRAINED),
            )
            for probe, key in PROBES.items()
        ),
    ]  # fmt: skip


def courses_of(rows: Rows, name: str) -> dict[str, list[draw.Course]]:
    """What was recorded under a name over the steps: each setting's, for each seed."""
    return {
        variant.name: [
            (cell["course"]["step"], cell["course"][name])
            for cell in rows[variant.name]
            if "course" in cell
        ]
        for variant in SETTINGS
    }


def run(study: Study) -> None:
    """Trains all, and shows what came of it."""
    rows = study.rows((*SETTINGS, UNTRAINED), spread_of, train)
    study.finish(
        "The Siamese loss with and without its margin",
        table_of(rows, COLUMNS, "loss"),
        claims(rows),
        {
            "loss.png": lambda: draw.courses(
                courses_of(rows, "loss"), title="Loss", xlabel="step", ylabel="loss",
                scale="symlog",
            ),
            "norm.png": lambda: draw.courses(
                courses_of(rows, "norm"), title="Length of the projector's outputs",
                xlabel="step", ylabel="mean norm", scale="log",
            ),
        },
    )  # fmt: skip


if __name__ == "__main__":
    study_main("margin", __doc__, run)
