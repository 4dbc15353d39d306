"""Under fixed α a linear network is PCA: shallow or deep, ascent ends at X_α's top eigenvectors.

Corollary 2: one layer with orthonormal rows reaches the sum of the top k eigenvalues and their
subspace. Theorem 3: a deep network with layers of Frobenius norm 1 reaches the top eigenvalue
from almost every start, each layer of rank one and aligned with its neighbours. Corollary 3: with
filters of equal length the hidden directions have entries of one size. Each is run from many
random starts, on an X_α without negative eigenvalues (weak augmentation, uniform α) and on one
with (strong augmentation, α on near pairs).

    python -m experiments.theory.linear_networks
    python -m experiments.theory.linear_networks --seeds=256 --depths=2,8 --steps=5000
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array

import alphacl_jax as acl
from alphacl_jax.errors import RunError
from alphacl_jax.tables import align
from alphacl_jax.theory.linear_networks import pca
from alphacl_jax.theory.linear_networks.decomposition import svd_in_turn
from experiments.theory import linear_networks_pictures as pictures
from experiments.theory.checks import Check, agreement, format_checks
from experiments.theory.lab import Lab, define_lab_flags, main, progress, settings_of

ARRIVED = 1e-6  # of the top eigenvalue: how near the energy counts as there
_STEP = 0.1  # of a layer's own size; in plain ascent, of 1/(largest eigenvalue in size)


@dataclass(frozen=True)
class Deep:
    """Many starts of one depth on one X_α: arrays over seeds.

    Attributes:
      arrivals: the step from which the energy stays within ARRIVED of λ_max; −1 for never.
      energies: over λ_max, `[seeds, steps + 1]`.
      residuals: `pca.rank_one_residuals`, `[seeds, depth]`.
      misalignments: 1 − `pca.top_alignments`, `[seeds, depth]`.
      deviations: `pca.sign_deviations`, `[seeds, depth − 1]`.
      spectra: singular values of each layer, a `[seeds, r]` per layer.
      directions: √n_1 [v_1]_k of the first layer, `[seeds, hidden]`.
      upper: ‖W_L … W_2‖₂, `[seeds]`.
    """

    arrivals: np.ndarray
    energies: np.ndarray
    residuals: np.ndarray
    misalignments: np.ndarray
    deviations: np.ndarray
    spectra: list[np.ndarray]
    directions: np.ndarray
    upper: np.ndarray

    @property
    def arrived(self) -> np.ndarray:
        return self.arrivals >= 0

    def as_json(self) -> dict[str, Any]:
        return {
            "arrivals": self.arrivals.tolist(),
            "final_energies": self.energies[:, -1].tolist(),
            "residuals": self.residuals.tolist(),
            "misalignments": self.misalignments.tolist(),
            "deviations": self.deviations.tolist(),
            "upper": self.upper.tolist(),
        }


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    define_lab_flags("linear_networks", values)
    integer = partial(flags.DEFINE_integer, flag_values=values)
    integer("seeds", 64, "Random starts of each network.", lower_bound=1)
    integer("dim", 12, "Input dimensions.", lower_bound=2)
    integer("samples", 256, "Samples behind X_α.", lower_bound=2)
    integer("hidden", 8, "Width of the hidden layers.", lower_bound=2)
    integer("outputs", 4, "Output dimensions of the deep networks.", lower_bound=1)
    integer("steps", 3000, "Ascent steps.", lower_bound=1)
    flags.DEFINE_list("depths", "2,3,4,5,6", "Numbers of layers, 2 or more.", flag_values=values)
    flags.DEFINE_list("components", "1,3,10", "Values of k in Corollary 2.", flag_values=values)
    flags.DEFINE_float(
        "noise",
        2.0,
        "Variance of strong augmentation, in every second dimension; a sample's is 0.2 to 2.",
        lower_bound=0.0,
        flag_values=values,
    )


def input_matrices(seed: int, dim: int, samples: int, noise: float) -> dict[str, Array]:
    """X_α without and with negative eigenvalues, by name."""
    variances = jnp.linspace(2.0, 0.2, dim)
    key = jax.random.key(seed)
    weak = pca.gaussian_views(key, variances, 0.05 * variances, samples)
    strong_noise = jnp.where(jnp.arange(dim) % 2 == 0, noise, 0.05)
    strong = pca.gaussian_views(key, variances, strong_noise, samples)
    return {
        "uniform α": pca.input_covariance(*weak, acl.rules.uniform()),
        "entropy α": pca.input_covariance(*strong, acl.rules.entropy(2.0)),
    }


@partial(jax.jit, static_argnames=("widths", "steps"))
def _ascend_and_measure(
    keys: Array,
    x_alpha: Array,
    widths: tuple[int, ...],
    steps: int,
    per_filter: bool | Array,
    scale_free: bool | Array,
) -> dict[str, Any]:
    eigenvalues, basis = pca.top_eigenvectors(x_alpha, x_alpha.shape[0])
    step_size = _STEP / jnp.where(scale_free, 1.0, jnp.max(jnp.abs(eigenvalues)))

    def one(key: Array) -> dict[str, Any]:
        start = pca.gaussian_layers(key, widths)
        last, energies = pca.ascend_deep(
            start, x_alpha, step_size, steps, per_filter=per_filter, scale_free=scale_free
        )
        upper = pca.end_to_end(last[1:])
        *decomposed, of_upper = svd_in_turn((*last, upper))
        return {
            "energies": energies / eigenvalues[0],
            "residuals": pca.rank_one_residuals(last),
            "misalignments": 1 - pca.top_alignments(last, basis[0]),
            "deviations": pca.sign_deviations(last),
            "spectra": [svd.sigma for svd in decomposed],
            "directions": decomposed[0].u[:, 0] * jnp.sqrt(1.0 * widths[1]),
            "upper": of_upper.sigma[0],
        }

    return jax.vmap(one)(keys)


def ascend_many(
    keys: Array,
    x_alpha: Array,
    widths: tuple[int, ...],
    steps: int,
    *,
    per_filter: bool = False,
    scale_free: bool = True,
) -> Deep:
    """`pca.ascend_deep` from one start per key."""
    found = jax.tree.map(
        np.asarray, _ascend_and_measure(keys, x_alpha, widths, steps, per_filter, scale_free)
    )
    away = found["energies"] < 1 - ARRIVED
    # One past the last step that was away; the first step where none was.
    arrivals = np.where(away[:, -1], -1, away.shape[1] - np.argmax(away[:, ::-1], axis=1))
    return Deep(arrivals=np.where(away.any(1), arrivals, 0), **found)


def corollary_2(
    keys: Array, name: str, x_alpha: Array, k: int, steps: int
) -> tuple[list[Check], np.ndarray]:
    """The rows of one k on one X_α, and the energies over their maximum, `[seeds, steps + 1]`."""
    eigenvalues, basis = pca.top_eigenvectors(x_alpha, x_alpha.shape[0])
    step_size = 1.0 / (eigenvalues[0] - eigenvalues[-1])
    starts = jax.vmap(lambda key: jax.random.normal(key, (k, x_alpha.shape[0])))(keys)
    last, energies = jax.vmap(pca.ascend_orthonormal, (0, None, None, None))(
        starts, x_alpha, step_size, steps
    )
    angles = jax.vmap(pca.largest_angle, (0, None))(last, basis[:k])
    best, final = float(jnp.sum(eigenvalues[:k])), np.asarray(energies[:, -1])
    worst = float(final[np.argmax(np.abs(final - best))])
    title = f"Cor 2, {name}, k={k}"
    return [
        Check(f"{title}: energy of the worst start", best, worst, 1e-6 * abs(best)),
        Check(f"{title}: largest principal angle", 0.0, float(jnp.max(angles)), 1e-3),
    ], np.asarray(energies)


def deep_checks(title: str, deep: Deep, *, per_filter: bool) -> list[Check]:
    """The rows of one depth on one X_α: the claims are about the starts that arrive."""
    rows = [Check(f"{title}: fraction of starts at λ_max", 1.0, float(deep.arrived.mean()), 0.05)]
    if deep.arrived.any():
        residual = float(deep.residuals[deep.arrived].max())
        misaligned = float(deep.misalignments[deep.arrived].max())
        rows += [
            Check(f"{title}: worst rank-one residual", 0.0, residual, 5e-3),
            Check(f"{title}: worst 1 − alignment", 0.0, misaligned, 1e-5),
        ]
        if per_filter:
            deviation = float(deep.deviations[deep.arrived].max())
            rows.append(Check(f"{title}: worst |√n·|v_k| − 1|", 0.0, deviation, 5e-3))
    if not deep.arrived.all():
        # Theorem 3 excludes maxima at which WᵀW of the upper layers has no distinct top eigenvalue.
        upper = float(deep.upper[~deep.arrived].max())
        rows.append(Check(f"{title}: upper layers' product, others", 0.0, upper, 1e-3))
    return rows


def arrivals_table(found: Mapping[str, Deep]) -> str:
    """How many starts arrive, and by which step."""
    rows = []
    for name, deep in found.items():
        at = np.sort(deep.arrivals[deep.arrived])
        steps = [f"{np.quantile(at, q):.0f}" if len(at) else "—" for q in (0.5, 0.95, 1.0)]
        rows.append([name, f"{100 * deep.arrived.mean():.0f} %", *steps])
    return align([["network", "arrive", "half of them by step", "95 %", "all"], *rows])


def _whole_numbers(name: str, texts: Sequence[str], low: int, high: float) -> list[int]:
    try:
        numbers = [int(text) for text in texts]
    except ValueError:
        numbers = []
    repeated = len(set(numbers)) < len(numbers)
    if not numbers or repeated or min(numbers) < low or max(numbers) > high:
        bound = f"from {low} to {high}" if high < np.inf else f"of {low} and more"
        text = ",".join(texts)
        raise RunError(f"--{name}={text} must be a list of different whole numbers {bound}")
    return numbers


def run(values: flags.FlagValues) -> None:
    depths = _whole_numbers("depths", values.depths or [], 2, np.inf)
    components = _whole_numbers("components", values.components or [], 1, values.dim)
    lab = Lab(settings_of(values))
    shallow: dict[str, dict[str, np.ndarray]] = {}
    theorem, filters, plain = {}, {}, {}
    orthonormal_checks: list[Check] = []
    checks: dict[str, list[Check]] = {"Theorem 3": [], "Corollary 3": []}
    # Angles and ranks are read off far below float32's rounding.
    with jax.enable_x64(True):
        matrices = input_matrices(values.seed, values.dim, values.samples, values.noise)
        spectra = {name: np.linalg.eigvalsh(x)[::-1] for name, x in matrices.items()}
        for name, found in spectra.items():
            if found[0] <= 0:
                raise RunError(
                    f"--noise={values.noise} leaves X_α of {name} no positive eigenvalue "
                    f"({found[0]:.3g} is the largest), and the theorems need one; take less noise"
                )
        keys = jax.random.split(jax.random.key(values.seed), values.seeds)
        work = [(name, x, depth) for name, x in matrices.items() for depth in (0, *depths)]
        for name, x_alpha, depth in progress(work, lambda w: f"{w[0]}, {w[2] or 1} layers"):
            if depth == 0:
                shallow[name] = {}
                for k in components:
                    rows, energies = corollary_2(keys, name, x_alpha, k, values.steps)
                    orthonormal_checks += rows
                    best = float(spectra[name][:k].sum())
                    shallow[name][f"k = {k}"] = best - energies
                continue
            widths = (values.dim, *[values.hidden] * (depth - 1), values.outputs)
            ascend = partial(ascend_many, keys, x_alpha, widths, values.steps)
            title = f"{name}, {depth} layers"
            theorem[title] = ascend(scale_free=True)
            plain[title] = ascend(scale_free=False)
            filters[title] = ascend(per_filter=True)
            checks["Theorem 3"] += deep_checks(f"Thm 3, {title}", theorem[title], per_filter=False)
            checks["Corollary 3"] += deep_checks(f"Cor 3, {title}", filters[title], per_filter=True)
    checks = {"Corollary 2": orthonormal_checks, **checks}
    for title, rows in checks.items():
        lab.show(format_checks(title, rows, expected="predicted") + "\n")
    for title, networks in (
        ("Ascent with steps of each layer's own size", theorem),
        ("The same with a constant step size", plain),
        ("Filters of equal length, steps of each layer's own size", filters),
    ):
        lab.show(f"{title}:\n{arrivals_table(networks)}\n")
    lab.picture("spectrum_of_x.png", pictures.draw_spectra(spectra))
    lab.picture("objective.png", pictures.draw_objectives(shallow, theorem, plain))
    deepest = f"{{}}, {max(depths)} layers"
    first = deepest.format(next(iter(matrices)))
    lab.picture("layers.png", pictures.draw_layers(first, theorem[first], filters[first]))
    results = {
        "eigenvalues": {name: s.tolist() for name, s in spectra.items()},
        "theorem_3": {k: v.as_json() for k, v in theorem.items()},
        "theorem_3_constant_step": {k: v.as_json() for k, v in plain.items()},
        "corollary_3": {k: v.as_json() for k, v in filters.items()},
    }
    rows = [check for of_one in checks.values() for check in of_one]
    lab.finish(results, checks, conclusion(theorem, filters, rows))


def conclusion(
    theorem: Mapping[str, Deep], filters: Mapping[str, Deep], checks: Sequence[Check]
) -> tuple[str, str]:
    """What the run has shown."""
    shares = [[deep.arrived.mean() for deep in of.values()] for of in (theorem, filters)]
    ends = [(f"{min(of):.0%}", f"{max(of):.0%}") for of in shares]
    ranges = [low if low == high else f"{low} to {high}" for low, high in ends]
    return (
        agreement(checks, "rows", "are as predicted"),
        f"Of the random starts of each deep network {ranges[0]} reached the top eigenvalue with "
        f"layers of norm 1 (Theorem 3), and {ranges[1]} with filters of one length (Corollary 3).",
    )


if __name__ == "__main__":
    define_flags()
    main(run, __doc__)
