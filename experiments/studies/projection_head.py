"""What a projection head throws away, and whether one is needed.

    python -m experiments.studies.projection_head --dataset=folder --data_dir=PATH

The first table: linear probes are to name the class of an image, and what was done to it: whether
its colours were dropped, by how many quarter turns it was turned, whether Gaussian noise was added
(of standard deviation 0.1 where pixels lie in [0, 1]), whether it was Sobel-filtered. Probes are of

- h, the features;
- g(h), what the projector makes of them, in evaluation mode, not normalised: as published;
- z = g(h)/‖g(h)‖, which is what `Encoder.embed` returns and the loss compared.

Every image appears once, changed or not by lot, so that chance is 1 in 2, or 1 in 4 for turns;
probes are trained on changed training images and tested on changed test images. The projector's
layers are as wide as h, as published. Encoders are that of the nonlinear projector below, trained
as usual; one that is "trained to ignore", with turns, noise and Sobel filters in its augmentation,
too; and an untrained one. What a run was not trained to ignore, its head has no reason to drop: the
published figures on turns, noise and Sobel filters (SimCLR, Table 3) are of such training. They are
of ResNet-50 on ImageNet, by small MLPs in place of linear probes, and their chance level of colours
is 80 %, since most images kept them.

The second table: InfoNCE (temperature 0.5 for all, epsilon 1) with a nonlinear, a linear or no
projector, and DirectCLR, which has none and shows the loss one half of the features, probed on h.
Half is a choice (published: 360 of 2,048), and neither it nor the temperature was tuned for any.

Colours are left out of images of one channel, turns of images that are not square. Draws head.png,
head_trained_to_ignore.png and projectors.png.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from alphacl_jax.runs.networks import make_encoder
from experiments.studies import draw
from experiments.studies.claims import Claim, is_higher
from experiments.studies.head_probes import (
    G,
    H,
    Task,
    chances,
    left_out,
    measure,
    parts_of,
    tasks_of,
    titles_of,
)
from experiments.studies.report import KNN, LINEAR, Column, Rows, table_of
from experiments.studies.study import UNTRAINED, Study, Variant, study_main

NONLINEAR, LINEAR_HEAD, NO_HEAD = "nonlinear projector", "linear projector", "no projector"
DIRECTCLR = "DirectCLR"
IGNORING = "trained to ignore"
# Of linear probes on ImageNet (Jing et al. 2022, arXiv:2110.09348).
_PUBLISHED = {NONLINEAR: 66.5, LINEAR_HEAD: 61.1, NO_HEAD: 51.5, DIRECTCLR: 62.7}
_INFO_NCE = {"loss": "info_nce", "temperature": 0.5}


def variants(num_features: int, tasks: Sequence[Task], given: str = "") -> list[Variant]:
    """What is trained: the projectors, the run that is to ignore what the tasks ask, and nothing.

    Args:
      num_features: of h.
      tasks: of which those with an augmentation are ignored by that run.
      given: the changes to the augmentation that all runs have.
    """
    dim = {**_INFO_NCE, "projector_dim": num_features}
    nonlinear = {**dim, "projector_depth": 2, "projector_hidden": num_features}
    overrides = ",".join(
        changes for changes in (given, *(task.overrides for task in tasks)) if changes
    )
    half = max(1, num_features // 2)
    return [
        Variant(NONLINEAR, nonlinear),
        Variant(LINEAR_HEAD, {**dim, "projector_depth": 1}),
        Variant(NO_HEAD, {**_INFO_NCE, "projector_depth": 0}),
        Variant(DIRECTCLR, {**_INFO_NCE, "method": "directclr", "subvector": half}),
        Variant(IGNORING, {**nonlinear, "augmentation_overrides": overrides}),
        Variant(UNTRAINED.name, nonlinear, UNTRAINED.kind),
    ]


def num_features_of(study: Study) -> int:
    """How many features the study's encoder has."""
    shape = study.dataset.image_shape
    module = make_encoder(study.settings({}).model, shape)
    initialise = functools.partial(module.init_with_output, train=False)
    features, _ = jax.eval_shape(initialise, jax.random.key(0), jnp.zeros((1, *shape)))
    return int(features.shape[1])


