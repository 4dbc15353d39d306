"""A nonlinear node has a local maximum for each pattern in the data, a linear node only one.

Every sample shows one of several patterns. For linear, ReLU, leaky ReLU and monomial activations
the script finds all local maxima of E(w) = wᵀA(w)w on the unit sphere, A(w) the contrastive
covariance of the gated data; tests the stability condition λ_gap(w*) > L at each; and trains
layers of K nodes with diverse starts to count how many patterns each finds.

    python -m experiments.local_maxima
    python -m experiments.local_maxima --patterns=6 --dim=8 --cosine=0
"""

from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from alphacl_jax.theory.activations import LINEAR, RELU, Activation, leaky_relu, monomial
from alphacl_jax.theory.local_maxima import (
    Ends,
    LocalMaxima,
    ascend,
    distinct_maxima,
    find_local_maxima,
    node_covariance,
    node_energy,
    train_layers,
)
from alphacl_jax.theory.patterns import (
    NodeData,
    equiangular_patterns,
    expected_patterns,
    pattern_data,
    prediction_error,
)
from alphacl_jax.theory.stability import stability
from experiments import local_maxima_pictures as pictures
from experiments.lab import Check, Lab, define_lab_flags, format_checks, main, progress

_ACTIVATIONS = {
    "linear": LINEAR,
    "ReLU": RELU,
    "leaky ReLU": leaky_relu(0.1),
    "x²": monomial(2),
    "x³": monomial(3),
}
_NODES = (1, 2, 4, 8, 16, 32)
# Nodes trained for each K, in layers of K: as many for all, so that one program does for all.
_TRAINED = 1024
# A mean agrees with its prediction within so many standard errors.
_ERRORS = 4.0
# A maximum is a pattern's if they are within this cosine.
_MATCH = 0.9
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
    lab = Lab(values)
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
        layers = _layers(jax.random.fold_in(key, 4), data, patterns)
        counted["layers of K nodes"] = _layer_checks(layers, values.patterns)
        sphere = pictures.energies_on_sphere(jax.random.fold_in(key, 2), values.noise)
    for title, rows in counted.items():
        lab.show(format_checks(title, rows, expected="theory") + "\n")
    lab.picture("sphere.png", pictures.sphere(sphere))
    lab.picture("maxima.png", pictures.maxima(_as_json(found)))
    lab.picture("layers.png", pictures.layers(layers, values.patterns))
    lab.finish({"activations": _as_json(found), "layers": layers}, counted)


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
            matched = _count_distinct(_matched(of.cosines))
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


def _layers(key: jax.Array, data: NodeData, patterns: jax.Array) -> dict[str, Any]:
    """Trains layers of K nodes, K by K, and counts what each layer finds; beside it what basins
    measured from other starts predict."""
    key_basins, key_layers = jax.random.split(key)
    single = train_layers(key_basins, data, RELU, num_layers=_TRAINED, num_nodes=1)
    labels = _pattern_of_each(single, patterns)
    counts = np.bincount(labels[labels >= 0], minlength=len(patterns))
    numbers = [_TRAINED // k for k in _NODES]
    result: dict[str, Any] = {
        "nodes": list(_NODES),
        "layers": numbers,
        "basins": (counts / _TRAINED).tolist(),
        "predicted": [expected_patterns(counts / _TRAINED, k).mean for k in _NODES],
        "error": [
            prediction_error(counts, _TRAINED, num_nodes=k, num_layers=number)
            for k, number in zip(_NODES, numbers, strict=True)
        ],
    }
    for name in ("linear", "ReLU"):
        result[name] = {what: {"mean": [], "std": []} for what in ("maxima", "patterns")}
    trainings = list(product(("linear", "ReLU"), _NODES))
    for name, k in progress(trainings, lambda of: f"layers of {of[1]} {of[0]} nodes"):
        ends = train_layers(
            jax.random.fold_in(key_layers, k), data, _ACTIVATIONS[name],
            num_layers=_TRAINED // k, num_nodes=k,
        )  # fmt: skip
        for what, found in _found_by_each(ends, patterns, _ACTIVATIONS[name]).items():
            result[name][what]["mean"].append(float(np.mean(found)))
            result[name][what]["std"].append(float(np.std(found)))
    return result


def _found_by_each(ends: Ends, patterns: jax.Array, activation: Activation) -> dict[str, list[int]]:
    """Distinct maxima that each layer's own nodes ended at, and distinct patterns among them."""
    maxima = [
        len(distinct_maxima(w, e, sign_symmetric=activation.sign_symmetric).energies)
        for w, e in zip(np.asarray(ends.weights), np.asarray(ends.energies), strict=True)
    ]
    return {
        "maxima": maxima,
        "patterns": [_count_distinct(of) for of in _pattern_of_each(ends, patterns)],
    }


def _pattern_of_each(ends: Ends, patterns: jax.Array) -> np.ndarray:
    """The pattern that each node found, `[layers, K]`; −1 for none, as on a plateau."""
    labels = _matched(np.asarray(ends.weights @ patterns.T))
    return np.where(np.asarray(ends.energies) == 0, -1, labels)


def _matched(cosines: np.ndarray) -> np.ndarray:
    """The pattern at each filter, −1 for none, of their cosines `[..., patterns]`."""
    near = np.abs(cosines)
    return np.where(near.max(axis=-1) > _MATCH, near.argmax(axis=-1), -1)


def _count_distinct(labels: np.ndarray) -> int:
    return len(np.unique(labels[labels >= 0]))


def _layer_checks(layers: dict[str, Any], count: int) -> list[Check]:
    linear, relu = layers["linear"]["maxima"]["mean"], layers["ReLU"]["patterns"]["mean"]
    checks = [
        Check(f"linear, K = {k}: local maxima found", 1, found)
        for k, found in zip(layers["nodes"], linear, strict=True)
    ]
    # Without a basin the prediction is 0 whatever K, and its agreement would say nothing.
    if any(layers["basins"]):
        columns = (layers["nodes"], layers["predicted"], relu, layers["error"])
        for k, predicted, found, error in zip(*columns, strict=True):
            title = f"ReLU, K = {k}: patterns found, beside Σ 1 − (1 − basin)ᴷ"
            checks.append(Check(title, predicted, found, _ERRORS * error))
    least, most = layers["nodes"][0], layers["nodes"][-1]
    bound = _least_share(count, most, layers["layers"][-1])
    return [
        *checks,
        Check(f"ReLU: patterns at K = {most}, above K = {least}", relu[0], relu[-1], relation=">"),
        Check(f"ReLU, K = {most}: share of the patterns", bound, relu[-1] / count, relation=">"),
    ]


def _least_share(count: int, nodes: int, layers: int) -> float:
    """The share of patterns that layers find if each basin has half its part of the sphere, less
    the sampling error.

    Of the number of patterns alone: a bound by measured basins would be 0 where none is found.
    """
    halves = expected_patterns(np.full(count, 0.5 / count), nodes)
    return (halves.mean - _ERRORS * (halves.variance / layers) ** 0.5) / count


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
