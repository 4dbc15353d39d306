"""A trained encoder of recordings looked at: on recordings, moments and windows kept for tests."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from alphacl_jax.data.sequences import Recordings
from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.probes import evaluate_sets
from alphacl_jax.evaluation.report import verdicts
from alphacl_jax.evaluation.spectrum import effective_rank, singular_values
from alphacl_jax.runs.evaluation import Report
from alphacl_jax.runs.recording_data import RecordingData
from alphacl_jax.runs.recording_encoder import RecordingEncoder, compiled_of
from alphacl_jax.runs.recording_measures import (
    Seen,
    components_of_means,
    decoded,
    has_classes,
    moments_probed,
    of_held_out_windows,
    raw_over_time,
    seen,
)
from alphacl_jax.runs.recording_probes import embeddings_of, evenly
from alphacl_jax.runs.recording_settings import CEBRASettings
from alphacl_jax.runs.recording_tables import lines_of

UNTRAINED = "untrained encoder"
_LABELS_PER_CLASS = (2, 10)
# Steps that probes are fitted to and tested on, and batches of held-out windows, by level.
_STEPS = {"quick": (4000, 2000), "full": (10_000, 5000)}
_BATCHES = {"quick": 4, "full": 16}
_MOST_SHOWN = 4000


@dataclasses.dataclass(frozen=True)
class RecordingEvaluation:
    """What an evaluation found.

    Attributes:
      figures: as evaluation.json has them.
      shown: features of the recordings that the pictures show.
      names: of their labels.
      spectrum: singular values of features at the steps that were seen.
      embeddings: of CEBRA, of the moments that the pictures show, and their numbers; None of CPC.
      recordings: those that the pictures show.
    """

    figures: dict[str, Any]
    shown: Seen
    spectrum: np.ndarray
    embeddings: tuple[np.ndarray, np.ndarray] | None
    recordings: Recordings

    def __str__(self) -> str:
        """The table as people read it."""
        return "\n".join(lines_of(self.figures))


def evaluate_recording_encoder(
    encoder: RecordingEncoder,
    data: RecordingData,
    *,
    baselines: Mapping[str, RecordingEncoder],
    level: str,
    report: Report,
) -> RecordingEvaluation:
    """Looks at an encoder on the recordings that are kept for tests, beside others.

    Args:
      encoder: what is looked at.
      data: of its run. Where nothing is kept for tests, the figures are of the rank alone.
      baselines: further rows of the tables, of encoders of the same settings.
      level: "quick" or "full".
      report: told what is being worked on.
    """
    label = encoder.settings.method.label
    encoders = {label: encoder, **baselines}
    shown, test = data.test or data.train, data.test
    fitted, tested = _STEPS[level]
    report("features")
    embeds_moments = isinstance(encoder.settings.method, CEBRASettings)
    # Of CEBRA others are not probed, and all are asked for the embeddings of all moments.
    probed = {label: encoder} if embeds_moments else encoders
    at_test = {name: seen(of.over_time, shown, of.stride, tested) for name, of in probed.items()}
    embedded = (
        {name: embeddings_of(of, shown) for name, of in encoders.items()} if embeds_moments else {}
    )
    spectrum = singular_values(at_test[label].steps)
    figures: dict[str, Any] = {
        "step": encoder.step,
        "total_steps": encoder.description.total_steps(encoder.settings),
        "effective_rank": {"features": effective_rank(spectrum)},
    }
    if test is None:
        figures["not_probed"] = "No recordings are kept for tests"
    else:
        figures |= _held_out(encoders, test, level, report)
        if embeds_moments:
            figures |= _decoding(encoders, embedded, data.train, test, report)
        else:
            figures |= _probes(encoders, at_test, data.train, test, level, fitted, report)
    embeddings = None
    if embeds_moments:
        numbers = evenly(np.arange(len(shown.signal)), _MOST_SHOWN)
        embeddings = embedded[label][numbers], numbers
    return RecordingEvaluation(figures, at_test[label], spectrum, embeddings, shown)


def _held_out(
    encoders: Mapping[str, RecordingEncoder], test: Recordings, level: str, report: Report
) -> dict[str, Any]:
    """The method's own measures on windows that are kept for tests."""
    if jax.process_count() > 1:
        # The loss reduces over devices: on a CPU that asks for the other processes, also where it
        # is of one device, and these have parted.
        return {
            "no_held_out_windows": "the run was one of several processes; `alphacl evaluate` looks"
            " at them"
        }
    report("held-out windows")
    try:
        return {"held_out_windows": of_held_out_windows(encoders, test, _BATCHES[level])}
    except ArgumentError as error:
        return {"no_held_out_windows": f"{error.argument} {error.problem}"}


