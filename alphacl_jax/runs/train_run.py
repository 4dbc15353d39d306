"""Training a run in its folder, whatever it is trained on."""

import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax

from alphacl_jax.errors import RunError
from alphacl_jax.runs.agreement import to_compare
from alphacl_jax.runs.any_run import AnyRun, Training, count_parameters
from alphacl_jax.runs.common_settings import AnyRunSettings
from alphacl_jax.runs.description import (
    AnyDescription,
    is_described,
    read_any_description,
    write_description,
)
from alphacl_jax.runs.flag_file import as_mapping
from alphacl_jax.runs.folder import checkpoints_of, claim_workdir, locked
from alphacl_jax.runs.records import open_records
from alphacl_jax.training import hosts
from alphacl_jax.training.agreement import from_first, require_agreement
from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.loop import InterruptedBySignal, NonFiniteLossError, train
from alphacl_jax.training.state import TrainState


@contextmanager
def run_folder(
    workdir: Path, settings: AnyRunSettings, data: AnyDescription, allow_changed_data: bool = False
) -> Iterator[None]:
    """Makes and locks the run folder, which all processes share.

    Args:
      workdir, settings, data, allow_changed_data: see `claim_workdir`.

    Raises:
      RunError: where it cannot be made, is in use, or belongs to another run or to other data.
    """
    with ExitStack() as stack:
        if hosts.is_writer():
            if news := claim_workdir(
                workdir, settings, data, allow_changed_data=allow_changed_data
            ):
                print(news, file=sys.stderr)
            stack.enter_context(locked(workdir))
        if jax.process_count() > 1:
            _require_same_folder(workdir)
        yield


def _require_same_folder(workdir: Path) -> None:
    """Has process 0 leave a mark in the folder, which the others look for."""
    path = workdir / "lock"

    def leave_mark() -> str:
        mark = uuid.uuid4().hex
        path.write_text(mark)
        return mark

    mark = from_first(leave_mark)
    if not path.is_file() or path.read_text() != mark:
        raise RunError(
            f"this host does not see the run folder {workdir} that process 0 made, or sees another "
            "one of that name. It must lie on storage that all hosts share"
        )


def changeable(settings: AnyRunSettings) -> dict[str, Any]:
    """The settings that the advice of a NonFiniteLossError is about, with their values."""
    values = as_mapping(settings)
    names = ("learning_rate", "temperature", "clip_norm")
    return {name: values[name] for name in names if name in values}


def check_hosts(run: AnyRun, training: Training) -> None:
    """Refuses to train with processes that are about to train something else.

    Raises:
      DisagreementError: in all processes alike, with what differs.
    """

    def own() -> dict[str, Any]:
        other = run.starts_from()
        start = None if other is None else other.variables
        return to_compare(run, run.describe(training.batches), start)

    require_agreement(own)


def check_start(run: AnyRun) -> None:
    """Refuses what the run cannot start from, before there is a folder for it.

    Raises:
      ArgumentError: for an encoder to start from that cannot be used, and for views or networks
        that the method cannot be started with.
    """
    key, raw = jax.random.key(0), run.raw_shapes(2)
    batch = jax.eval_shape(run.make_batch, key, raw)
    jax.eval_shape(run.method.init, key, {**batch, "recorded": jax.ShapeDtypeStruct((), bool)})
    run.starts_from()


def described(run: AnyRun, training: Training, workdir: Path) -> AnyDescription:
    """The description in a run's folder, where it is written if it is not there yet."""
    if is_described(workdir):
        return read_any_description(workdir)
    description = run.describe(training.batches)
    if hosts.is_writer():
        write_description(workdir, description)
    return description


def announce(run: AnyRun, training: Training, state: TrainState, workdir: Path) -> None:
    """Says on the first process what is about to be trained."""
    if not hosts.is_writer():
        return
    on_hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    devices = f"{run.mesh.size} {jax.devices()[0].platform} device{'s' * (run.mesh.size > 1)}"
    data, below = run.in_words(training.batches)
    print(
        f"{run.settings.method.label} on {data}, "
        f"{count_parameters(state):,} parameters, {training.schedule.total_steps:,} steps on "
        f"{devices}{on_hosts}, run folder {workdir}\n{below}",
        end="",
        file=sys.stderr,
        flush=True,
    )


def train_run(
    run: AnyRun, training: Training, workdir: Path, *, announced: bool = True
) -> tuple[Any, Any]:
    """Trains one run in a folder that it has for itself, to its end.

    Args:
      run, training: what is trained.
      workdir: the folder.
      announced: whether the run is described on the terminal before it begins.

    Returns:
      The encoder, and the one that it started from.

    Raises:
      NonFiniteLossError, InterruptedBySignal, UnusableCheckpointsError: see `train`.
    """
    state = run.start(training.init)
    if announced:
        announce(run, training, state, workdir)
    description = described(run, training, workdir)
    # Copied, because the memory of the first state is given up to those after it.
    untrained = run.encoder(description, hosts.own_copy(state._replace(opt_state=())))
    checkpoints = Checkpoints(checkpoints_of(workdir))
    ended = training.schedule.total_steps in checkpoints.steps()
    recorder = open_records(run, training, [workdir]) if hosts.is_writer() else None
    hooks = run.hooks(training, {"": untrained})
    try:
        last = train(
            state,
            training.step,
            training.batches,
            training.schedule,
            checkpoints,
            recorder,
            hooks,
            mesh=run.mesh,
            data_changed=bool(description.data_changes),
        )
    except (InterruptedBySignal, NonFiniteLossError) as error:
        if isinstance(error, NonFiniteLossError):
            given = [f"{name}={value}" for name, value in changeable(run.settings).items()]
            error.add_note(f"Given were {', '.join(given)}.")
        hosts.leave()  # these come to all processes alike
        raise
    finally:
        checkpoints.close()
    last = hosts.own_copy(last)
    hosts.leave()
    if ended and hosts.is_writer():
        print(f"trained already, to step {int(last.step):,}", file=sys.stderr)
    return run.encoder(description, last), untrained
