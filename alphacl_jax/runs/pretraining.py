"""A run from its start to its table."""

import dataclasses
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from alphacl_jax.data import policies
from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.data.reading import fingerprint_of
from alphacl_jax.data.sources import ARRAYS
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.evaluation.pictures import warned_of
from alphacl_jax.runs import evaluation as looks
from alphacl_jax.runs.agreement import to_compare
from alphacl_jax.runs.baselines import supervised_row, untrained_name
from alphacl_jax.runs.description import (
    Description,
    is_described,
    read_description,
    write_description,
)
from alphacl_jax.runs.encoder import Encoder, encoder_of
from alphacl_jax.runs.flag_file import as_mapping
from alphacl_jax.runs.folder import checkpoints_of, claim_workdir, locked, of_seeds
from alphacl_jax.runs.methods import label_of
from alphacl_jax.runs.probes import probe_hook
from alphacl_jax.runs.records import open_records, show_in_tensorboard
from alphacl_jax.runs.run import Run, Training, count_parameters, open_run, prepare_training
from alphacl_jax.runs.settings import DataSettings, RunSettings
from alphacl_jax.runs.start import check_start, encoder_to_start_from, start_state
from alphacl_jax.training import hosts
from alphacl_jax.training.agreement import from_first, require_agreement
from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.loop import InterruptedBySignal, NonFiniteLossError, train
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.state import TrainState


def pretrain(
    images: ArrayLike,
    settings: RunSettings = RunSettings(),  # noqa: B008 - frozen
    *,
    labels: ArrayLike | None = None,
    workdir: str | Path | None = None,
    mesh: Mesh | None = None,
    allow_changed_data: bool = False,
) -> Encoder:
    """Trains an encoder on images in memory.

    Args:
      images: uint8 `[n, height, width, channels]`, or `[n, height, width]` for one channel.
      settings: of the run, with the default data settings but for the limit of memory.
      labels: int `[n]`, -1 where unknown, which methods with labels and probes while training read.
      workdir: a run folder, from which the run can be resumed and loaded; None keeps nothing.
      mesh: the devices, with an axis "data"; by default all of them.
      allow_changed_data: whether the run in `workdir` goes on where it began on other images.

    Returns:
      The trained encoder.

    Raises:
      ArgumentError: for images, labels or settings that cannot be used; the message says why.
      RunError: for a run folder of another run, or of a run on other images.
      NonFiniteLossError: where training diverges; a note says which settings were given.
    """
    dataset, data = dataset_from_arrays(images, labels), _of_arrays(settings.data)
    if settings.num_seeds != 1:
        raise ArgumentError("num_seeds", settings.num_seeds, "must be 1 here: call once per seed")
    settings = dataclasses.replace(settings, data=data)
    with ExitStack() as stack:
        if workdir is None:
            workdir = stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(workdir).expanduser()
        run = open_run(settings, mesh or data_mesh(), dataset)
        check_start(run)
        training = prepare_training(run)
        check_hosts(run, training)
        description = describe(run, training)
        run, training = as_begun(run, training, folder)
        stack.enter_context(run_folder(folder, run.settings, description, allow_changed_data))
        return train_run(run, training, folder)[0]


def _of_arrays(settings: DataSettings) -> DataSettings:
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        free = field.name == "memory_limit_mb" or (field.name, value) == ("dataset", ARRAYS)
        if value != field.default and not free:
            raise ArgumentError(
                field.name, value, "is set, and images in memory are used as they are given"
            )
    return dataclasses.replace(settings, dataset=ARRAYS)


def changeable(settings: RunSettings) -> dict[str, Any]:
    """The settings that the advice of a NonFiniteLossError is about, with their values."""
    values = as_mapping(settings)
    names = ("learning_rate", "temperature", "clip_norm")
    return {name: values[name] for name in names if name in values}


@contextmanager
def run_folder(
    workdir: Path, settings: RunSettings, data: Description, allow_changed_data: bool = False
) -> Iterator[None]:
    """Makes and locks the run folder, which all processes share.

    Args:
      workdir, settings, data, allow_changed_data: see `claim_workdir`.

    Raises:
      RunError: where it cannot be made, is in use, or belongs to another run or to other images.
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


def describe(run: Run, training: Training) -> Description:
    """What the run's encoder needs beside its weights, of the images as they are today."""
    data = run.dataset
    return Description(
        Preprocessing.from_dataset(data),
        run.policy,
        data.class_names,
        data.title,
        training.batches.num_images,
        fingerprint_of(data.pretrain.source),
    )


