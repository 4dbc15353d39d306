"""Evaluates the encoder of a training run: probes, neighbours, spectrum and pictures.

    alphacl evaluate --workdir=runs/digits-alpha_direct-1234abcd

prints a table of linear probes and weighted kNN on frozen features, beside the same on the
untrained encoder and on raw pixels, and writes evaluation.json, history.png, spectrum.png and
map.png into the run folder. With --dataset or --data_dir the frozen encoder is evaluated on other
data (transfer), and the figures go to evaluation-DATA.json.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from alphacl_jax.cli.data_flags import (
    DATA,
    data_settings_of,
    define_data_flags,
    open_data,
    workdir_of,
)
from alphacl_jax.cli.help import Groups
from alphacl_jax.cli.start import plain_errors

if TYPE_CHECKING:
    from alphacl_jax.runs.encoder import Encoder


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


def groups() -> Groups:
    """The flags by heading, for --help."""
    return {"flags": ("workdir", "evaluate", "supervised"), "other data": DATA}


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    del argv
    values = flags.FLAGS
    with plain_errors(values):
        workdir = workdir_of(values)
        from alphacl_jax.runs.encoder import load_encoder

        print(evaluate(load_encoder(workdir), workdir, values))


def evaluate(encoder: "Encoder", workdir: Path, values: flags.FlagValues) -> str:
    """Evaluates an encoder on the data that the flags name; returns the table."""
    from alphacl_jax.runs import evaluation as looks
    from alphacl_jax.runs.baselines import baselines_of
    from alphacl_jax.runs.exported import is_export
    from alphacl_jax.training.mesh import data_mesh

    level, own = str(values["evaluate"].value), encoder.settings.data
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
    transfer = data.dataset != own.dataset or values["data_dir"].value is not None
    suffix = f"-{dataset.title.replace('/', '_')}" if transfer else ""
    path = workdir / f"evaluation{suffix}.json"
    looks.write_evaluation(found, path)
    if not transfer and not is_export(workdir):
        looks.draw_evaluation(
            found, workdir, level=level, seed=encoder.settings.seed, report=looks.to_terminal
        )
    looks.clear_terminal()
    note_unfinished(encoder)
    return f"{f'figures: {path}' if transfer else f'pictures and figures: {workdir}'}\n{found}"


def note_unfinished(encoder: "Encoder") -> None:
    """Says where a run has not been trained to its end."""
    total = encoder.description.total_steps(encoder.settings)
    if encoder.step < total:
        print(f"note: this run is at step {encoder.step} of {total}", file=sys.stderr)
