"""An encoder on its own, in a folder that other programs read too.

    encoder.safetensors  its weights: of ResNet-18, 34 and 50 with BatchNorm under torchvision's
                         names (`alphacl_jax.models.torchvision`), of others under Flax's path,
                         such as params.BasicBlock_0.Conv_1.kernel
    heads.safetensors    what embeddings need beside it, under Flax's path: params.projector...
    encoder.json         architecture, settings, preprocessing, and the files' sizes and SHA-256

The weights are the run's, bit for bit.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import empty_node, flatten_dict, unflatten_dict

from alphacl_jax.errors import RunError
from alphacl_jax.files import in_words, replaced_folder, write_json_atomically
from alphacl_jax.models.torchvision import from_torchvision, to_torchvision
from alphacl_jax.runs.description import Description
from alphacl_jax.runs.flag_file import as_mapping, from_mapping, of_images
from alphacl_jax.runs.networks import has_small_stem, make_encoder
from alphacl_jax.runs.settings import PLACES, ModelSettings, RunSettings

if TYPE_CHECKING:
    from alphacl_jax.runs.encoder import Encoder

_JSON, _ENCODER, _HEADS, STABLEHLO = (
    "encoder.json",
    "encoder.safetensors",
    "heads.safetensors",
    "encoder.stablehlo",
)
_FORMAT, _VERSION = "alphacl_jax encoder", 1

_NORMS = {
    "batch": "BatchNorm",
    "group": "GroupNorm of 32 groups, or of the most below that divide the channels",
    "layer": "GroupNorm of one group",
}

Tensors = dict[str, np.ndarray]


def is_export(folder: Path) -> bool:
    """Whether a folder holds an encoder that was exported, in whatever form."""
    return any((folder / name).is_file() for name in (_JSON, _ENCODER, STABLEHLO))


def write_export(encoder: "Encoder", output: Path) -> None:
    """Writes an encoder in safetensors, for `load_encoder` and for other programs.

    Args:
      encoder: from a run folder, or from an export.
      output: the folder to write; an export that is there is replaced.

    Raises:
      RunError: where `output` holds something else, or cannot be written.
    """
    variables = encoder.variables
    if _has_torchvision_names(encoder.settings.model):
        tensors, names = to_torchvision(encoder.module, variables), "torchvision"  # type: ignore[arg-type]
    else:
        tensors, names = _named(variables)[0], "flax"
    rest = {"params": _without_encoder(encoder.params), "state": _without_encoder(encoder.state)}
    heads, empty = _named(rest)
    contents = {
        _ENCODER: safetensors.numpy.save(tensors, {"format": "pt"}),
        _HEADS: safetensors.numpy.save(heads),
    }
    write_folder(encoder, output, contents, {"form": "safetensors", "names": names, "empty": empty})


def write_folder(
    encoder: "Encoder", output: Path, contents: Mapping[str, bytes], details: Mapping[str, Any]
) -> None:
    """Writes files and the encoder.json that describes them, all or nothing.

    Args:
      encoder: that was exported.
      output: as in `write_export`.
      contents: of the files, by name.
      details: of this form of export, for encoder.json.

    Raises:
      RunError: as `write_export`.
    """
    _require_free(output)
    settings = {
        name: None if name in PLACES else value
        for name, value in as_mapping(encoder.settings).items()
    }
    described = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "library": {"name": "alphacl_jax", "version": _library_version()},
        **details,
        "architecture": _in_words(encoder),
        "input": "uint8 images, NHWC, as float32 (image / 255 - mean) / std by channel; "
        "torchvision's modules take the same numbers as NCHW",
        "settings": settings,
        "description": encoder.description.to_json(),
        "step": encoder.step,
        "files": {name: _fingerprint(content) for name, content in contents.items()},
    }
    try:
        with replaced_folder(output) as folder:
            for name, content in contents.items():
                (folder / name).write_bytes(content)
            write_json_atomically(folder / _JSON, described)
    except OSError as error:
        raise RunError(f"the export {output} cannot be written: {in_words(error)}") from error


def read_export(folder: Path) -> tuple[RunSettings, Description, Any, Any, int]:
    """What `write_export` wrote.

    Returns:
      Settings (without the places of data), description, parameters, state and the step.

    Raises:
      RunError: where the folder is no export in safetensors, is damaged, or was written by a later
        version.
    """
    described = _read_json(folder)
    try:
        tensors, heads = (
            _read_tensors(folder, name, described["files"]) for name in (_ENCODER, _HEADS)
        )
        settings = of_images(from_mapping(_with_tuples(described["settings"])))
        description = Description.from_json(described["description"])
        if described["names"] == "torchvision":
            module = make_encoder(settings.model, description.preprocessing.image_shape)
            variables = from_torchvision(module, tensors)  # type: ignore[arg-type]
        else:
            variables = unflatten_dict(tensors, sep=".")
        rest = unflatten_dict({**heads, **dict.fromkeys(described["empty"], empty_node)}, sep=".")
        params = rest["params"] | {"encoder": variables["params"]}
        # A norm without statistics of the batch leaves none.
        state = rest["state"] | {"encoder": variables.get("batch_stats", {})}
        step = int(described["step"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{folder} is not what alphacl_jax exports: {_shown(error)}. Export the run again"
        ) from error
    # On the device at once, and not again at each batch.
    params, state = jax.tree.map(jnp.asarray, (params, state))
    return settings, description, params, state, step


def _has_torchvision_names(model: ModelSettings) -> bool:
    return model.encoder != "small" and model.encoder_norm == "batch"


def _in_words(encoder: "Encoder") -> str:
    own, shape = encoder.settings.model, encoder.preprocessing.image_shape
    if own.encoder == "small":
        name = f"ResNet of one basic block per stage, of {_listed(own.widths)} channels"
    else:
        name = own.encoder.replace("resnet", "ResNet-")
    small = "3x3 convolution of stride 1, no pooling"
    large = "7x7 convolution of stride 2, then 3x3 max-pooling of stride 2"
    stem = small if has_small_stem(own, shape) else large
    return (
        f"{name}; first layer: {stem}; {shape[2]} channel{'s' if shape[2] > 1 else ''} in; "
        f"{_NORMS[own.encoder_norm]}; features are the mean over positions of the last stage; "
        f"computed in {own.dtype} from float32 weights"
    )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _without_encoder(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {part: value for part, value in tree.items() if part != "encoder"}


def _named(tree: Mapping[str, Any]) -> tuple[Tensors, list[str]]:
    """The arrays of a tree by their dotted paths, and the paths of dicts that hold nothing."""
    flat = flatten_dict(tree, sep=".", keep_empty_nodes=True)
    empty = sorted(name for name, value in flat.items() if value is empty_node)
    tensors = {
        name: np.asarray(value, order="C") for name, value in flat.items() if name not in empty
    }
    return tensors, empty


def _require_free(output: Path) -> None:
    """Refuses to write over anything but an export."""
    if not output.exists():
        return
    if not output.is_dir():
        raise RunError(f"{output} is a file: give the name of a folder for the export")
    others = sorted({p.name for p in output.iterdir()} - {_JSON, _ENCODER, _HEADS, STABLEHLO})
    if others:
        raise RunError(
            f"{output} holds {others[0]}, which is no part of an export: give a folder that is "
            "empty or does not exist"
        )


def _library_version() -> str:
    try:
        return importlib.metadata.version("alphacl_jax")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _fingerprint(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / _JSON
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"{path} is missing: this export is not whole. Export the run again"
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}. Export the run again") from error
    if not isinstance(described, dict) or described.get("format") != _FORMAT:
        raise RunError(f"{path} was not written by alphacl_jax: give an export or a run folder")
    version = described.get("format_version")
    if version != _VERSION:
        library = described.get("library")
        by = library.get("version") if isinstance(library, dict) else library
        raise RunError(
            f"{path} has format version {version}, written by alphacl_jax {by}, and this one reads "
            f"version {_VERSION}: install that version of alphacl_jax, or export the run again"
        )
    if described.get("form") != "safetensors":
        raise RunError(
            f"{folder} holds a compiled function, whose weights cannot be taken out: call it by "
            "jax.export.deserialize, or export the run in safetensors"
        )
    return described


def _read_tensors(folder: Path, name: str, files: Mapping[str, Any]) -> Tensors:
    """The arrays in a file, which must be the one that encoder.json tells of."""
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error}. Export the run again") from error
    wanted, found = files[name], _fingerprint(content)
    if found["bytes"] != wanted["bytes"]:
        raise RunError(
            f"{path} has {found['bytes']} bytes where {_JSON} says {wanted['bytes']}: it was cut "
            "off or changed. Export the run again"
        )
    if found["sha256"] != wanted["sha256"]:
        raise RunError(
            f"{path} is not the file that {_JSON} tells of (its SHA-256 differs): it was damaged "
            "or changed. Export the run again"
        )
    try:
        return safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise RunError(f"{path} is no safetensors file: {error}. Export the run again") from error


def _with_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were before JSON, which has lists alone."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }


def _shown(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
