"""Writes the features of a trained encoder to .npz files.

    alphacl embed --workdir=runs/digits-alpha_direct-1234abcd
    alphacl embed --workdir=RUN --dataset=folder --data_dir=PHOTOS --output=FEATURES

writes train.npz and test.npz (pretrain.npz where there are no labels, images.npz of another
folder, all of whose images are taken) into --output, each with features [n, dim], embeddings
[n, projector_dim] and, where the data has them, labels [n], class_names and paths [n];
preprocessing says as JSON what was done to the images: scaled and cropped to which size,
converted to which channels, normalised by which numbers.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from alphacl_jax.cli.data_flags import (
    DATA,
    data_settings_of,
    decoding_for,
    define_data_flags,
    open_data,
    workdir_of,
)
from alphacl_jax.cli.help import Groups
from alphacl_jax.cli.start import plain_errors
from alphacl_jax.runs.settings import DataSettings

if TYPE_CHECKING:
    import numpy as np

    from alphacl_jax.data.sources import Split
    from alphacl_jax.runs.encoder import Encoder

    Parts = dict[str, tuple[Split, tuple[str, ...]]]


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    define_data_flags(values)
    flags.DEFINE_string(
        "output", None, "Folder for the .npz files. Default: WORKDIR/features.", values
    )


def groups() -> Groups:
    """The flags by heading, for --help."""
    return {"flags": ("workdir", "output"), "other data": DATA}


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    del argv
    values = flags.FLAGS
    with plain_errors(values):
        workdir = workdir_of(values)
        from alphacl_jax.cli.evaluate import load_noted, output_of

        encoder, _ = load_noted(workdir)
        data = data_settings_of(values, encoder.settings.data)
        output = output_of(values, workdir / "features")
        embed(encoder, parts_of(encoder, data), output, data.memory_limit_mb * 2**20)


def parts_of(encoder: "Encoder", data: DataSettings) -> "Parts":
    """The parts of the data by name, each with its class names.

    A folder other than the run's own needs no classes and no division into training and test
    images: all images in it and below it are one part.
    """
    own = encoder.settings.data
    other = (data.dataset, data.data_dir) != (own.dataset, own.data_dir)
    if data.dataset == "folder" and other and data.data_dir is not None:
        from alphacl_jax.data.folder import open_any
        from alphacl_jax.data.sources import Split

        source, class_names = open_any(
            data.data_dir, encoder.preprocessing.image_shape, decoding_for(encoder, data)
        )
        return {"images": (Split(source, labelled=bool(class_names)), class_names)}
    dataset = open_data(encoder, data)
    parts = {"train": dataset.train, "test": dataset.test}
    if dataset.train is None:
        parts = {"pretrain": dataset.pretrain}
    return {
        name: (split, dataset.class_names) for name, split in parts.items() if split is not None
    }


def embed(encoder: "Encoder", parts: "Parts", output: Path, memory_limit_bytes: int) -> None:
    """Writes a file for each part of the data, and says what is in it."""
    from alphacl_jax.files import write_npz_atomically

    print(f"images: {encoder.preprocessing.in_words()}")
    for name, (split, class_names) in parts.items():
        arrays = _arrays(encoder, split, class_names, memory_limit_bytes)
        path = output / f"{name}.npz"
        write_npz_atomically(path, arrays)
        shapes = ", ".join(
            f"{key} {list(value.shape)}" for key, value in arrays.items() if value.ndim
        )
        print(f"{path}: {shapes}")


def _arrays(
    encoder: "Encoder", split: "Split", class_names: tuple[str, ...], memory_limit_bytes: int
) -> "dict[str, np.ndarray]":
    import numpy as np

    from alphacl_jax.data.sources import in_order_named

    features, embeddings, labels = [], [], []
    names: list[str] = []
    for images, classes, of_chunk in in_order_named(split, 500, memory_limit_bytes):
        features.append(encoder(images))
        embeddings.append(encoder.embed(images))
        labels.append(classes)
        names += of_chunk or []
    arrays = {
        "features": np.concatenate(features),
        "embeddings": np.concatenate(embeddings),
        "preprocessing": np.array(json.dumps(encoder.preprocessing.as_done_to_files())),
    }
    if split.labelled:
        arrays["labels"] = np.concatenate(labels)
        arrays["class_names"] = np.array(class_names)
    if names:
        arrays["paths"] = np.array(names)
    return arrays
