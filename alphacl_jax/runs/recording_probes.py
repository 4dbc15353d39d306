"""Looking at features of recordings while they are trained."""

from collections.abc import Callable, Mapping

import numpy as np

from alphacl_jax.data.sequences import Recordings
from alphacl_jax.runs.any_run import Training
from alphacl_jax.runs.probes import MOST, hooks_of
from alphacl_jax.runs.recording_encoder import RecordingEncoder
from alphacl_jax.runs.recording_settings import CPCSettings, RecordingRunSettings
from alphacl_jax.training.loop import Hook

Sample = Callable[[RecordingEncoder], tuple[np.ndarray, np.ndarray | None]]


def recording_probe_hooks(
    settings: RecordingRunSettings,
    recordings: Recordings,
    training: Training,
    untrained: Mapping[str, RecordingEncoder],
) -> list[Hook]:
    """What looks at the features every `probe_every` epochs; none where nothing is asked for.

    The probes fit on four fifths of (at most 5,000 of) the recordings that are trained on, of CEBRA
    the moments, and are tested on the fifth that they did not see, of CEBRA the last one: what is
    decided while looking at them does not touch the test recordings.

    Args:
      settings: of the run, or the first of several members.
      recordings: that are trained on.
      training: its parts.
      untrained: the encoders before the first step, one of each member, by what lines on the
        terminal begin with.
    """
    if not (epochs := settings.evaluation.probe_every):
        return []
    of_recordings = isinstance(settings.method, CPCSettings)
    names = recordings.class_names if of_recordings else recordings.moment_names
    sample = _recordings(recordings) if of_recordings else _moments(recordings)
    every = epochs * training.batches.steps_per_epoch
    return hooks_of(every, untrained, sample, len(names))


def _recordings(recordings: Recordings) -> Sample:
    """Means of contexts over recordings drawn at random, always the same, and their labels."""
    labels = recordings.labels
    numbers = np.arange(len(recordings)) if (labels < 0).all() else np.flatnonzero(labels >= 0)
    chosen = np.random.default_rng(0).permutation(numbers)[:MOST]

    def sample(encoder: RecordingEncoder) -> tuple[np.ndarray, np.ndarray | None]:
        return means_of(encoder, recordings.select(chosen)), _known(labels[chosen])

    return sample


def means_of(encoder: RecordingEncoder, recordings: Recordings) -> np.ndarray:
    """The mean `[recordings, width]` of each recording's features over time."""
    found = encoder.over_time([recordings.of(i) for i in range(len(recordings))])
    return np.stack([of_recording.mean(axis=0) for of_recording in found])


def _moments(recordings: Recordings) -> Sample:
    """Embeddings of moments spread evenly over time, and their labels."""
    labels = recordings.moment_labels
    known = np.arange(len(labels)) if (labels < 0).all() else np.flatnonzero(labels >= 0)
    chosen = evenly(known, MOST)

    def sample(encoder: RecordingEncoder) -> tuple[np.ndarray, np.ndarray | None]:
        return embeddings_of(encoder, recordings)[chosen], _known(labels[chosen])

    return sample


def embeddings_of(encoder: RecordingEncoder, recordings: Recordings) -> np.ndarray:
    """The embeddings `[time, width]` of all moments, of an encoder that makes one of each."""
    return np.concatenate(encoder.over_time([recordings.of(i) for i in range(len(recordings))]))


def evenly(numbers: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the numbers, in their order and evenly spread over them."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, most).astype(np.int64)]


def _known(labels: np.ndarray) -> np.ndarray | None:
    """The labels, where there are several classes of them."""
    return labels if len(np.unique(labels)) > 1 and labels.min() >= 0 else None