def _decoding(
    encoders: Mapping[str, RecordingEncoder],
    at_test: Mapping[str, np.ndarray],
    train: Recordings,
    test: Recordings,
    report: Report,
) -> dict[str, Any]:
    """What is decoded of each moment of held-out time, where there is something to decode.

    Args:
      at_test: the embeddings `[time, dim]` of the test moments, by encoder.
    """
    if not train.context.shape[1] and not has_classes(train.moment_labels, test.moment_labels):
        return {"not_probed": "The moments have neither a context nor known classes"}
    rows = {}
    first = next(iter(encoders.values()))
    own = first.settings.method
    assert isinstance(own, CEBRASettings)
    for name, encoder in encoders.items():
        report(f"{name}: decoding")
        z = embeddings_of(encoder, train)
        rows[name] = decoded(z, train, at_test[name], test, own.similarity)
    report("principal components: decoding")
    made, _ = compiled_of(first)
    components = components_of_means(
        _normalised(train, first), _normalised(test, first), made.before, made.after, own.output_dim
    )
    rows["PCA of window means"] = decoded(components[0], train, components[1], test, "euclidean")
    return {"decoding": rows}


def _normalised(recordings: Recordings, encoder: RecordingEncoder) -> Recordings:
    signal = encoder.description.normalised(recordings.signal)
    return dataclasses.replace(recordings, signal=signal)


def _probes(
    encoders: Mapping[str, RecordingEncoder],
    at_test: Mapping[str, Seen],
    train: Recordings,
    test: Recordings,
    level: str,
    fitted: int,
    report: Report,
) -> dict[str, Any]:
    """Probes of the recordings' classes and of the moments'.

    Of CPC alone: CEBRA embeds moments, and may have been trained on the same recordings' beginning.
    """
    first = next(iter(encoders.values()))
    of_recordings = has_classes(train.labels, test.labels)
    of_moments = has_classes(train.moment_labels, test.moment_labels)
    if not (of_recordings or of_moments):
        if train.class_names or train.moment_names:
            return {"not_probed": "Too few classes are known in both parts"}
        return {"not_probed": "There are no labels"}
    raw_name, raw = raw_over_time(first)
    sets = {
        name: (seen(of.over_time, train, of.stride, fitted), at_test[name])
        for name, of in encoders.items()
    }
    sets[raw_name] = (
        seen(raw, train, first.stride, fitted),
        seen(raw, test, first.stride, _STEPS[level][1]),
    )
    found: dict[str, Any] = {"accuracy": {name: {} for name in sets}}
    if of_recordings:
        scores = evaluate_sets(
            {name: _labelled(of, train, test) for name, of in sets.items()},
            len(train.class_names),
            level=level,
            labels_per_class=_LABELS_PER_CLASS,
            report=report,
        )
        found = {"accuracy": scores.rows, "verdicts": verdicts(scores.rows, scores.correct)}
    if of_moments:
        for name, (a, b) in sets.items():
            report(f"{name}: linear probe of moments")
            accuracy = moments_probed(a, b, len(train.moment_names))
            found["accuracy"][name]["moments"] = accuracy
    return found


def _labelled(
    of: tuple[Seen, Seen], train: Recordings, test: Recordings
) -> Callable[[], tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """The means of the recordings whose class is known, with their labels."""
    a, b = (
        (each.means[recordings.labels >= 0], recordings.labels[recordings.labels >= 0])
        for each, recordings in zip(of, (train, test), strict=True)
    )
    return lambda: (a, b)
