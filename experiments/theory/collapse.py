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
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array

import alphacl_jax as acl
from alphacl_jax.errors import RunError
from alphacl_jax.evaluation.spectrum import effective_rank
from alphacl_jax.theory.linear_networks import collapse, pca
from experiments.theory import collapse_pictures as pictures
from experiments.theory.checks import Check, agreement, format_checks
from experiments.theory.collapse_runs import (
    Inputs,
    Start,
    TwoLayers,
    at_growth,
    lost,
    one_layer,
    orthonormal_start,
    small_start,
    trained,
    two_layers,
    views,
)
from experiments.theory.lab import Lab, define_lab_flags, main, progress, settings_of

_MANY = 3 / 16  # the part of the dimensions that has to be lost
_ALIGNED = 0.995  # |cosine| from which the closed-form rates are held to


_ORTHONORMAL = "weak, 2 layers, orthonormal start"
# Augmentation, start and depth of the networks that InfoNCE trains.
_TRAINED: dict[str, tuple[str, Start, int]] = {
    "weak, 1 layer": ("weak", small_start, 1),
    "weak, 2 layers": ("weak", small_start, 2),
    "weak, 3 layers": ("weak", small_start, 3),
    "strong, 1 layer": ("strong", small_start, 1),
    _ORTHONORMAL: ("weak", orthonormal_start, 2),
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


def one_layer_checks(found: dict[str, np.ndarray], eigenvalues: np.ndarray) -> list[Check]:
    times, sigma = found["times"], np.log(found["sigma"])
    last = len(times) // 8
    slopes = (sigma[:, -1] - sigma[:, -1 - last]) / (times[-1] - times[-1 - last])
    shrinking = np.sum(slopes < 0, axis=1)
    spread = float(eigenvalues[0] - eigenvalues[-1])
    return [
        Check("one layer: solver beside W(0)exp(tX), worst", 0.0, float(found["gap"].max()), 1e-6),
        Check(
            "one layer: rate of log σ_k beside λ_k, worst over their range",
            0.0,
            float(np.abs(slopes - eigenvalues).max()) / spread,
            0.1,
        ),
        Check(
            "one layer: singular values that shrink, beside negative eigenvalues",
            float(np.sum(eigenvalues < 0)),
            float(shrinking.mean()),
            ours_std=float(shrinking.std()),
            expected_std=0.0,
        ),
    ]


def two_layer_checks(found: TwoLayers) -> list[Check]:
    start, end = found.aligned[:, 0, 0], found.aligned[:, -1, 0]
    # One-sided differences at the ends of the path are less exact.
    inside = found.aligned[:, 1:-1] > _ALIGNED
    gap = np.abs(found.measured - found.closed) / np.abs(found.closed)
    worst = [gap[:, 1:-1, layer][inside].max(initial=0.0) for layer in (0, 1)]
    return [
        Check("two layers: drift of W_1W_1ᵀ − W_2ᵀW_2", 0.0, found.drift, 1e-6),
        Check(
            "two layers: |u_1·v_2| of the top, start",
            0.9,
            float(start.mean()),
            relation="<",
        ),
        Check("two layers: the same, end, worst seed", _ALIGNED, float(end.min()), relation=">"),
        Check("two layers: aligned points on the curves", 100, float(inside.sum()), relation=">"),
        Check("two layers: σ̇_1 beside σ_1σ_2²(v_1ᵀXv_1) where aligned", 0.0, float(worst[0]), 0.05),
        Check("two layers: σ̇_2 beside σ_2σ_1²(v_1ᵀXv_1) where aligned", 0.0, float(worst[1]), 0.05),
    ]


def closed_form_check(x_alpha: Array) -> Check:
    """Two layers from an aligned start along eigenvectors, beside σ(t) in closed form."""
    rates, basis = pca.top_eigenvectors(x_alpha, x_alpha.shape[0])
    sigma = jnp.linspace(0.3, 0.2, len(rates))
    layers = (sigma[:, None] * basis, jnp.diag(sigma))
    # To nine tenths of the time at which the first is infinite.
    times = jnp.linspace(0.0, 0.45 / jnp.max(rates * sigma**2), 50)
    w1, _ = collapse.flow(collapse.two_layer_velocity, layers, x_alpha, times)
    expected = collapse.aligned_singular_values(sigma, rates, times)
    ours = jnp.linalg.norm(w1, axis=2)  # its rows stay orthogonal
    gap = float(jnp.max(jnp.abs(ours / expected - 1)))
    return Check("two layers, aligned start: σ(t) beside σ_0/√(1 − 2σ_0²λt)", 0.0, gap, 1e-5)


def run(values: flags.FlagValues) -> None:
    if values.block >= values.dim:
        raise RunError(f"--block={values.block} must be below --dim={values.dim}")
    lab = Lab(settings_of(values))
    inputs = Inputs(values.dim, values.block, values.weak)
    strengths = [values.weak, *np.linspace(values.weak, values.strong, 4)[1:]]
    rules = {"uniform α": acl.rules.uniform(), "InfoNCE's α": acl.rules.entropy(1.0)}
    checks: dict[str, list[Check]] = {}
    # Singular values over ten orders of magnitude are read off.
    with jax.enable_x64(True):
        key = jax.random.key(values.seed)
        keys = jax.random.split(jax.random.fold_in(key, 1), values.seeds)
        batches = {noise: views(key, inputs, noise, values.samples) for noise in strengths}
        matrices = {
            name: {noise: pca.input_covariance(*batch, rule) for noise, batch in batches.items()}
            for name, rule in rules.items()
        }
        eigenvalues = {
            name: {noise: np.linalg.eigvalsh(x)[::-1] for noise, x in by_noise.items()}
            for name, by_noise in matrices.items()
        }
        weak, strong = strengths[0], strengths[-1]
        many = [views(key, inputs, noise, 16 * values.samples) for noise in strengths]
        eigenvalues["uniform α, 16 times the samples"] = {
            noise: np.linalg.eigvalsh(pca.input_covariance(*batch, rules["uniform α"]))[::-1]
            for noise, batch in zip(strengths, many, strict=True)
        }
        indefinite, positive = matrices["InfoNCE's α"][strong], matrices["uniform α"][weak]
        checks["X_α"] = [
            Check("X: smallest eigenvalue, weak augmentation, uniform α", 0.0,
                  float(eigenvalues["uniform α"][weak][-1]), relation=">"),
            Check("X: smallest eigenvalue, strong augmentation, InfoNCE's α", 0.0,
                  float(eigenvalues["InfoNCE's α"][strong][-1]), relation="<"),
            Check("X: the same, uniform α, 16 times the samples", 0.0,
                  float(eigenvalues["uniform α, 16 times the samples"][strong][-1]), relation=">"),
        ]  # fmt: skip
        single = {
            "strong augmentation": one_layer(keys, indefinite, values.steps),
            "weak augmentation": one_layer(keys, positive, values.steps),
        }
        checks["fixed α"] = one_layer_checks(
            single["strong augmentation"], eigenvalues["InfoNCE's α"][strong]
        )
        double = two_layers(keys, positive, values.steps)
        checks["fixed α"] += [*two_layer_checks(double), closed_form_check(positive)]
        growth = 100.0
        relative = {
            "one layer": at_growth(single["weak augmentation"]["product"], growth),
            "two layers": at_growth(double.product, growth),
        }
        ranks = {k: np.mean([effective_rank(s**2) for s in v]) for k, v in relative.items()}
        checks["fixed α"].append(
            Check(
                f"effective rank at {growth:.0f}-fold growth, X ⪰ 0: two layers below one",
                float(ranks["one layer"]),
                float(ranks["two layers"]),
                relation="<",
            )
        )
        runs = {}
        for name in progress(list(_TRAINED), lambda name: f"InfoNCE, {name}"):
            augmentation, start, depth = _TRAINED[name]
            x, x_pos = batches[weak if augmentation == "weak" else strong]
            runs[name] = trained(
                keys, x, x_pos, start, depth, steps=values.train_steps, step_size=values.step_size
            )
    checks["trained by InfoNCE"] = training_checks(runs)
    for title, rows in checks.items():
        lab.show(format_checks(title, rows, expected="predicted") + "\n")
    lab.picture("spectrum_of_x.png", pictures.draw_spectra(eigenvalues))
    lab.picture("one_layer.png", pictures.draw_one_layer(single))
    lab.picture("two_layers.png", pictures.draw_two_layers(double, _ALIGNED))
    final = runs["weak, 2 layers"]["layers"]
    lab.picture("alignment.png", pictures.draw_alignment(double, final))
    lab.picture("objective.png", pictures.draw_objectives(single, double, runs))
    lab.picture("embedding_spectra.png", pictures.draw_embeddings(relative, runs, growth))
    results = {
        "eigenvalues": {
            name: {f"{noise:g}": v.tolist() for noise, v in by_noise.items()}
            for name, by_noise in eigenvalues.items()
        },
        "relative_singular_values": {k: v.tolist() for k, v in relative.items()},
        "embedding_variances": {k: v["spectra"][:, -1].tolist() for k, v in runs.items()},
        "losses": {k: v["losses"].tolist() for k, v in runs.items()},
    }
    rows = [check for of_one in checks.values() for check in of_one]
    lab.finish(results, checks, conclusion(runs, rows))


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


def training_checks(runs: dict[str, dict[str, Any]]) -> list[Check]:
    """Dimensions lost in training, and whether its two layers are aligned."""
    dim = runs[_ORTHONORMAL]["spectra"].shape[-1]
    gone = {name: lost(r["spectra"][:, -1]) for name, r in runs.items()}
    rows = [
        Check(
            "dimensions lost: weak, 1 layer", 1.0, gone["weak, 1 layer"].mean().item(), relation="<"
        )
    ]
    rows += [
        Check(f"dimensions lost: {name}", _MANY * dim, float(gone[name].mean()), relation=">")
        for name in ("weak, 2 layers", "weak, 3 layers", "strong, 1 layer")
    ]
    first, second = runs["weak, 2 layers"]["layers"]
    top = float(np.mean(np.diag(collapse.alignment_matrix(first, second))[:3]))
    rows.append(
        Check(
            f"dimensions lost: {_ORTHONORMAL}",
            1.0,
            float(gone[_ORTHONORMAL].mean()),
            relation="<",
        )
    )
    return [*rows, Check("two layers: mean |u_1ᵏ·v_2ᵏ|, k ≤ 3", 0.9, top, relation=">")]


if __name__ == "__main__":
    define_flags()
    main(run, __doc__)
