"""Pretrains an encoder by alpha-CL, or another contrastive loss, and evaluates it.

    alphacl pretrain

trains a small ResNet by alpha-CL-direct on the digits data set, which needs no download, and prints
a table of linear probes and nearest neighbours. The same command resumes a run that was
interrupted. With --num_seeds=3 it trains three such runs and prints the mean and standard deviation
over them. With --distributed one run spans several hosts: start the same command on each of them.
Presets: --flagfile=experiments/presets/NAME.flags
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from alphacl_jax.cli.help import Groups
from alphacl_jax.cli.launch import HOSTS, LAUNCH, cluster_of, define_launch_flags
from alphacl_jax.cli.run_flags import define_run_flags, help_groups, settings_of
from alphacl_jax.cli.start import plain_errors
from alphacl_jax.errors import RunError, differences

if TYPE_CHECKING:
    from alphacl_jax.runs.folder import OtherRunError

# What trains is imported where it is needed, so that --help and a flag's typing error are quick.


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    define_launch_flags(values)
    define_run_flags(values)


def groups() -> Groups:
    """The flags by heading, for --help."""
    return help_groups({"where it lies and what it shows": LAUNCH, "several hosts": HOSTS})


def pretrain(values: flags.FlagValues) -> str | None:
    """Trains and evaluates the run or runs that the flags describe; returns their table.

    Where several processes train, the first one evaluates, alone; the others return None.

    Raises:
      RunError: for whatever the person can put right.
      InterruptedBySignal: after SIGTERM or SIGINT, once the state is saved.
    """
    with plain_errors(values):
        settings = settings_of(values)
        if settings.num_seeds == 1 and values["seeds_as"].value != "auto":
            raise RunError("--seeds_as is set, and only --num_seeds=2 or more reads it")
        from alphacl_jax.runs import pretraining, seeds
        from alphacl_jax.runs.folder import OtherRunError, default_workdir
        from alphacl_jax.runs.preview import preview_run
        from alphacl_jax.runs.run import open_run, prepare_training
        from alphacl_jax.training import hosts
        from alphacl_jax.training.agreement import DisagreementError
        from alphacl_jax.training.loop import NonFiniteLossError
        from alphacl_jax.training.mesh import data_mesh

        run = open_run(settings, data_mesh())
        if path := values["preview"].value:
            if hosts.is_writer():
                print(preview_run(run, Path(path)))
            return None
        pretraining.check_start(run)
        training = prepare_training(run)
        try:
            pretraining.check_hosts(run, training)
        except DisagreementError as error:
            raise RunError(
                error.of(lambda name: f"--{name}" if name in values else name)
            ) from error
        given = values["workdir"].value
        workdir = (
            Path(given).expanduser() if given else default_workdir(settings, run.dataset.title)
        )

        def one(run: pretraining.Run, training: pretraining.Training, folder: Path) -> str | None:
            trained = pretraining.train_run(run, training, folder)
            return pretraining.evaluate_run(run, *trained, folder) if hosts.is_writer() else None

        try:
            with pretraining.run_folder(workdir, settings, pretraining.describe(run, training)):
                if settings.num_seeds > 1:
                    how = str(values["seeds_as"].value)
                    return seeds.pretrain_seeds(run, training, workdir, how, one)
                return one(run, training, workdir)
        except OtherRunError as error:
            raise RunError(_other_run(error)) from error
        except NonFiniteLossError as error:
            rate = settings.optimizer.learning_rate
            raise RunError(
                f"{error} (--learning_rate={rate}, --temperature, --clip_norm)"
            ) from error


def _other_run(error: "OtherRunError") -> str:
    listed = differences({f"--{name}": values for name, values in error.differing.items()})
    path = error.workdir
    return (
        f"{path} holds a run with other flags: {listed}. Use another --workdir, or go on with that "
        f"run by --flagfile={path / 'flags.txt'} --workdir={path}"
    )


def _with_a_command_that_works(error: RunError) -> RunError:
    """Adds to an error of mixed image sizes the command that scales them."""
    from alphacl_jax.data.errors import MixedSizesError

    cause = error.__cause__
    if not isinstance(cause, MixedSizesError):
        return error
    given = [argument for argument in sys.argv[1:] if not argument.startswith("--image_size")]
    program = ["python", "-m", "experiments.pretrain"]
    if Path(sys.argv[0]).name.startswith("alphacl"):
        program = ["alphacl"]
    command = shlex.join([*program, *given, f"--image_size={cause.suggested}"])
    return RunError(f"{error}. For example: {command}")


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    del argv
    values = flags.FLAGS
    with plain_errors(values):
        settings_of(values)  # a mistyped value is refused before anything is loaded
        cluster = cluster_of(values)
        from alphacl_jax.training import hosts
        from alphacl_jax.training.loop import InterruptedBySignal

        try:
            with hosts.joined(cluster):
                table = pretrain(values)
        except RunError as error:
            raise _with_a_command_that_works(error) from error
        except InterruptedBySignal as error:
            print(error, file=sys.stderr)
            sys.exit(128 + error.number)
    if table is not None:
        print(table)
