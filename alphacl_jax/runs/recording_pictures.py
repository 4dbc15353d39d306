"""Pictures of what an evaluation of recordings found, and of how the run was trained."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alphacl_jax.evaluation import pictures
from alphacl_jax.evaluation.embedding_pictures import plot_embeddings, plot_training
from alphacl_jax.runs.evaluation import Report
from alphacl_jax.runs.folder import records_of
from alphacl_jax.runs.recording_evaluation import RecordingEvaluation
from alphacl_jax.training.records import read_records

_FEWEST_IN_A_MAP = 4


def draw_recording_evaluation(
    evaluation: RecordingEvaluation,
    workdir: Path,
    output: Path,
    *,
    level: str,
    seed: int,
    report: Report,
) -> None:
    """Draws history.png, training.png, spectrum.png and, at level "full", map.png of recordings and
    moments.png or embeddings.png of moments; one that fails is a warning.

    Args:
      evaluation: what was found.
      workdir: the run folder, with its records.
      output: the folder of the pictures.
      level: of the evaluation.
      seed: of the map.
      report: told what is being worked on.
    """
    own = evaluation.recordings

    def history(path: Path) -> None:
        pictures.plot_history(path, read_records(records_of(workdir)))

    def training(path: Path) -> None:
        plot_training(path, _curves(read_records(records_of(workdir))))

    def spectrum(path: Path) -> None:
        pictures.plot_spectrum(path, {"features": evaluation.spectrum})

    def of_recordings(path: Path) -> None:
        means, known = evaluation.shown.means, own.labels >= 0
        if known.sum() < _FEWEST_IN_A_MAP:
            pictures.plot_map(path, means, seed=seed)
        else:
            labels = own.labels[known], own.class_names
            pictures.plot_map(path, means[known], *labels, seed=seed)

    def of_moments(path: Path) -> None:
        known = evaluation.shown.labels >= 0
        labels = evaluation.shown.labels[known], own.moment_names
        pictures.plot_map(path, evaluation.shown.steps[known], *labels, seed=seed)

    def embeddings(path: Path) -> None:
        _draw_embeddings(path, evaluation)

    wanted: dict[str, Callable[[Path], None]] = {
        "history.png": history,
        "training.png": training,
        "spectrum.png": spectrum,
    }
    if level == "full":
        # An embedding of CEBRA is one of a moment: of recordings, means are shown where these have
        # classes.
        means = evaluation.embeddings is None or own.class_names
        if means and len(evaluation.shown.means) >= _FEWEST_IN_A_MAP:
            wanted["map.png"] = of_recordings
        if evaluation.embeddings is not None:
            wanted["embeddings.png"] = embeddings
        elif own.moment_names and (evaluation.shown.labels >= 0).sum() >= _FEWEST_IN_A_MAP:
            wanted["moments.png"] = of_moments
    pictures.draw_each(wanted, output, report)


def _curves(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """What the method recorded of itself, for `plot_training`: of CPC a line for each k."""

    def curve(name: str) -> np.ndarray:
        return np.array([(record["step"], record[name]) for record in records if name in record])

    recorded = {name for record in records for name in record}
    ahead = sorted(
        (name for name in recorded if name.startswith("accuracy_")),
        key=lambda name: int(name.removeprefix("accuracy_")),
    )
    if ahead:
        return {
            f"{name.removeprefix('accuracy_')} ahead": {"positives picked out": curve(name)}
            for name in ahead
        }
    shown = {"goodness": "goodness of fit, bits", "goodness_later": "in time, bits"}
    return {
        "": {title: curve(name) for name, title in shown.items() if name in recorded}
        | ({"temperature": curve("temperature")} if _varies(curve("temperature")) else {})
    }


def _varies(curve: np.ndarray) -> bool:
    return bool(len(curve) and np.ptp(curve[:, 1]) > 0)


def _draw_embeddings(path: Path, evaluation: RecordingEvaluation) -> None:
    """Three dimensions of embeddings, coloured by each dimension of the context, else by class, or
    else by time."""
    assert evaluation.embeddings is not None
    (z, numbers), own = evaluation.embeddings, evaluation.recordings
    title = "embeddings"
    if z.shape[1] > 3:
        centred = z - z.mean(axis=0)
        z, title = centred @ np.linalg.svd(centred, full_matrices=False)[2][:3].T, "3 components"
    elif z.shape[1] == 1:
        z = np.column_stack([numbers, z[:, 0]])
    if own.context.shape[1]:
        dims = own.context.shape[1]
        many = {f"{title}, context {i + 1}": (z, own.context[numbers, i]) for i in range(dims)}
        plot_embeddings(path, many if dims > 1 else {title: next(iter(many.values()))})
        return
    labels, names = own.moment_labels[numbers], own.moment_names
    if not names:
        labels, names = own.labels[own.recording[numbers]], own.class_names
    if names:
        known = labels >= 0
        of = {title: (z[known], labels[known])}
        plot_embeddings(path, of, label="class", class_names=names)
        return
    plot_embeddings(path, {title: (z, numbers.astype(np.float64))}, label="moment")
