"""A run on recordings from its start to its table."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from alphacl_jax.data.sequences import Recordings
from alphacl_jax.data.sources import ARRAYS
from alphacl_jax.evaluation.pictures import warned_of
from alphacl_jax.runs.evaluation import publish, to_terminal
from alphacl_jax.runs.flag_file import as_mapping
from alphacl_jax.runs.in_memory import of_arrays, require_one, train_in_memory
from alphacl_jax.runs.recording_data import RecordingData
from alphacl_jax.runs.recording_encoder import RecordingEncoder
from alphacl_jax.runs.recording_evaluation import UNTRAINED, evaluate_recording_encoder
from alphacl_jax.runs.recording_pictures import draw_recording_evaluation
from alphacl_jax.runs.recording_run import RecordingRun, open_recording_run
from alphacl_jax.runs.recording_settings import RecordingRunSettings
from alphacl_jax.runs.records import add_pictures
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.records import Recorder

# Of the figures, those that TensorBoard sets beside the settings.
_FINAL = ("linear_all", "knn", "moments", "context_r2", "accuracy_1", "goodness")


def pretrain_recordings(
    recordings: Recordings,
    settings: RecordingRunSettings,
    *,
    workdir: str | Path | None = None,
    mesh: Mesh | None = None,
    allow_changed_data: bool = False,
) -> RecordingEncoder:
    """Trains an encoder on recordings in memory, all of them.

    Args:
      recordings: see `data.sequences.recordings_from_arrays`.
      settings: of the run, with the default data settings but for the normalisation.
      workdir: a run folder, from which the run can be resumed and loaded; None keeps nothing.
      mesh: the devices, with an axis "data"; by default all of them.
      allow_changed_data: whether the run in `workdir` goes on where it began on others.

    Returns:
      The trained encoder.

    Raises:
      ArgumentError: for recordings or settings that cannot be used; the message says why.
      RunError: for a run folder of another run, or of a run on other recordings.
      NonFiniteLossError: where training diverges; a note says which settings were given.
    """
    require_one(settings)
    own = of_arrays(settings.data, "normalize", "recordings")
    settings = dataclasses.replace(settings, data=own)
    data = RecordingData(recordings, None, ARRAYS)
    encoder: RecordingEncoder = train_in_memory(
        lambda: open_recording_run(settings, mesh or data_mesh(), data),
        workdir,
        allow_changed_data=allow_changed_data,
    )
    return encoder


def evaluate_recording_run(
    run: RecordingRun,
    encoder: RecordingEncoder,
    untrained: RecordingEncoder,
    workdir: Path,
    show: Callable[[str], None] = lambda table: None,
) -> str:
    """Evaluates a trained run as its settings say, and keeps what is found in its folder.

    Args:
      run, encoder, untrained, workdir: of `train_run`.
      show: given the table, once its figures are written and before any picture is drawn.

    Returns:
      The table.

    Raises:
      UnwrittenError: see `publish`.
    """
    level = run.settings.evaluation.evaluate
    if level == "none":
        table = f"not evaluated; the run is in {workdir}"
        show(table)
        return table
    found = evaluate_recording_encoder(
        encoder, run.data, baselines={UNTRAINED: untrained}, level=level, report=to_terminal
    )

    def draw() -> None:
        draw_recording_evaluation(
            found, workdir, workdir, level=level, seed=run.settings.seed, report=to_terminal
        )
        with warned_of("what TensorBoard shows of the end"):
            _show_in_tensorboard(run, workdir, encoder.step, found.figures)

    heading = f"pictures and figures: {workdir}"
    return publish(found, workdir / "evaluation.json", heading, show, draw)


def _show_in_tensorboard(
    run: RecordingRun, workdir: Path, step: int, figures: dict[str, Any]
) -> None:
    """Adds the maps, and the settings with the final figures, to the events."""
    recorder = Recorder(workdir)
    add_pictures(recorder, workdir, ("map", "moments", "embeddings"), step)
    final = {
        f"{name}/{row}": value
        for group in ("accuracy", "decoding", "held_out_windows")
        for row, of_row in figures.get(group, {}).items()
        for name, value in of_row.items()
        if name in _FINAL
    }
    recorder.hyperparameters(as_mapping(run.settings), final)
