"""Pretrains an encoder by alpha-CL, another contrastive loss or another method; evaluates it.

    alphacl pretrain

trains a small ResNet by alpha-CL-direct on the digits data set, which needs no download, and prints
a table of linear probes and nearest neighbours. The same command resumes a run that was
interrupted. With --num_seeds=3 it trains three such runs and prints the mean and standard deviation
over them. With --distributed one run spans several hosts: start the same command on each of them.

    alphacl pretrain --method=cpc

trains on recordings over time: vowels of nine speakers, which come with the package aeon. The
methods cpc and cebra take recordings, all others images.
Presets: --flagfile=experiments/presets/NAME.flags
"""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from alphacl_jax.cli.help import Groups
from alphacl_jax.cli.interrupt import own_command, tell_kept
from alphacl_jax.cli.launch import HOSTS, LAUNCH, cluster_of, define_launch_flags
from alphacl_jax.cli.run_flags import define_run_flags, help_groups, settings_of
from alphacl_jax.cli.start import plain_errors, show_at_once
from alphacl_jax.errors import RunError, differences

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from alphacl_jax.runs.any_run import AnyRun, Training
    from alphacl_jax.runs.common_settings import AnyRunSettings
    from alphacl_jax.runs.folder import OtherDataError, OtherRunError

Show = Callable[[str], None]

# What trains is imported where it is needed, so that --help and a flag's typing error are quick.


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    define_launch_flags(values)
    define_run_flags(values)


def groups() -> Groups:
    """The flags by heading, for --help."""
    return help_groups({"where it lies and what it shows": LAUNCH, "several hosts": HOSTS})


def pretrain(values: flags.FlagValues) -> str | None:
    """Trains and evaluates the run or runs that the flags describe; shows and returns their table.

    Where several processes train, the first one evaluates, alone; the others return None.

    Raises:
      RunError: for whatever the person can put right.
      InterruptedBySignal: after SIGTERM or SIGINT, once the state is saved.
    """
    with plain_errors(values):
        settings = settings_of(values)
        if settings.num_seeds == 1 and values["seeds_as"].value != "auto":
            raise RunError("--seeds_as is set, and only --num_seeds=2 or more reads it")
        from alphacl_jax.runs.folder import OtherDataError, OtherRunError
        from alphacl_jax.training import hosts
        from alphacl_jax.training.agreement import DisagreementError
        from alphacl_jax.training.loop import NonFiniteLossError
        from alphacl_jax.training.mesh import data_mesh

        path = values["preview"].value
        run, kind = _opened(settings, data_mesh(), previewed=path is not None)
        if path is not None:
            if hosts.is_writer():
                print(kind.preview(run, Path(path)))
            return None
        try:
            return _train_in_folder(run, kind, values)
        except DisagreementError as error:
            raise RunError(
                error.of(lambda name: f"--{name}" if name in values else name)
            ) from error
        except OtherRunError as error:
            raise RunError(_other_run(error)) from error
        except OtherDataError as error:
            raise RunError(_other_data(error)) from error
        except NonFiniteLossError as error:
            raise RunError(f"{error} (given: {_flags_of_advice(settings)})") from error


class _Kind(NamedTuple):
    """What the command does otherwise with runs on images and on recordings.

    Attributes:
      evaluate: a trained run, and returns its table.
      lines_over_seeds: what is shown of the figures of several seeds; None for that of images.
      preview: writes a picture of augmented images.
    """

    evaluate: Callable[..., str]
    lines_over_seeds: Callable[[dict[str, Any]], list[str]] | None = None
    preview: Callable[[Any, Path], str] = lambda run, path: ""


