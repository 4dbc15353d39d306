"""Recordings made up for tests: classes that a mean over time tells apart."""

import numpy as np

from alphacl_jax.data.sequences import Recordings, recordings_from_arrays


def made_recordings(
    seed: int = 0, *, recordings: int = 12, classes: int = 3, channels: int = 2
) -> Recordings:
    """Of 6 to 12 moments each, with a label of each moment and, of some, of the recording."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(6, 13, recordings)
    labels = np.arange(recordings) % classes
    return recordings_from_arrays(
        [
            label + 0.1 * rng.normal(size=(length, channels))
            for label, length in zip(labels, lengths, strict=True)
        ],
        labels=labels.tolist(),
        moment_labels=[np.arange(length) % 2 for length in lengths],
        rate=10.0,
    )
