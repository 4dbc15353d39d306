"""A look into the images of a data set, to tell whether two hosts see the same ones."""

import hashlib

import numpy as np

from alphacl_jax.data.images import UnreadableImage
from alphacl_jax.data.outages import Patience
from alphacl_jax.data.reading import Source


def sample_of(source: Source, count: int = 64) -> dict[str, str]:
    """Evenly spaced images, the first and the last among them: what they hold, by their names.

    Returns:
      "image 7" → its name, where images have names, and hexadecimal digits of pixels and label.
    """
    patience, names = Patience(), source.names
    found = {}
    for index in np.linspace(0, len(source) - 1, min(count, len(source)), dtype=int).tolist():
        name = "" if names is None else f"{names[index]}, "
        found[f"image {index}"] = name + _digest(source, index, patience)
    return found


def _digest(source: Source, index: int, patience: Patience) -> str:
    try:
        example = patience.read(source.__getitem__, index)
    except UnreadableImage:
        return "damaged"
    digest = hashlib.sha256(str(example["label"]).encode())
    digest.update(np.ascontiguousarray(example["image"]).data)
    return f"contents {digest.hexdigest()[:12]}"
