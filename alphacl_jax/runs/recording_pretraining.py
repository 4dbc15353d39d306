"""A run on recordings from its start to its table."""

import dataclasses
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from PIL import Image

from alphacl_jax.data.sequences import Recordings
from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.pictures import warned_of
from alphacl_jax.runs.any_run import prepare_training
from alphacl_jax.runs.evaluation import publish, to_terminal
from alphacl_jax.runs.flag_file import as_mapping
from alphacl_jax.runs.recording_data import RecordingData
from alphacl_jax.runs.recording_encoder import RecordingEncoder
from alphacl_jax.runs.recording_evaluation import UNTRAINED, evaluate_recording_encoder
from alphacl_jax.runs.recording_pictures import draw_recording_evaluation
from alphacl_jax.runs.recording_run import RecordingRun, open_recording_run
from alphacl_jax.runs.recording_settings import ARRAYS, RecordingRunSettings, of_arrays
from alphacl_jax.runs.train_run import check_hosts, check_start, run_folder, train_run
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
    if settings.num_seeds != 1:
        raise ArgumentError("num_seeds", settings.num_seeds, "must be 1 here: call once per seed")
    settings = dataclasses.replace(settings, data=of_arrays(settings.data))
    with ExitStack() as stack:
        if workdir is None:
            workdir = stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(workdir).expanduser()
        data = RecordingData(recordings, None, ARRAYS)
        run = open_recording_run(settings, mesh or data_mesh(), data)
        check_start(run)
        training = prepare_training(run)
        check_hosts(run, training)
        description = run.describe(training.batches)
        run, training = run.as_begun(training, folder)
        stack.enter_context(run_folder(folder, run.settings, description, allow_changed_data))
        encoder: RecordingEncoder = train_run(run, training, folder)[0]
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
    for name in ("map", "moments", "embeddings"):
        if (path := workdir / f"{name}.png").exists():
            with Image.open(path) as picture:
                recorder.image(f"pictures/{name}", np.asarray(picture.convert("RGB")), step)
    final = {
        f"{name}/{row}": value
        for group in ("accuracy", "decoding", "held_out_windows")
        for row, of_row in figures.get(group, {}).items()
        for name, value in of_row.items()
        if name in _FINAL
    }
    recorder.hyperparameters(as_mapping(run.settings), final)
