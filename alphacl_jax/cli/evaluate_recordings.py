"""The command evaluate, of a run on recordings over time."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from alphacl_jax.errors import ArgumentError

if TYPE_CHECKING:
    from alphacl_jax.runs.recording_data import RecordingData
    from alphacl_jax.runs.recording_encoder import RecordingEncoder

# Flags of the command that are of images.
_OF_IMAGES = ("dataset", "supervised", "pixel_range", "max_megapixels", "memory_limit_mb")


def is_of_recordings(workdir: Path) -> bool:
    """Whether a folder holds a run on recordings.

    Raises:
      RunError: where it holds no run, and no export of one.
    """
    from alphacl_jax.runs.exported import is_export
    from alphacl_jax.runs.folder import read_settings
    from alphacl_jax.runs.recording_settings import RecordingRunSettings

    return not is_export(workdir) and isinstance(read_settings(workdir), RecordingRunSettings)


def evaluate_recordings(
    encoder: "RecordingEncoder", workdir: Path, values: flags.FlagValues
) -> None:
    """Evaluates an encoder on its run's recordings, wherever they lie now, and shows the table.

    Raises:
      ArgumentError: for a flag that is of images, and for recordings of other channels.
    """
    from alphacl_jax.cli.evaluate import output_of, published
    from alphacl_jax.runs import recording_evaluation as recordings
    from alphacl_jax.runs.evaluation import to_terminal
    from alphacl_jax.runs.recording_encoder import untrained_recording_encoder
    from alphacl_jax.runs.recording_pictures import draw_recording_evaluation

    for name in _OF_IMAGES:
        if not values[name].using_default_value:
            problem = "is set, and is not read of a run on recordings"
            raise ArgumentError(name, values[name].value, problem)
    level, output = str(values["evaluate"].value), output_of(values, workdir)
    found = recordings.evaluate_recording_encoder(
        encoder,
        _data(encoder, values["data_dir"].value),
        baselines={recordings.UNTRAINED: untrained_recording_encoder(encoder)},
        level=level,
        report=to_terminal,
    )

    def draw() -> None:
        draw_recording_evaluation(
            found, workdir, output, level=level, seed=encoder.settings.seed, report=to_terminal
        )

    heading = f"pictures and figures: {output}"
    published(found, output / "evaluation.json", heading, draw, values)


def _data(encoder: "RecordingEncoder", data_dir: str | None) -> "RecordingData":
    """The run's recordings, where they are or where they have been moved to."""
    from alphacl_jax.runs.recording_data import load_data
    from alphacl_jax.runs.recording_run import holds_out_time

    own, described = encoder.settings.data, encoder.description
    if data_dir is not None:
        own = dataclasses.replace(own, data_dir=data_dir)
    data = load_data(own, in_time=holds_out_time(encoder.settings))
    channels = data.train.signal.shape[1]
    if channels != described.channels:
        problem = f"has {channels} channels, and the encoder takes {described.channels}"
        raise ArgumentError("data_dir", own.data_dir, problem)
    if data.fingerprint != described.fingerprint:
        print(
            f"note: the recordings in {data.title} are not those that the run was trained on",
            file=sys.stderr,
        )
    return data