def _opened(settings: "AnyRunSettings", mesh: "Mesh", *, previewed: bool) -> tuple["AnyRun", _Kind]:
    """The run that the settings describe, whatever it is trained on."""
    from alphacl_jax.runs.recording_settings import RecordingRunSettings

    if isinstance(settings, RecordingRunSettings):
        if previewed:
            raise RunError(
                "--preview is set, and shows how images are augmented: recordings are not"
            )
        from alphacl_jax.runs.recording_pretraining import evaluate_recording_run
        from alphacl_jax.runs.recording_run import open_recording_run
        from alphacl_jax.runs.recording_tables import lines_over_seeds

        return open_recording_run(settings, mesh), _Kind(evaluate_recording_run, lines_over_seeds)
    from alphacl_jax.runs import pretraining
    from alphacl_jax.runs.flag_file import of_images
    from alphacl_jax.runs.preview import preview_run
    from alphacl_jax.runs.run import open_run

    return open_run(of_images(settings), mesh), _Kind(pretraining.evaluate_run, preview=preview_run)


def _train_in_folder(run: "AnyRun", kind: _Kind, values: flags.FlagValues) -> str | None:
    """Trains and evaluates in the run folder that the flags name, or the default one."""
    from alphacl_jax.runs import seeds
    from alphacl_jax.runs.any_run import prepare_training
    from alphacl_jax.runs.folder import how_far
    from alphacl_jax.runs.naming import default_workdir
    from alphacl_jax.runs.train_run import check_hosts, check_start, run_folder, train_run
    from alphacl_jax.training import hosts

    check_start(run)
    training, settings = prepare_training(run), run.settings
    check_hosts(run, training)
    data, given = run.describe(training.batches), values["workdir"].value
    workdir = Path(given).expanduser() if given else default_workdir(settings, run.title, data)
    run, training = run.as_begun(training, workdir)
    total = training.schedule.total_steps

    def one(run: "AnyRun", training: "Training", folder: Path, *show: Show) -> str | None:
        trained = train_run(run, training, folder)
        if not hosts.is_writer():
            return None
        return kind.evaluate(run, *trained, folder, *show)

    tell_kept(lambda: how_far(workdir, total))
    allowed = bool(values["allow_changed_data"].value)
    with run_folder(workdir, settings, data, allowed):
        if settings.num_seeds == 1:
            return one(run, training, workdir, show_at_once)
        table = seeds.pretrain_seeds(
            run, training, workdir, str(values["seeds_as"].value), one, kind.lines_over_seeds
        )
        show_at_once(table)
        return table


def _flags_of_advice(settings: "AnyRunSettings") -> str:
    """The flags that may be changed where training diverges, with their values."""
    from alphacl_jax.runs.train_run import changeable

    return ", ".join(
        f"no --{name}" if value is None else f"--{name}={value}"
        for name, value in changeable(settings).items()
    )


def _other_run(error: "OtherRunError") -> str:
    from alphacl_jax.runs.folder import of_seeds, saved_steps

    listed = differences({f"--{name}": values for name, values in error.differing.items()})
    path = error.workdir
    go_on = shlex.join([f"--flagfile={path / 'flags.txt'}", f"--workdir={path}"])
    if any(saved_steps(folder) for folder in of_seeds(path)):
        ways = f"Use another --workdir, or go on with that run by {go_on}"
    else:
        ways = f"It has saved nothing: delete {path}, use another --workdir, or go on by {go_on}"
    return f"{path} holds a run with other flags: {listed}. {ways}"


def _other_data(error: "OtherDataError") -> str:
    if error.impossible:
        return str(error)
    return f"{error}. To go on with these: {shlex.join([*own_command(), '--allow_changed_data'])}"


def _with_a_command_that_works(error: RunError) -> RunError:
    """Adds to an error of mixed image sizes the command that scales them."""
    from alphacl_jax.data.errors import MixedSizesError

    cause = error.__cause__
    if not isinstance(cause, MixedSizesError):
        return error
    given = [word for word in own_command() if not word.startswith("--image_size")]
    command = shlex.join([*given, f"--image_size={cause.suggested}"])
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
                pretrain(values)
        except RunError as error:
            raise _with_a_command_that_works(error) from error
        except InterruptedBySignal as error:
            print(error, file=sys.stderr)
            sys.exit(128 + error.number)