def claims(rows: Rows, tasks: Sequence[Task]) -> list[Claim]:
    """What is claimed of heads.

    Args:
      rows: of all variants, by name.
      tasks: that the cells of h, g(h) and z have figures of.
    """
    found = []
    ignored = {task.key: task.title for task in tasks if task.overrides}
    for name, asked in ((NONLINEAR, titles_of(tasks)), (IGNORING, ignored)):
        parts = parts_of(rows[name])
        for key, title in asked.items():
            text = f"{name}, {title}: h is higher than g(h)"
            found.append(is_higher(text, parts, H, G, key))
    ordered = (
        (NONLINEAR, LINEAR_HEAD), (LINEAR_HEAD, NO_HEAD), (DIRECTCLR, NO_HEAD),
        (DIRECTCLR, LINEAR_HEAD),
    )  # fmt: skip
    found += [is_higher(f"{a} is better than {b}", rows, a, b) for a, b in ordered]
    return found


def table(rows: Rows, tasks: Sequence[Task], chance: Mapping[str, float]) -> str:
    """Both tables, with what is published and what was left out."""
    heads = {
        f"{name}: {part}": cells
        for name in (NONLINEAR, IGNORING, UNTRAINED.name)
        for part, cells in parts_of(rows[name]).items()
    }
    published = {
        f"published: {field}": [{task.key: getattr(task.published, part) for task in tasks}]
        for part, field in (("h", H), ("g", G), ("chance", "chance"))
    }
    columns = [Column(key, f"{title}, %", 100, 1) for key, title in titles_of(tasks).items()]
    probes = table_of({**heads, "chance": [dict(chance)], **published}, columns, "linear probe of")
    if left_out(tasks):
        probes += f"\nleft out, for these images do not allow it: {left_out(tasks)}"
    projectors = table_of(
        _with_published(_projectors(rows)),
        [LINEAR, KNN, Column("published", "published, ImageNet, %", digits=1, chosen=True)],
        "probes of h",
    )
    return f"{probes}\n\n{projectors}"


def _projectors(rows: Rows) -> Rows:
    return {name: rows[name] for name in (*_PUBLISHED, UNTRAINED.name)}


def _with_published(rows: Rows) -> Rows:
    """The rows with the published figure."""
    return {
        name: [{**cell, "published": _PUBLISHED[name]} for cell in cells]
        if name in _PUBLISHED
        else cells
        for name, cells in rows.items()
    }


def draw_head(rows: Rows, name: str, tasks: Sequence[Task], chance: Mapping[str, float]) -> Figure:
    """Bars of h, g(h) and z by task, beside those of the untrained encoder's h."""
    untrained = parts_of(rows[UNTRAINED.name])[H]
    return draw.grouped_bars(
        {**parts_of(rows[name]), f"{UNTRAINED.name}: {H}": untrained},
        titles_of(tasks),
        chance,
        title=f"What linear probes tell: {name}",
        ylabel="accuracy, %",
        level="chance",
        factor=100,
    )


def run(study: Study) -> None:
    """Trains all, and shows what came of it."""
    tasks = tasks_of(study.dataset.image_shape)
    given = study.settings({}).augmentation.augmentation_overrides
    wanted = variants(num_features_of(study), tasks, given)
    measured = [each for each in wanted if each.name in (NONLINEAR, IGNORING, UNTRAINED.name)]
    rows = study.rows(measured, measure)
    rows |= study.rows([each for each in wanted if each not in measured])
    chance = chances(study.test[1], tasks)
    study.finish(
        "What a projection head throws away, and whether one is needed",
        table(rows, tasks, chance),
        claims(rows, tasks),
        {
            "head.png": lambda: draw_head(rows, NONLINEAR, tasks, chance),
            "head_trained_to_ignore.png": lambda: draw_head(rows, IGNORING, tasks, chance),
            "projectors.png": lambda: draw.bars(
                _projectors(rows), LINEAR, title="Linear probe of h by projector",
                xlabel="accuracy, %",
            ),
        },
    )  # fmt: skip


if __name__ == "__main__":
    study_main(
        "projection_head",
        __doc__,
        run,
        varies=(
            "projector_hidden",
            "projector_depth",
            "projector_dim",
            "projector_norm",
            "projector_output_norm",
        ),
    )
