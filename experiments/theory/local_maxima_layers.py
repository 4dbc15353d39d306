"""The part of the script on local maxima that trains layers of K nodes, and what they find."""

from itertools import product
from typing import Any

import jax
import numpy as np

from alphacl_jax.theory.nonlinear.activations import LINEAR, RELU, Activation
from alphacl_jax.theory.nonlinear.local_maxima import Ends, distinct_maxima
from alphacl_jax.theory.nonlinear.node_layers import train_layers
from alphacl_jax.theory.nonlinear.patterns import NodeData, expected_patterns, prediction_error
from experiments.theory.checks import Check
from experiments.theory.lab import progress

ACTIVATIONS = {"linear": LINEAR, "ReLU": RELU}
_NODES = (1, 2, 4, 8, 16, 32)
# Nodes trained for each K, in layers of K: as many for all, so that one program does for all.
_TRAINED = 1024
# A mean agrees with its prediction within so many standard errors.
_ERRORS = 4.0
# A maximum is a pattern's if they are within this cosine.
_MATCH = 0.9


def trained_layers(key: jax.Array, data: NodeData, patterns: jax.Array) -> dict[str, Any]:
    """Trains layers of K nodes, K by K, and counts what each layer finds.

    Beside it what basins measured from other starts predict.
    """
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
    for name in ACTIVATIONS:
        result[name] = {what: {"mean": [], "std": []} for what in ("maxima", "patterns")}
    trainings = list(product(ACTIVATIONS, _NODES))
    for name, k in progress(trainings, lambda of: f"layers of {of[1]} {of[0]} nodes"):
        ends = train_layers(
            jax.random.fold_in(key_layers, k), data, ACTIVATIONS[name],
            num_layers=_TRAINED // k, num_nodes=k,
        )  # fmt: skip
        for what, found in _found_by_each(ends, patterns, ACTIVATIONS[name]).items():
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
        "patterns": [count_distinct(of) for of in _pattern_of_each(ends, patterns)],
    }


def _pattern_of_each(ends: Ends, patterns: jax.Array) -> np.ndarray:
    """The pattern that each node found, `[layers, K]`; −1 for none, as on a plateau."""
    labels = matched_patterns(np.asarray(ends.weights @ patterns.T))
    return np.where(np.asarray(ends.energies) == 0, -1, labels)


def matched_patterns(cosines: np.ndarray) -> np.ndarray:
    """The pattern at each filter, −1 for none, of their cosines `[..., patterns]`."""
    near = np.abs(cosines)
    return np.where(near.max(axis=-1) > _MATCH, near.argmax(axis=-1), -1)


def count_distinct(labels: np.ndarray) -> int:
    """Different labels, −1 not counted."""
    return len(np.unique(labels[labels >= 0]))


def layer_checks(layers: dict[str, Any], count: int) -> list[Check]:
    """What linear and ReLU layers found, of data with so many patterns."""
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
