"""What the script on dimensional collapse holds its runs against."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from alphacl_jax.theory.linear_networks import collapse, pca
from experiments.theory.checks import Check
from experiments.theory.collapse_runs import Spectra, TwoLayers, lost

ALIGNED = 0.995  # |cosine| from which the closed-form rates are held to
ORTHONORMAL = "weak, 2 layers, orthonormal start"
_MANY = 3 / 16  # the part of the dimensions that has to be lost


def spectra_checks(found: Spectra) -> list[Check]:
    """Where X has negative eigenvalues, and where not."""
    weak, strong = found.strengths[0], found.strengths[-1]

    def smallest(name: str, noise: float) -> float:
        return float(found.eigenvalues[name][noise][-1])

    return [
        Check("X: smallest eigenvalue, weak augmentation, uniform α", 0.0,
              smallest("uniform α", weak), relation=">"),
        Check("X: smallest eigenvalue, strong augmentation, InfoNCE's α", 0.0,
              smallest("InfoNCE's α", strong), relation="<"),
        Check("X: the same, uniform α, 16 times the samples", 0.0,
              smallest("uniform α, 16 times the samples", strong), relation=">"),
    ]  # fmt: skip


def growth_check(ranks: dict[str, float], growth: float) -> Check:
    """Two layers have fewer dimensions than one at the same growth."""
    return Check(
        f"effective rank at {growth:.0f}-fold growth, X ⪰ 0: two layers below one",
        ranks["one layer"],
        ranks["two layers"],
        relation="<",
    )


def one_layer_checks(found: dict[str, np.ndarray], eigenvalues: np.ndarray) -> list[Check]:
    """Of one layer under fixed α."""
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
    """Of two layers under fixed α."""
    start, end = found.aligned[:, 0, 0], found.aligned[:, -1, 0]
    # One-sided differences at the ends of the path are less exact.
    inside = found.aligned[:, 1:-1] > ALIGNED
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
        Check("two layers: the same, end, worst seed", ALIGNED, float(end.min()), relation=">"),
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


def training_checks(runs: dict[str, dict[str, Any]]) -> list[Check]:
    """Dimensions lost in training, and whether its two layers are aligned."""
    dim = runs[ORTHONORMAL]["spectra"].shape[-1]
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
            f"dimensions lost: {ORTHONORMAL}",
            1.0,
            float(gone[ORTHONORMAL].mean()),
            relation="<",
        )
    )
    return [*rows, Check("two layers: mean |u_1ᵏ·v_2ᵏ|, k ≤ 3", 0.9, top, relation=">")]
