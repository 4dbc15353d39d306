"""Evaluates the encoder of a training run: probes, neighbours, spectrum and pictures.

    alphacl evaluate --workdir=runs/digits-alpha_direct-1234abcd

prints a table of linear probes and weighted kNN on frozen features, beside the same on the
untrained encoder and on raw pixels, and writes evaluation.json, history.png, spectrum.png and
map.png into the run folder, or into --output. With --dataset or --data_dir the frozen encoder is
evaluated on other data (transfer), and the figures go to evaluation-DATA.json. Where the run folder
cannot be written to, the table is printed all the same. Of a run on recordings over time it prints
what `alphacl pretrain` does at its end; --data_dir says where the recordings have been moved to.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from alphacl_jax.cli.data_flags import (
    DATA,
    data_settings_of,
    define_data_flags,
    is_transfer,
    open_data,
    workdir_of,
)
from alphacl_jax.cli.evaluate_recordings import evaluate_recordings, is_of_recordings
from alphacl_jax.cli.help import Groups
from alphacl_jax.cli.start import plain_errors, show_at_once
from alphacl_jax.errors import ArgumentError
from alphacl_jax.files import in_words

if TYPE_CHECKING:
    from alphacl_jax.runs.encoder import Encoder
    from alphacl_jax.runs.evaluation import Evaluated


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    define_data_flags(values)
    flags.DEFINE_enum(
        "evaluate",
        "full",
        ["quick", "full"],
        "quick: a linear probe and kNN. full: few-label probes, and a map of the features, too.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "supervised",
        False,
        "Train the same network on the labels too, and add its row to the table.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "output", None, "Folder for the figures and pictures. Default: the run folder.", values
    )


def groups() -> Groups:
    """The flags by heading, for --help."""
    return {"flags": ("workdir", "evaluate", "supervised", "output"), "other data": DATA}


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    del argv
    values = flags.FLAGS
    with plain_errors(values):
        workdir = workdir_of(values)
        from alphacl_jax.runs.folder import saved_steps

        if is_of_recordings(workdir):
            from alphacl_jax.runs.recording_encoder import load_recording_encoder

            encoder, saved = load_noted(workdir, load_recording_encoder)
            evaluate_recordings(encoder, workdir, values)
        else:
            encoder, saved = load_noted(workdir)
            evaluate(encoder, workdir, values)
        later = saved_steps(workdir)
        if later and later[-1] > max([encoder.step, *saved[-1:]]):
            print(
                f"note: shown is step {encoder.step}; the run has saved step {later[-1]} since "
                "then",
                file=sys.stderr,
            )


def evaluate(encoder: "Encoder", workdir: Path, values: flags.FlagValues) -> None:
    """Evaluates an encoder on the data that the flags name, and shows the table."""
    from alphacl_jax.runs import evaluation as looks
    from alphacl_jax.runs.baselines import baselines_of
    from alphacl_jax.runs.exported import is_export
    from alphacl_jax.runs.naming import as_file_name
    from alphacl_jax.training.mesh import data_mesh

    level, own = str(values["evaluate"].value), encoder.settings.data
    output = output_of(values, workdir)
    data = data_settings_of(values, own)
    dataset = open_data(encoder, data)
    baselines = baselines_of(encoder, dataset, data_mesh() if values["supervised"].value else None)
    found = looks.evaluate_encoder(
        encoder,
        dataset,
        baselines=baselines,
        level=level,
        memory_limit_bytes=data.memory_limit_mb * 2**20,
        report=looks.to_terminal,
    )
    transfer = is_transfer(values, data, own)

    def draw() -> None:
        seed, report = encoder.settings.seed, looks.to_terminal
        if not transfer and not is_export(workdir):
            looks.draw_evaluation(found, workdir, output, level=level, seed=seed, report=report)

    path = output / f"evaluation{f'-{as_file_name(dataset.title)}' if transfer else ''}.json"
    heading = f"figures: {path}" if transfer else f"pictures and figures: {output}"
    published(found, path, heading, draw, values)


def published(
    found: "Evaluated", path: Path, heading: str, draw: Callable[[], None], values: flags.FlagValues
) -> None:
    """Writes the figures, shows the table and draws; where they cannot be written, a note says so.

    Args:
      found, path, heading, draw: as `publish` takes them.
      values: the flags; with --output it is no note but an error.
    """
    from alphacl_jax.runs import evaluation as looks

    try:
        looks.publish(found, path, heading, show_at_once, draw)
    except looks.UnwrittenError as error:
        if values["output"].value is not None:
            raise
        print(f"note: {error}. --output=FOLDER writes them elsewhere", file=sys.stderr)


def load_noted(workdir: Path, load: "Callable[[Path], Any] | None" = None) -> tuple[Any, list[int]]:
    """The encoder of a run, after a note where that is unfinished; and the steps saved before.

    Args:
      workdir: the run folder.
      load: what loads it; None for that of images.
    """
    from alphacl_jax.runs.encoder import load_encoder
    from alphacl_jax.runs.folder import saved_steps

    saved = saved_steps(workdir)  # before: a step may be saved while the encoder is read
    encoder = (load or load_encoder)(workdir)
    note_unfinished(encoder, workdir, saved)
    return encoder, saved


def output_of(values: flags.FlagValues, default: Path) -> Path:
    """The folder that --output names, which is made if it is not there."""
    output = Path(values["output"].value or default).expanduser()
    if output.exists() and not output.is_dir():
        raise ArgumentError("output", output, "is a file. Give a folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError("output", output, f"cannot be made: {in_words(error)}") from error
    return output


def note_unfinished(encoder: Any, workdir: Path, saved: Sequence[int]) -> None:
    """Says of which step an encoder is, where its run has not been trained to its end.

    Args:
      encoder: as it was loaded.
      workdir: its run folder.
      saved: the steps of which the folder had a checkpoint before it was loaded.
    """
    from alphacl_jax.runs.folder import is_in_use

    total = encoder.description.total_steps(encoder.settings)
    if encoder.step >= total:
        return
    state = "the newest that is saved of a run that was stopped"
    if is_in_use(workdir):
        state = "the newest that was saved when this began; a process is training it"
    elif saved and saved[-1] > encoder.step:
        state = f"the newest that can be read; its checkpoint of step {saved[-1]} is damaged"
    print(f"note: this run is at step {encoder.step} of {total}, {state}", file=sys.stderr)
