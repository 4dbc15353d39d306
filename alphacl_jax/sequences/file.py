"""A fitted model in one file: safetensors, of which other programs read the arrays, too.

What describes them is JSON in the file's header, under the key `alphacl_jax`. Nothing that the file
holds is run when it is read.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from alphacl_jax.data.positives import Positives
from alphacl_jax.errors import ArgumentError
from alphacl_jax.files import replaced
from alphacl_jax.sequences.model import HISTORIES, Model, Problem
from alphacl_jax.sequences.settings import Settings
from alphacl_jax.sequences.training import programs_of
from alphacl_jax.training.state import TrainState

_KEY, _FORMAT, _VERSION = "alphacl_jax", "CEBRA", 1
_AGAIN = "Make it again, by CEBRA.save"

Tensors = dict[str, np.ndarray]


def save_model(path: str | os.PathLike[str], model: Model, parameters: Settings) -> None:
    """Writes a fitted model, whole or not at all.

    Args:
      path: the file, in a folder that exists; what is there is replaced.
      model: what is fitted.
      parameters: what the estimator is set to now, for its next fit.
    """
    tensors = {
        **_named(model.state),
        **{_history(name): model.histories[name] for name in HISTORIES},
    }
    names, problem = model.feature_names, model.problem
    described = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "library_version": importlib.metadata.version("alphacl_jax"),
        "parameters": dataclasses.asdict(parameters),
        "settings": dataclasses.asdict(model.settings),
        "positives": dataclasses.asdict(problem.positives),
        "channels": list(problem.channels),
        "are_listed": problem.are_listed,
        "feature_names": None if names is None else names.tolist(),
    }
    header = {**described, "sha256": _fingerprint(described, tensors)}
    with replaced(path) as partial:
        partial.write_bytes(safetensors.numpy.save(tensors, {_KEY: json.dumps(header)}))


def load_model(path: str | os.PathLike[str]) -> tuple[Model, Settings]:
    """What `save_model` wrote: the model, and what the estimator was set to.

    Raises:
      FileNotFoundError: where there is no file.
      ArgumentError: for a file of another kind or of a later version, and for a damaged one.
    """
    described, tensors = _read(Path(path))
    if described.get("format_version") != _VERSION:
        wrong = (
            f"has version {described.get('format_version')} of the format, and {_VERSION} is what "
            "this version of alphacl_jax reads: install the one that wrote it, "
            f"{described.get('library_version')}"
        )
        raise ArgumentError("path", path, wrong)
    if described.pop("sha256", None) != _fingerprint(described, tensors):
        raise ArgumentError("path", path, f"is damaged: its checksum differs. {_AGAIN}")
    settings = Settings.of(described["settings"])
    positives, channels = Positives(**described["positives"]), tuple(described["channels"])
    problem = Problem.of(settings, positives, channels, described["are_listed"])
    names = described["feature_names"]
    model = Model(
        settings=settings,
        problem=problem,
        feature_names=None if names is None else np.array(names, dtype=object),
        state=_state(problem, tensors),
        histories={name: tensors[_history(name)] for name in HISTORIES},
    )
    return model, Settings.of(described["parameters"])


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    with path.open("rb"):  # whose errors say more than those of safetensors
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        problem = f"is damaged, or no file of CEBRA.save ({error}). {_AGAIN}"
        raise ArgumentError("path", path, problem) from error
    try:
        described = json.loads(header or "null")
    except json.JSONDecodeError as error:
        raise ArgumentError("path", path, f"is damaged: {error}. {_AGAIN}") from error
    if not isinstance(described, dict) or described.get("format") != _FORMAT:
        raise ArgumentError("path", path, f"holds arrays, but no fitted CEBRA. {_AGAIN}")
    return described, tensors


def _named(state: TrainState) -> Tensors:
    return {_name(at): np.asarray(leaf) for at, leaf in jax.tree.leaves_with_path(state)}


def _state(problem: Problem, tensors: Tensors) -> TrainState:
    shapes = programs_of(problem).shapes
    return jax.tree.map_with_path(lambda at, _: tensors[_name(at)], shapes)


def _name(at: Any) -> str:
    return jax.tree_util.keystr(at, simple=True, separator="/")


def _history(name: str) -> str:
    return f"histories/{name}"


def _fingerprint(described: Mapping[str, Any], tensors: Tensors) -> str:
    found = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()
