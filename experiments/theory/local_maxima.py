"""A nonlinear node has a local maximum for each pattern in the data, a linear node only one.

Every sample shows one of several patterns. For linear, ReLU, leaky ReLU and monomial activations
the script finds all local maxima of E(w) = wᵀA(w)w on the unit sphere, A(w) the contrastive
covariance of the gated data; tests the stability condition λ_gap(w*) > L at each; and trains
layers of K nodes with diverse starts to count how many patterns each finds.

    python -m experiments.theory.local_maxima
    python -m experiments.theory.local_maxima --patterns=6 --dim=8 --cosine=0
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from alphacl_jax.theory.nonlinear.activations import LINEAR, RELU, Activation, leaky_relu, monomial
from alphacl_jax.theory.nonlinear.fixed_points import stability
from alphacl_jax.theory.nonlinear.local_maxima import (
    LocalMaxima,
    ascend,
    find_local_maxima,
    node_covariance,
    node_energy,
)
from alphacl_jax.theory.nonlinear.patterns import NodeData, equiangular_patterns, pattern_data
from experiments.theory import local_maxima_pictures as pictures
from experiments.theory.checks import Check, agreement, format_checks
from experiments.theory.lab import Lab, define_lab_flags, main, progress, settings_of
from experiments.theory.local_maxima_layers import (
    count_distinct,
    layer_checks,
    matched_patterns,
    trained_layers,
)

_ACTIVATIONS = {
    "linear": LINEAR,
    "ReLU": RELU,
    "leaky ReLU": leaky_relu(0.1),
    "x²": monomial(2),
    "x³": monomial(3),
}
# L is measured within this distance of a maximum, and ascents from no further must come back to
# within half of it.
_RADIUS = 0.1


class Found(NamedTuple):
    """What the experiment finds of one activation; the arrays of each maximum, highest first."""

    maxima: LocalMaxima
    cosines: np.ndarray  # [maxima, patterns]
    gap: np.ndarray
    lipschitz: np.ndarray
    returned: np.ndarray


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of this script on `values`."""
    define_lab_flags("local_maxima", values)
    for name, default, lowest, text in (
        ("patterns", 4, 2, "Patterns in the data; each sample shows one."),
        ("dim", 6, 3, "Dimension of the data; at least the number of patterns."),
        ("samples", 192, 2, "Samples, each in two views."),
        ("starts", 192, 32, "Starts of the ascents, uniform on the sphere."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=lowest, flag_values=values)
    flags.DEFINE_float(
        "noise", 0.3, "Length of the noise beside a pattern's length of 1.", lower_bound=0.0,
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_float(
        "cosine", -0.3, "Cosine between any two patterns: 0 is orthonormal.", flag_values=values
    )


def run(values: flags.FlagValues) -> None:
    """Runs the experiment with these flags."""
    lab = Lab(settings_of(values))
    # An ascent in float32 cannot tell a maximum from what is within 1e-3 of it.
    with jax.enable_x64(True):
        key = jax.random.key(values.seed)
        patterns = equiangular_patterns(values.patterns, values.dim, values.cosine)
        # Frequencies that differ, or the linear node's top eigenvalue would not be single.
        frequencies = 1 / (4.0 + jnp.arange(values.patterns))
        data = pattern_data(
            jax.random.fold_in(key, 0),
            patterns,
            frequencies / jnp.sum(frequencies),
            num_samples=values.samples,
            noise=values.noise,
        )
        found = {}
        for name in progress(list(_ACTIVATIONS), str):
            found[name] = _analyse(
                jax.random.fold_in(key, 1), _ACTIVATIONS[name], data, patterns, values.starts
            )
        counted = {
            "local maxima": _count_checks(found, data, values.patterns),
            "stability": _stability_checks(found)
            + _saddle_checks(jax.random.fold_in(key, 3), data, values.starts),
        }
        layers = trained_layers(jax.random.fold_in(key, 4), data, patterns)
        counted["layers of K nodes"] = layer_checks(layers, values.patterns)
        sphere = pictures.energies_on_sphere(jax.random.fold_in(key, 2), values.noise)
    for title, rows in counted.items():
        lab.show(format_checks(title, rows, expected="theory") + "\n")
    lab.picture("sphere.png", pictures.draw_sphere(sphere))
    lab.picture("maxima.png", pictures.draw_maxima(_as_json(found)))
    lab.picture("layers.png", pictures.draw_layers(layers, values.patterns))
    checks = [check for rows in counted.values() for check in rows]
    lab.finish(
        {"activations": _as_json(found), "layers": layers},
        counted,
        conclusion(found, layers, values.patterns, checks),
    )


def conclusion(
    found: Mapping[str, Found], layers: Mapping[str, Any], count: int, checks: Sequence[Check]
) -> tuple[str, str]:
    """What the run has shown."""
    maxima = ", ".join(f"{name} {len(of.maxima.energies)}" for name, of in found.items())
    patterns, nodes = layers["ReLU"]["patterns"]["mean"], layers["nodes"]
    return (
        agreement(checks, "rows", "agree with the theory"),
        f"On {count} patterns nodes had so many local maxima: {maxima}; a layer of {nodes[-1]} "
        f"ReLU nodes found {patterns[-1]:.2f} patterns on average, one of {nodes[0]} "
        f"{patterns[0]:.2f}.",
    )


def _analyse(
    key: jax.Array, activation: Activation, data: NodeData, patterns: jax.Array, starts: int
) -> Found:
    key_starts, key_samples, key_displaced = jax.random.split(key, 3)
    maxima = find_local_maxima(key_starts, data, activation, num_starts=starts)
    w = jnp.asarray(maxima.weights)
    at = jax.jit(jax.vmap(lambda w: stability(key_samples, w, data, activation, radius=_RADIUS)))(w)
    return Found(
        maxima,
        np.asarray(w @ patterns.T),
        np.asarray(at.gap),
        np.asarray(at.lipschitz),
        _returned(key_displaced, w, data, activation, starts),
    )


def _returned(
    key: jax.Array, w: jax.Array, data: NodeData, activation: Activation, ascents: int
) -> np.ndarray:
    """For each of `w`, the share of the ascents from 0.1 rad beside it that come back to it.

    Args:
      ascents: in all; as many as the search for maxima has, so that one program does for both.
    """
    which = jnp.arange(ascents) % len(w)
    near = w[which]
    step = jax.random.normal(key, near.shape)
    step = step - jnp.sum(step * near, axis=1, keepdims=True) * near
    step = step / jnp.linalg.norm(step, axis=1, keepdims=True)
    # An angle of the radius has a chord below it.
    displaced = np.cos(_RADIUS) * near + np.sin(_RADIUS) * step
    ends = ascend(displaced, data, activation)
    back = np.asarray(jnp.sum(ends.weights * near, axis=1) > np.cos(_RADIUS / 2), np.float64)
    return np.bincount(which, back, minlength=len(w)) / np.bincount(which, minlength=len(w))


def _count_checks(found: dict[str, Found], data: NodeData, count: int) -> list[Check]:
    checks = []
    for name, of in found.items():
        expected = 1 if name == "linear" else count
        checks.append(Check(f"{name}: local maxima", expected, len(of.maxima.energies)))
        if name != "linear":
            matched = count_distinct(matched_patterns(of.cosines))
            checks.append(Check(f"{name}: patterns at a maximum", count, matched))
    w = jnp.asarray(found["linear"].maxima.weights[0])
    top = float(jnp.linalg.eigvalsh(node_covariance(w, data, LINEAR))[-1])
    checks.append(
        Check("linear: E, beside the top eigenvalue of A", top,
              float(found["linear"].maxima.energies[0]), 1e-8)
    )  # fmt: skip
    for name, of in found.items():
        w = jnp.asarray(of.maxima.weights[0])
        a = node_covariance(w, data, _ACTIVATIONS[name])
        direct = float(node_energy(w, data, _ACTIVATIONS[name]))
        checks.append(Check(f"{name}: wᵀA(w)w, beside p² C_α[h(wᵀx)]", direct,
                            float(w @ a @ w), 1e-9 * abs(direct)))  # fmt: skip
    return checks


def _stability_checks(found: dict[str, Found]) -> list[Check]:
    """The condition is sufficient: what meets it must be stable, and not the reverse."""
    checks = []
    for name, of in found.items():
        stable = of.gap > of.lipschitz
        title = f"{name}: of {len(stable)} maxima, those with gap > L"
        checks.append(Check(title, 0, int(stable.sum()), relation=">"))
        # Where none meets it there is nothing that an ascent could leave.
        if stable.any():
            left = int((stable & (of.returned < 1)).sum())
            checks.append(Check(f"{name}: of these, left by an ascent", 0, left))
    return checks


def _saddle_checks(key: jax.Array, data: NodeData, starts: int) -> list[Check]:
    """The linear node's other fixed points, the eigenvectors below the top: none is stable."""
    dim = data.x.shape[1]
    a = node_covariance(jnp.zeros(dim), data, LINEAR)
    others = jnp.linalg.eigh(a)[1].T[:-1]
    gaps = jax.vmap(lambda w: stability(key, w, data, LINEAR).gap)(others)
    returned = _returned(key, others, data, LINEAR, starts)
    return [
        Check("linear: largest gap of the other eigenvectors", 0.0, float(gaps.max()),
              relation="<"),
        Check("linear: share of ascents that return to them", 0.0, float(returned.mean())),
    ]  # fmt: skip


def _as_json(found: dict[str, Found]) -> dict[str, Any]:
    return {
        name: {
            "energies": of.maxima.energies.tolist(),
            "basins": of.maxima.basins.tolist(),
            "weights": of.maxima.weights.tolist(),
            "cosines": of.cosines.tolist(),
            "gap": of.gap.tolist(),
            "lipschitz": of.lipschitz.tolist(),
            "returned": of.returned.tolist(),
        }
        for name, of in found.items()
    }


if __name__ == "__main__":
    define_flags()
    main(run, __doc__)
