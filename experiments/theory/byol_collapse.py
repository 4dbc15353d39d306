"""A predictor and BatchNorm keep BYOL from collapsing: together they hide a contrastive term.

On the hierarchical latent tree: every combination of predictor, BatchNorm, stop-gradient and moving
average, with final loss, variance of the unit embeddings, and a probe of the root. Then the
implicit contrastive term that mean removal and a linear predictor create, exact, beside SimCLR's
covariance operator.

  python -m experiments.theory.byol_collapse
  python -m experiments.theory.byol_collapse --quick
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.tables import align
from alphacl_jax.theory.covariance.operators import layer_jacobians
from alphacl_jax.theory.dual_networks import byol, contrast
from alphacl_jax.theory.latent_tree import model, network
from experiments.theory.byol_collapse_pictures import picture_of_contrast, picture_of_grid
from experiments.theory.checks import Check, agreement, format_checks
from experiments.theory.lab import (
    Lab,
    define_lab_flags,
    in_progress,
    main,
    progress,
    require_finite_loss,
    settings_of,
)

# Unit embeddings of a constant have variance 0; those of random directions 1.
COLLAPSED_BELOW = 0.05
_EVERY = 20  # steps between looks at the run whose gradient is taken apart


class Combination(NamedTuple):
    """One row of the table."""

    predictor: byol.Predictor
    batch_norm: bool
    stop_gradient: bool
    moving_average: bool

    def __str__(self) -> str:
        parts = {
            "BN": self.batch_norm,
            "stop-grad": self.stop_gradient,
            "EMA": self.moving_average,
        }
        return " + ".join([f"predictor {self.predictor}", *(k for k, on in parts.items() if on)])


Grid = dict[Combination, byol.ByolResult]


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    define_lab_flags("byol_collapse", values)
    for name, default, least, text in (
        ("depth", 4, 1, "Levels of the tree below its root."),
        ("children", 2, 2, "Of each latent."),
        ("width", 10, 1, "Hidden nodes for each latent."),
        ("outputs", 50, 2, "Of the network."),
        ("num_seeds", 3, 1, "Of each combination."),
        ("batch_size", 128, 2, "Pairs of views per step."),
        ("steps", 500, 1, "Of SGD with momentum 0.9."),
        ("test_samples", 2048, 4, "On which variance and probe are measured."),
        ("contrast_steps", 400, 20, "Of the run whose gradient is taken apart; multiple of 20."),
        ("contrast_width", 4, 1, "Hidden nodes for each latent in that run."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=least, flag_values=values)
    for name, number, text in (
        ("lowest_polarity", 0.8, "delta: each edge's correlation is uniform in [delta, 1]."),
        ("learning_rate", 0.05, "Of SGD, in the table's runs."),
        ("weight_decay", 5e-4, "Added to the gradient."),
        ("target_momentum", 0.99, "Of the moving average, where there is one."),
    ):
        flags.DEFINE_float(name, number, text, flag_values=values)
    flags.DEFINE_multi_enum(
        "predictor",
        list(byol.PREDICTORS),
        byol.PREDICTORS,
        "Which predictors; repeat the flag for several.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "quick", False, "Depth at most 3, 2 seeds, 200 steps (and 100).", flag_values=values
    )


def train_grid(
    keys: jax.Array,
    lowest_polarity: float,
    tree: model.TreeShape,
    training: byol.ByolTraining,
    predictors: Sequence[byol.Predictor],
) -> Grid:
    """All combinations; what has equal shapes (switches, seeds) is one program.

    Args:
      keys: of the seeds.
      lowest_polarity: δ of the trees.
      tree: with and without BatchNorm in turn.
      training: with each predictor in turn.
      predictors: which.
    """
    switches = list(itertools.product((True, False), repeat=2))
    stop, average = (jnp.array(v, jnp.float32) for v in zip(*switches, strict=True))
    by_seed = jax.vmap(byol.train_byol, (0, None, None, None, None, None))
    by_switch = jax.vmap(by_seed, (None, None, 0, 0, None, None))
    run = jax.jit(by_switch, static_argnums=(4, 5))
    grid: Grid = {}
    for predictor, norm in progress(
        list(itertools.product(predictors, (True, False))),
        lambda program: f"predictor {program[0]}, BatchNorm {'on' if program[1] else 'off'}",
    ):
        shape, settings = replace(tree, batch_norm=norm), replace(training, predictor=predictor)
        result = jax.device_get(run(keys, lowest_polarity, stop, average, shape, settings))
        where = f"with predictor {predictor}, BatchNorm {'on' if norm else 'off'}"
        require_finite_loss(result.losses, "learning_rate", training.learning_rate, where)
        for i, switch in enumerate(switches):
            cell = byol.ByolResult(*(v[i] for v in result))
            grid[Combination(predictor, norm, *switch)] = cell
    return grid


def table(grid: Grid) -> str:
    titles = [
        "predictor", "BatchNorm", "stop-gradient", "EMA",
        "loss", "variance", "shared", "probe", "collapsed",
    ]  # fmt: skip
    rows = []
    for combination, r in grid.items():
        collapsed = r.variance < COLLAPSED_BELOW
        rows.append(
            [
                combination.predictor,
                *("yes" if on else "no" for on in combination[1:]),
                f"{r.loss.mean():.3f}",
                f"{r.variance.mean():.3f}±{r.variance.std():.3f}",
                f"{r.between.mean():.3f}",
                f"{r.probe.mean():.3f}±{r.probe.std():.3f}",
                f"{collapsed.sum()} of {len(collapsed)}",
            ]
        )
    return align([titles, *rows])


def collapse_checks(grid: Grid) -> list[Check]:
    """What theory and the published ablations say of the table, as mean variances."""
    checks = []
    for combination, r in grid.items():
        predictor, norm, stop, _ = combination
        variance = float(r.variance.mean())
        if not norm and not stop:
            checks.append(
                Check(f"collapses: {combination}", COLLAPSED_BELOW, variance, relation="<")
            )
        elif norm and stop and predictor != "none":
            checks.append(
                Check(f"does not: {combination}", COLLAPSED_BELOW, variance, relation=">")
            )
    return checks


def closed_form_errors(seed: int, lowest_polarity: float) -> dict[str, float]:
    """Relative error of contrast − shrinkage against autodiff in float64, by layer."""
    with jax.enable_x64(True):
        shape = model.TreeShape(depth=2, width=3, outputs=4, batch_norm=False)
        keys = jax.random.split(jax.random.key(seed), 4)
        rho = model.sample_polarities(keys[0], shape, lowest_polarity)
        weights = network.init_tree_network(keys[1], shape)
        x, x_pos = (view[-1] for view in model.sample_views(keys[2], 16, rho))
        predictor = jax.random.normal(keys[3], (4, 4)) / 2
        outputs = contrast.tree_outputs

        def loss(weights: network.Weights) -> jax.Array:
            f, f_pos = outputs(weights, x), outputs(weights, x_pos)
            return contrast.linear_byol_loss(f, f_pos, predictor, remove_mean=True)

        errors = {}
        for layer, gradient in enumerate(jax.jit(jax.grad(loss))(weights)):
            parts = contrast.implicit_contrast(
                layer_jacobians(outputs, weights, layer, x),
                layer_jacobians(outputs, weights, layer, x_pos),
                outputs(weights, x),
                outputs(weights, x_pos),
                predictor,
                remove_mean=True,
            )
            difference = parts.contrast - parts.shrinkage + gradient.reshape(-1)
            ratio = jnp.linalg.norm(difference) / jnp.linalg.norm(gradient)
            errors[f"layer {layer + 1}"] = float(ratio)
    return errors


def follow_contrast(
    keys: jax.Array,
    lowest_polarity: float,
    tree: model.TreeShape,
    settings: contrast.ContrastSettings,
) -> contrast.ContrastHistory:
    """The runs whose gradient is taken apart, with a leading axis of seeds."""
    watch = jax.jit(jax.vmap(contrast.watch_contrast, (0, None, None, None)), static_argnums=(2, 3))
    return in_progress(
        f"the implicit term, {settings.steps} steps",
        lambda: jax.device_get(watch(keys, lowest_polarity, tree, settings)),
    )


def run(values: flags.FlagValues) -> None:
    lab = Lab(settings_of(values))
    seeds, steps, depth = values.num_seeds, values.steps, values.depth
    contrast_steps = values.contrast_steps
    if values.quick:
        seeds, steps, depth = min(seeds, 2), min(steps, 200), min(depth, 3)
        contrast_steps = min(contrast_steps, 100)
    if contrast_steps % _EVERY:
        raise RunError(f"--contrast_steps={contrast_steps} must be a multiple of {_EVERY}")
    # All settings first: an impossible one ends the run before it starts.
    model.check_polarity(values.lowest_polarity)
    tree = model.TreeShape(depth, values.children, values.width, values.outputs)
    small = model.TreeShape(
        min(depth, 3), values.children, values.contrast_width, 8, batch_norm=False
    )
    training = byol.ByolTraining(
        predictor_hidden=values.outputs,
        batch=values.batch_size,
        steps=steps,
        learning_rate=values.learning_rate,
        weight_decay=values.weight_decay,
        target_momentum=values.target_momentum,
        test_samples=values.test_samples,
    )
    settings = contrast.ContrastSettings(
        batch=values.batch_size, steps=contrast_steps, every=_EVERY
    )
    keys, more_keys = (
        jax.random.split(jax.random.key(seed), seeds) for seed in (values.seed, values.seed + 1)
    )
    grid = train_grid(keys, values.lowest_polarity, tree, training, values.predictor)
    errors = closed_form_errors(values.seed, values.lowest_polarity)
    history = follow_contrast(more_keys, values.lowest_polarity, small, settings)
    lab.show(f"{steps} steps, {seeds} seed(s); a collapse is a variance below {COLLAPSED_BELOW}")
    show(lab, grid, errors, history, contrast_steps)


def show(
    lab: Lab,
    grid: Grid,
    errors: Mapping[str, float],
    history: contrast.ContrastHistory,
    contrast_steps: int,
) -> None:
    """Tables, checks, pictures and files."""
    checks = {
        "collapse": collapse_checks(grid),
        "closed form": [
            Check(f"contrast − shrinkage + gradient, {k}", 0.0, e, 1e-10) for k, e in errors.items()
        ],
        "implicit contrast": contrast_checks(history),
    }
    best = float(np.mean([r.possible_probe.mean() for r in grid.values()]))
    first = float(np.mean([r.initial_probe.mean() for r in grid.values()]))
    lab.show(table(grid))
    lab.show(f"probe of untrained networks {first:.3f}; the exact posterior of the root {best:.3f}")
    titles = {
        "collapse": "mean variance of the unit embeddings",
        "closed form": "relative error, float64",
        "implicit contrast": "cosine with the covariance operator × W",
    }
    for name, rows in checks.items():
        lab.show("")
        lab.show(format_checks(titles[name], rows, expected="theory"))
    lab.picture("byol_collapse.png", picture_of_grid(grid, COLLAPSED_BELOW, best))
    lab.picture("implicit_contrast.png", picture_of_contrast(history, contrast_steps))
    lab.finish(
        {
            "grid": [
                {**c._asdict(), **{k: v.tolist() for k, v in r._asdict().items() if k != "losses"}}
                for c, r in grid.items()
            ],
            "closed_form_errors": errors,
            "history": {k: v.tolist() for k, v in history._asdict().items()},
        },
        checks,
        conclusion(grid, history, [check for rows in checks.values() for check in rows]),
    )


def conclusion(
    grid: Grid, history: contrast.ContrastHistory, checks: Sequence[Check]
) -> tuple[str, str]:
    """What the run has shown."""
    gone = [str(c) for c, r in grid.items() if r.variance.mean() < COLLAPSED_BELOW]
    which = f" ({'; '.join(gone)})" if gone else ""
    half, with_mean = (float(v.mean()) for v in (history.half, history.half_with_mean))
    return (
        agreement(checks, "rows", "agree with the theory"),
        f"{len(gone)} of {len(grid)} combinations collapsed by their mean variance{which}, and at "
        f"P = ½I the implicit contrast has a cosine of {half:.3f} with SimCLR's covariance "
        f"operator, {with_mean:.3f} where the mean stays.",
    )


def contrast_checks(history: contrast.ContrastHistory) -> list[Check]:
    """Means over seeds (and, for P = ½I, over looks)."""
    half, with_mean = float(history.half.mean()), float(history.half_with_mean.mean())
    return [
        Check("P = ½I, mean removed, uniform alpha", 1.0, half, 0.05),
        Check("mean removal adds to it (against none)", with_mean, half, relation=">"),
        Check(
            "the run's own predictor at the end, uniform alpha",
            0.0,
            float(history.uniform[:, -1].mean()),
            relation=">",
        ),
        Check(
            "the run's own predictor at the end, InfoNCE's alpha",
            0.0,
            float(history.info_nce[:, -1].mean()),
            relation=">",
        ),
    ]


if __name__ == "__main__":
    define_flags()
    main(run, __doc__)
