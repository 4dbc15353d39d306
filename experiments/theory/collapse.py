"""Linear contrastive learning loses dimensions: to augmentation in one layer, to depth in two.

One layer under fixed α, Ẇ = W X, keeps only the directions in which X = C_α[x] is positive, and
strong augmentation makes it indefinite. Two layers lose dimensions even where X has no negative
eigenvalue: they align, and a singular value then grows with its own third power. Both are
integrated and held against their closed forms, and both kinds of network are also trained by
InfoNCE, where α moves; two layers then lose dimensions from a small start, and not from
orthonormal layers.

    python -m experiments.theory.collapse
    python -m experiments.theory.collapse --strong=8 --block=4 --train_steps=8000
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from absl import flags
from jax import Array

from alphacl_jax.errors import RunError
from alphacl_jax.evaluation.spectrum import effective_rank
from experiments.theory import collapse_pictures as pictures
from experiments.theory.checks import Check, agreement, format_checks
from experiments.theory.collapse_claims import (
    ALIGNED,
    ORTHONORMAL,
    closed_form_check,
    growth_check,
    one_layer_checks,
    spectra_checks,
    training_checks,
    two_layer_checks,
)
from experiments.theory.collapse_runs import (
    GROWTH,
    FixedImportance,
    Inputs,
    Spectra,
    Start,
    fixed_importance,
    input_spectra,
    lost,
    orthonormal_start,
    small_start,
    trained,
)
from experiments.theory.lab import Lab, define_lab_flags, main, progress, settings_of

# Augmentation, start and depth of the networks that InfoNCE trains.
_TRAINED: dict[str, tuple[str, Start, int]] = {
    "weak, 1 layer": ("weak", small_start, 1),
    "weak, 2 layers": ("weak", small_start, 2),
    "weak, 3 layers": ("weak", small_start, 3),
    "strong, 1 layer": ("strong", small_start, 1),
    ORTHONORMAL: ("weak", orthonormal_start, 2),
}


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    define_lab_flags("collapse", values)
    integer = partial(flags.DEFINE_integer, flag_values=values)
    real = partial(flags.DEFINE_float, lower_bound=0.0, flag_values=values)
    integer("seeds", 4, "Random starts of each network.", lower_bound=1)
    integer("dim", 16, "Dimensions of inputs, hidden layers and embeddings.", lower_bound=4)
    integer("samples", 128, "Samples in the batch.", lower_bound=2)
    integer("block", 6, "Dimensions that augmentation can be strong in.", lower_bound=1)
    real("weak", 0.05, "Noise variance of weak augmentation; a sample's is about 1.")
    real("strong", 4.0, "Noise variance of strong augmentation, in the block.")
    integer("steps", 240, "Points of the fixed-α curves.", lower_bound=8)
    integer("train_steps", 4000, "Gradient steps of the InfoNCE runs, in 40s.", lower_bound=40)
    real("step_size", 0.1, "Learning rate of the InfoNCE runs.")


def run(values: flags.FlagValues) -> None:
    if values.block >= values.dim:
        raise RunError(f"--block={values.block} must be below --dim={values.dim}")
    lab = Lab(settings_of(values))
    inputs = Inputs(values.dim, values.block, values.weak)
    strengths = [values.weak, *np.linspace(values.weak, values.strong, 4)[1:]]
    # Singular values over ten orders of magnitude are read off.
    with jax.enable_x64(True):
        key = jax.random.key(values.seed)
        keys = jax.random.split(jax.random.fold_in(key, 1), values.seeds)
        spectra = input_spectra(key, inputs, strengths, values.samples)
        fixed = fixed_importance(keys, spectra, values.steps)
        runs = train_all(keys, spectra, steps=values.train_steps, step_size=values.step_size)
        checks = {
            "X_α": spectra_checks(spectra),
            "fixed α": fixed_checks(fixed, spectra),
            "trained by InfoNCE": training_checks(runs),
        }
    for title, rows in checks.items():
        lab.show(format_checks(title, rows, expected="predicted") + "\n")
    draw(lab, spectra, fixed, runs)
    rows = [check for of_one in checks.values() for check in of_one]
    lab.finish(results_of(spectra, fixed, runs), checks, conclusion(runs, rows))


def train_all(
    keys: Array, spectra: Spectra, *, steps: int, step_size: float
) -> dict[str, dict[str, Any]]:
    """What `trained` gives for each network of the table above."""
    batches, strengths = spectra.batches, spectra.strengths
    noise = {"weak": strengths[0], "strong": strengths[-1]}
    runs = {}
    for name in progress(list(_TRAINED), lambda name: f"InfoNCE, {name}"):
        augmentation, start, depth = _TRAINED[name]
        x, x_pos = batches[noise[augmentation]]
        runs[name] = trained(keys, x, x_pos, start, depth, steps=steps, step_size=step_size)
    return runs


def fixed_checks(fixed: FixedImportance, spectra: Spectra) -> list[Check]:
    """Both depths under fixed α beside their closed forms, and beside each other."""
    strong = spectra.strengths[-1]
    ranks = {
        name: float(np.mean([effective_rank(sigma**2) for sigma in of_seeds]))
        for name, of_seeds in fixed.relative.items()
    }
    return [
        *one_layer_checks(
            fixed.single["strong augmentation"], spectra.eigenvalues["InfoNCE's α"][strong]
        ),
        *two_layer_checks(fixed.double),
        closed_form_check(spectra.positive),
        growth_check(ranks, GROWTH),
    ]


def draw(
    lab: Lab, spectra: Spectra, fixed: FixedImportance, runs: dict[str, dict[str, Any]]
) -> None:
    """Writes the pictures."""
    single, double = fixed.single, fixed.double
    final = runs["weak, 2 layers"]["layers"]
    lab.picture("spectrum_of_x.png", pictures.draw_spectra(spectra.eigenvalues))
    lab.picture("one_layer.png", pictures.draw_one_layer(single))
    lab.picture("two_layers.png", pictures.draw_two_layers(double, ALIGNED))
    lab.picture("alignment.png", pictures.draw_alignment(double, final))
    lab.picture("objective.png", pictures.draw_objectives(single, double, runs))
    lab.picture("embedding_spectra.png", pictures.draw_embeddings(fixed.relative, runs, GROWTH))


def results_of(
    spectra: Spectra, fixed: FixedImportance, runs: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What is stored beside the checks."""
    return {
        "eigenvalues": {
            name: {f"{noise:g}": v.tolist() for noise, v in by_noise.items()}
            for name, by_noise in spectra.eigenvalues.items()
        },
        "relative_singular_values": {k: v.tolist() for k, v in fixed.relative.items()},
        "embedding_variances": {k: v["spectra"][:, -1].tolist() for k, v in runs.items()},
        "losses": {k: v["losses"].tolist() for k, v in runs.items()},
    }


def conclusion(runs: Mapping[str, Mapping[str, Any]], checks: Sequence[Check]) -> tuple[str, str]:
    """What the run has shown."""
    gone = {name: lost(run["spectra"][:, -1]).mean() for name, run in runs.items()}
    listed = "; ".join(f"{number:.1f} in {name}" for name, number in gone.items())
    dim = next(iter(runs.values()))["spectra"].shape[-1]
    return (
        agreement(checks, "rows", "are as predicted"),
        f"Training by InfoNCE lost, of {dim} embedding dimensions and on average over seeds: "
        f"{listed}.",
    )


if __name__ == "__main__":
    define_flags()
    main(run, __doc__)
