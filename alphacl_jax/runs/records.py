"""What a run records: its files, the progress, and what TensorBoard shows of it in the end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from alphacl_jax.data.preview import choose_images
from alphacl_jax.data.views import in_unit_range, make_views
from alphacl_jax.runs.any_run import AnyRun, Training
from alphacl_jax.runs.flag_file import as_mapping
from alphacl_jax.runs.run import Run
from alphacl_jax.training.progress import Progress
from alphacl_jax.training.records import Recorder, RunRecords
from alphacl_jax.training.seeds import SeedsRecorder

_PAIRS = 8


def open_records(run: AnyRun, training: Training, workdirs: Sequence[Path]) -> RunRecords:
    """The records of a run, or of several that train as one program."""
    progress = Progress(
        training.schedule.total_steps,
        run.method.unit,
        run.settings.optimizer.batch_size * len(workdirs),
        run.method.shown,
    )
    if len(workdirs) == 1:
        return RunRecords(Recorder(workdirs[0]), progress, run.method.warning)
    return RunRecords(SeedsRecorder(list(workdirs)), progress, run.method.warning)


def show_in_tensorboard(run: Run, workdir: Path, step: int, figures: dict[str, Any]) -> None:
    """Adds augmented pairs, the map, and the settings with the final accuracies to the events."""
    recorder = Recorder(workdir)
    recorder.image("pictures/augmented_pairs", _pairs(run), step)
    add_pictures(recorder, workdir, ("map",), step)
    final = {
        f"{name}/{row}": value
        for row, of_row in figures.get("accuracy", {}).items()
        for name, value in of_row.items()
        if name in ("linear_all", "knn")
    }
    recorder.hyperparameters(as_mapping(run.settings), final)


def add_pictures(recorder: Recorder, workdir: Path, names: Sequence[str], step: int) -> None:
    """Adds those of the pictures NAME.png in the folder that there are to the events."""
    for name in names:
        if (path := workdir / f"{name}.png").exists():
            with Image.open(path) as picture:
                recorder.image(f"pictures/{name}", np.asarray(picture.convert("RGB")), step)


def _pairs(run: Run) -> np.ndarray:
    """Images and their two views side by side, `[height, width, channels]` in [0, 1]."""
    images, _ = choose_images(run.dataset.pretrain, _PAIRS, len(run.dataset.class_names))
    key, own = jax.random.key(run.settings.seed), run.preprocessing
    draw = jax.jit(make_views, static_argnums=2)
    augmented = draw(key, images, run.view_policies, own.mean, own.std)
    views = in_unit_range(augmented, own.mean, own.std)
    rows = np.concatenate([images[:, None] / 255, views], axis=1)
    # [row, column, height, width, channels] as one picture.
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
