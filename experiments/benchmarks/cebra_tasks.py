"""Data with known latents on which CEBRA is compared, and what its embeddings are scored by.

The last part of each session's time is held out of the encoders' training as of the decoders'.
Borders of runs are told to nobody, since the package knows of none.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from alphacl_jax.data.sequences import Recordings
from alphacl_jax.evaluation.consistency import consistency
from alphacl_jax.evaluation.decoding import decode_class, decode_position
from alphacl_jax.evaluation.held_out import time_split
from experiments.benchmarks.cebra_sides import Session, Setup
from experiments.sequences.simulated import (
    Simulated,
    published_benchmark,
    reconstruction,
    ring,
    track_sessions,
    two_way_track,
)

Scores = dict[str, float]
_HELD_OUT = 0.2


class Task(NamedTuple):
    """What is compared.

    Attributes:
      setup: how both sides train.
      make: the data of a seed.
      sessions: all of their time.
      score: of the embeddings of all sessions, as figures by name. Those named in `lower` are
        better where they are smaller.
    """

    setup: Setup
    make: Callable[[int], tuple[Simulated, ...]]
    sessions: Callable[[tuple[Simulated, ...]], list[Session]]
    score: Callable[[tuple[Simulated, ...], Sequence[np.ndarray]], Scores]


LOWER = ("error, degrees", "error, % of the track")


def _of_context(found: tuple[Simulated, ...]) -> list[Session]:
    (only,) = found
    recordings = only.recordings
    return [Session(recordings.signal, (recordings.context,))]


def _of_direction(found: tuple[Simulated, ...]) -> list[Session]:
    (only,) = found
    recordings = only.recordings
    contexts = recordings.context, recordings.moment_labels.astype(np.int64)
    return [Session(recordings.signal, contexts)]


def _of_latents(found: tuple[Simulated, ...]) -> list[Session]:
    """Position and direction as one continuous context: the package takes one kind for sessions."""
    return [Session(each.recordings.signal, (each.latents.astype(np.float32),)) for each in found]


def training_part(sessions: Sequence[Session]) -> list[Session]:
    """The sessions but for the last part of their time, which is held out."""
    found = []
    for each in sessions:
        train = time_split([len(each.X)], _HELD_OUT).train
        found.append(Session(each.X[train], tuple(context[train] for context in each.contexts)))
    return found


def _reconstructed(found: tuple[Simulated, ...], embeddings: Sequence[np.ndarray]) -> Scores:
    (only,), (z,) = found, embeddings
    scores = reconstruction(z, only.latents, only.recordings.lengths, fraction=_HELD_OUT)
    return {"R², linear": scores.linear, "R², held out": scores.neighbors}


def _angle(found: tuple[Simulated, ...], embeddings: Sequence[np.ndarray]) -> Scores:
    (only,), (z,) = found, embeddings
    angle = np.arctan2(only.latents[:, 1], only.latents[:, 0])
    train, test, _, _ = time_split(only.recordings.lengths, _HELD_OUT)
    decoded = decode_position(z[train], angle[train], z[test], angle[test], period=2 * np.pi)
    return {
        **_reconstructed(found, embeddings),
        "error, degrees": float(np.degrees(decoded.median_error)),
    }


def _decoded_track(recordings: Recordings, z: np.ndarray) -> Scores:
    train, test, _, _ = time_split(recordings.lengths, _HELD_OUT)
    position, direction = recordings.context, recordings.moment_labels
    at = decode_position(z[train], position[train], z[test], position[test])
    of = decode_class(z[train], direction[train], z[test], direction[test])
    return {
        "error, % of the track": 100 * at.median_error,
        "direction, %": 100 * of.accuracy,
    }


def _track(found: tuple[Simulated, ...], embeddings: Sequence[np.ndarray]) -> Scores:
    (only,), (z,) = found, embeddings
    return {**_reconstructed(found, embeddings), **_decoded_track(only.recordings, z)}


def _aligned(found: tuple[Simulated, ...], embeddings: Sequence[np.ndarray]) -> Scores:
    """Consistency between sessions, by the place on the way there and back; means of the others."""
    along = [
        np.where(each.latents[:, 1] > 0, each.latents[:, 0], 2 - each.latents[:, 0])
        for each in found
    ]
    of_each = [_track((each,), (z,)) for each, z in zip(found, embeddings, strict=True)]
    means = {name: float(np.mean([each[name] for each in of_each])) for name in of_each[0]}
    return {"R² between sessions": consistency(embeddings, along).mean, **means}


TASKS = {
    "published benchmark": Task(
        Setup(1, 3, 1),
        lambda seed: (published_benchmark(seed),),
        _of_context,
        _reconstructed,
    ),
    "ring": Task(Setup(10, 3, 10), lambda seed: (ring(seed),), _of_context, _angle),
    "track": Task(Setup(10, 3, 10), lambda seed: (two_way_track(seed),), _of_direction, _track),
    "sessions": Task(Setup(10, 3, 10), lambda seed: track_sessions(seed), _of_latents, _aligned),
}
