"""Trains a run's encoder further on few labels, and the same network from scratch beside it.

    alphacl finetune --init_from=runs/digits-alpha_direct-1234abcd --label_fraction=0.01,0.1,1.0

prints test accuracies for each share of the labels, over several seeds: of the encoder fine-tuned
with a linear classifier on it, of the same network trained from scratch for as many steps, and of
the linear probe on the frozen encoder, all three on the same labels. Writes finetune.json into the
run folder, or into --output, after each cell of the table: the same command goes on where it was
stopped. With --dataset or --data_dir the labels are those of other data (finetune-DATA.json).
"""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from alphacl_jax.cli.data_flags import (
    DATA,
    data_settings_of,
    define_data_flags,
    is_transfer,
    open_data,
    workdir_of,
)
from alphacl_jax.cli.help import Groups
from alphacl_jax.cli.run_flags import define_setting
from alphacl_jax.cli.start import plain_errors, show_at_once
from alphacl_jax.runs.finetune_settings import FinetuneSettings

_FIELDS = {field.name: field for field in dataclasses.fields(FinetuneSettings)}
_FROM = "init_from"


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    define_data_flags(values, _FROM)
    for name, field in _FIELDS.items():
        define_setting(values, name, FinetuneSettings, field)
    flags.DEFINE_string("output", None, "Folder for the figures. Default: the run folder.", values)


def groups() -> Groups:
    """The flags by heading, for --help."""
    what = ("label_fraction", "seed", "num_seeds")
    return {
        "flags": (_FROM, *what, "output"),
        "how it is trained": [name for name in _FIELDS if name not in what],
        "other data": DATA,
    }


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    del argv
    values = flags.FLAGS
    with plain_errors(values):
        workdir = workdir_of(values, _FROM)
        given: dict[str, Any] = {name: values[name].value for name in _FIELDS}
        settings = FinetuneSettings(**given)
        from alphacl_jax.cli.evaluate import load_noted, output_of
        from alphacl_jax.runs.evaluation import clear_terminal, to_terminal
        from alphacl_jax.runs.finetuning import finetune
        from alphacl_jax.runs.naming import as_file_name
        from alphacl_jax.training.mesh import data_mesh

        def finished(text: str) -> None:
            clear_terminal()
            print(text, file=sys.stderr, flush=True)

        encoder, _ = load_noted(workdir)
        own = encoder.settings.data
        data = data_settings_of(values, own)
        dataset = open_data(encoder, data)
        other = f"-{as_file_name(dataset.title)}" if is_transfer(values, data, own) else ""
        path = output_of(values, workdir) / f"finetune{other}.json"
        found = finetune(
            encoder,
            dataset,
            settings,
            path=path,
            mesh=data_mesh(),
            memory_limit_bytes=data.memory_limit_mb * 2**20,
            report=functools.partial(to_terminal, doing="fine-tuning"),
            finished=finished,
        )
        clear_terminal()
        show_at_once(f"figures: {path}\n{found}")
