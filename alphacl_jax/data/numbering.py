"""The numbers of classes, alike in recordings that were read apart from each other."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from alphacl_jax.data.sequences import Recordings
from alphacl_jax.errors import ArgumentError


def numbered_by(
    recordings: Recordings,
    class_names: Sequence[str] | None = None,
    moment_names: Sequence[str] | None = None,
) -> Recordings:
    """The same recordings with the classes numbered by others' names, as a test part needs it.

    Args:
      class_names, moment_names: of the recordings and of the moments, the first having number 0;
        None keeps what there is.

    Raises:
      ArgumentError: for a class of the recordings that is not among them.
    """
    labels, classes = recordings.labels, recordings.class_names
    moments, moment_classes = recordings.moment_labels, recordings.moment_names
    if class_names is not None:
        labels, classes = _numbered_by("class_names", labels, classes, class_names)
    if moment_names is not None:
        moments, moment_classes = _numbered_by(
            "moment_names", moments, moment_classes, moment_names
        )
    return dataclasses.replace(
        recordings,
        labels=labels,
        class_names=classes,
        moment_labels=moments,
        moment_names=moment_classes,
    )


def _numbered_by(
    argument: str, labels: np.ndarray, own: Sequence[str], names: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    used = {own[number] for number in np.unique(labels[labels >= 0])}
    if unknown := sorted(used - set(names)):
        problem = f"lack {', '.join(unknown[:10])}, of which there are recordings or moments"
        raise ArgumentError(argument, f"<{len(names)} names>", problem)
    place = {name: number for number, name in enumerate(names)}
    # One more at the end, for which −1, the unknown, stands.
    new = np.array([*(place.get(name, -1) for name in own), -1], np.int32)
    return new[labels], tuple(names)