def check_hosts(run: Run, training: Training) -> None:
    """Refuses to train with processes that are about to train something else.

    Raises:
      DisagreementError: in all processes alike, with what differs.
    """

    def own() -> dict[str, Any]:
        other = None if run.settings.model.init_from is None else encoder_to_start_from(run)
        start = None if other is None else other.variables
        return to_compare(run, describe(run, training), start)

    require_agreement(own)


def as_begun(run: Run, training: Training, workdir: Path) -> tuple[Run, Training]:
    """The same with what the run in the folder, where there is one, measured when it began.

    Colours that are measured today may differ in their last digits; these and the range of the
    pixels may differ more where the images changed.
    """
    begun = next((folder for folder in of_seeds(workdir) if is_described(folder)), None)
    if begun is None:
        return run, training
    kept = read_description(begun).preprocessing
    if kept.image_shape != run.preprocessing.image_shape:
        return run, training  # which the folder refuses
    automatic = run.settings.data.pixel_range == "auto"
    if automatic and kept.pixel_range != run.preprocessing.pixel_range:
        run = open_run(run.settings, run.mesh, measured=kept.pixel_range)
        training = prepare_training(run)
    colours = dataclasses.replace(run.preprocessing, mean=kept.mean, std=kept.std)
    if colours == run.preprocessing:
        return run, training
    run = dataclasses.replace(run, preprocessing=colours)
    return run, prepare_training(run, training.batches)


def described(run: Run, training: Training, workdir: Path) -> Description:
    """The description in a run's folder, where it is written if it is not there yet."""
    if is_described(workdir):
        return read_description(workdir)
    description = describe(run, training)
    if hosts.is_writer():
        write_description(workdir, description)
    return description


def announce(run: Run, training: Training, state: TrainState, workdir: Path) -> None:
    """Says on the first process what is about to be trained."""
    if not hosts.is_writer():
        return
    on_hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    height, width, channels = run.dataset.image_shape
    devices = f"{run.mesh.size} {jax.devices()[0].platform} device{'s' * (run.mesh.size > 1)}"
    print(
        f"{label_of(run.settings)} on {run.dataset.title}: "
        f"{training.batches.num_images:,} images of {height}x{width}x{channels}, "
        f"{count_parameters(state):,} parameters, {training.schedule.total_steps:,} steps on "
        f"{devices}{on_hosts}, run folder {workdir}\n{_chunks_of(run)}"
        f"augmentation: {policies.describe(run.view_policies, channels)}",
        file=sys.stderr,
        flush=True,
    )


def _chunks_of(run: Run) -> str:
    """The line about the chunks in which a batch is embedded, where it is."""
    own = run.settings.optimizer
    if own.micro_batch is None:
        return ""
    return f"a batch of {own.batch_size:,} images is embedded in chunks of {own.micro_batch:,}\n"


def train_run(
    run: Run, training: Training, workdir: Path, *, announced: bool = True
) -> tuple[Encoder, Encoder]:
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
    state = start_state(run, training)
    if announced:
        announce(run, training, state, workdir)
    description = described(run, training, workdir)
    # Copied, because the memory of the first state is given up to those after it.
    untrained = encoder_of(run.settings, description, hosts.own_copy(state._replace(opt_state=())))
    checkpoints = Checkpoints(checkpoints_of(workdir))
    ended = training.schedule.total_steps in checkpoints.steps()
    recorder = open_records(run, training, [workdir]) if hosts.is_writer() else None
    hook = probe_hook(run, training, untrained)
    try:
        last = train(
            state,
            training.step,
            training.batches,
            training.schedule,
            checkpoints,
            recorder,
            [] if hook is None else [hook],
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
    return encoder_of(run.settings, description, last), untrained


def evaluate_run(
    run: Run,
    encoder: Encoder,
    untrained: Encoder,
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
    level, seed = run.settings.evaluation.evaluate, run.settings.seed
    if level == "none":
        table = f"not evaluated; the run is in {workdir}"
        show(table)
        return table
    baselines = {untrained_name(run.settings): untrained}
    if run.settings.evaluation.supervised:
        looks.to_terminal("training a supervised encoder")
        baselines |= supervised_row(run, untrained)
    found = looks.evaluate_encoder(
        encoder,
        run.dataset,
        baselines=baselines,
        level=level,
        memory_limit_bytes=run.memory_limit_bytes,
        report=looks.to_terminal,
    )

    def draw() -> None:
        looks.draw_evaluation(
            found, workdir, workdir, level=level, seed=seed, report=looks.to_terminal
        )
        with warned_of("what TensorBoard shows of the end"):
            show_in_tensorboard(run, workdir, encoder.step, found.figures)

    heading = f"pictures and figures: {workdir}"
    return looks.publish(found, workdir / "evaluation.json", heading, show, draw)
