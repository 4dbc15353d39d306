"""A run from its start to its table."""

import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from alphacl_jax.data import policies
from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.data.reading import fingerprint_of
from alphacl_jax.data.sources import ARRAYS
from alphacl_jax.errors import ArgumentError, RunError, differences
from alphacl_jax.runs import evaluation as looks
from alphacl_jax.runs.baselines import train_supervised, untrained_name
from alphacl_jax.runs.encoder import Encoder, encoder_of, load_encoder
from alphacl_jax.runs.folder import (
    Description,
    checkpoints_of,
    claim_workdir,
    locked,
    write_description,
)
from alphacl_jax.runs.methods import label_of
from alphacl_jax.runs.networks import has_small_stem
from alphacl_jax.runs.probes import probe_hook
from alphacl_jax.runs.records import open_records, show_in_tensorboard
from alphacl_jax.runs.run import Run, Training, count_parameters, open_run, prepare_training
from alphacl_jax.runs.settings import DataSettings, ModelSettings, RunSettings
from alphacl_jax.training import hosts
from alphacl_jax.training.checkpoint import Checkpoints, UnusableCheckpointsError
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
) -> Encoder:
    """Trains an encoder on images in memory.

    Args:
      images: uint8 `[n, height, width, channels]`, or `[n, height, width]` for one channel.
      settings: of the run, with the default data settings but for the limit of memory.
      labels: int `[n]`, which nothing here reads but probes while training.
      workdir: a run folder, from which the run can be resumed and loaded; None keeps nothing.
      mesh: the devices, with an axis "data"; by default all of them.

    Returns:
      The trained encoder.

    Raises:
      ArgumentError: for images, labels or settings that cannot be used; the message says why.
      RunError: for a run folder of another run, or of a run on other images.
      NonFiniteLossError: where training diverges.
    """
    dataset, data = dataset_from_arrays(images, labels), _of_arrays(settings.data)
    if settings.num_seeds != 1:
        raise ArgumentError("num_seeds", settings.num_seeds, "must be 1 here: call once per seed")
    settings = dataclasses.replace(settings, data=data)
    run = open_run(settings, mesh or data_mesh(), dataset)
    check_start(run)
    training = prepare_training(run)
    with ExitStack() as stack:
        if workdir is None:
            workdir = stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(workdir).expanduser()
        stack.enter_context(run_folder(folder, settings, describe(run, training)))
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


@contextmanager
def run_folder(workdir: Path, settings: RunSettings, data: Description) -> Iterator[None]:
    """Makes and locks the run folder, which all processes share.

    Raises:
      RunError: where it cannot be made, is in use, or belongs to another run or to other images.
    """
    with ExitStack() as stack:
        if hosts.is_writer():
            if news := claim_workdir(workdir, settings, data):
                print(news, file=sys.stderr)
            stack.enter_context(locked(workdir))
        hosts.all_agree(True)  # it is there
        if not (workdir / "flags.txt").exists():
            raise RunError(
                f"this host does not see the run folder {workdir} that process 0 made. It must lie "
                "on storage that all hosts share"
            )
        yield


def describe(run: Run, training: Training) -> Description:
    """What the run's encoder needs beside its weights."""
    data = run.dataset
    return Description(
        run.preprocessing,
        run.policy,
        data.class_names,
        data.title,
        training.batches.num_images,
        fingerprint_of(data.pretrain.source),
    )


def check_start(run: Run) -> None:
    """Refuses what the run cannot start from, before there is a folder for it.

    Raises:
      ArgumentError: see `encoder_to_start_from`.
    """
    if run.settings.model.init_from is not None:
        encoder_to_start_from(run)


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
        f"{devices}{on_hosts}, run folder {workdir}\n"
        f"augmentation: {policies.describe(run.policy, channels)}",
        file=sys.stderr,
        flush=True,
    )


def start_state(run: Run, training: Training) -> TrainState:
    """The state before the first step, with the encoder of another run where settings name one."""
    state = training.init(run.settings.seed)
    if run.settings.model.init_from is None:
        return state
    found = {"params": state.params["encoder"], "batch_stats": state.method_state["encoder"]}
    other = encoder_to_start_from(run)
    placed = jax.tree.map(
        lambda mine, its: jax.device_put(its, mine.sharding), found, other.variables
    )
    return state._replace(
        params={**state.params, "encoder": placed["params"]},
        method_state={**state.method_state, "encoder": placed["batch_stats"]},
    )


def encoder_to_start_from(run: Run) -> Encoder:
    """The encoder of the other run that the settings name.

    Raises:
      ArgumentError: where it cannot be loaded, or is not of the same architecture.
    """
    path = run.settings.model.init_from
    assert path is not None
    try:
        other = load_encoder(path)
    except (RunError, UnusableCheckpointsError) as error:
        raise ArgumentError("init_from", path, f"cannot be loaded: {error}") from error
    there, here = (
        _architecture(settings.model, shape)
        for settings, shape in (
            (other.settings, other.preprocessing.image_shape),
            (run.settings, run.dataset.image_shape),
        )
    )
    if there != here:
        listed = differences(
            {name: (there[name], here[name]) for name in there if there[name] != here[name]}
        )
        raise ArgumentError(
            "init_from", path, f"holds another encoder: {listed}. Give this run the same"
        )
    return other


def _architecture(model: ModelSettings, image_shape: tuple[int, int, int]) -> dict[str, object]:
    """What two encoders must share for one to have the other's weights."""
    return {
        "encoder": model.encoder,
        "widths": model.widths if model.encoder == "small" else None,
        "stem": "small" if has_small_stem(model, image_shape) else "large",
        "channels": image_shape[2],
    }


def train_run(run: Run, training: Training, workdir: Path) -> tuple[Encoder, Encoder]:
    """Trains one run in a folder that it has for itself, to its end.

    Returns:
      The encoder, and the one that it started from.

    Raises:
      NonFiniteLossError, InterruptedBySignal, UnusableCheckpointsError: see `train`.
    """
    description = describe(run, training)
    state = start_state(run, training)
    announce(run, training, state, workdir)
    if hosts.is_writer():
        write_description(workdir, description)
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
        )
    except (InterruptedBySignal, NonFiniteLossError):
        hosts.leave()  # these come to all processes alike
        raise
    finally:
        checkpoints.close()
    last = hosts.own_copy(last)
    hosts.leave()
    if ended and hosts.is_writer():
        print(f"trained already, to step {int(last.step):,}", file=sys.stderr)
    return encoder_of(run.settings, description, last), untrained


def evaluate_run(run: Run, encoder: Encoder, untrained: Encoder, workdir: Path) -> str:
    """Evaluates a trained run as its settings say, writes what is found, and returns the table."""
    level = run.settings.evaluation.evaluate
    if level == "none":
        return f"not evaluated; the run is in {workdir}"
    baselines = {untrained_name(run.settings): untrained}
    if run.settings.evaluation.supervised:
        looks.to_terminal("training a supervised encoder")
        baselines["supervised encoder"] = train_supervised(run, untrained)
    found = looks.evaluate_encoder(
        encoder,
        run.dataset,
        baselines=baselines,
        level=level,
        memory_limit_bytes=run.memory_limit_bytes,
        report=looks.to_terminal,
    )
    looks.write_evaluation(found, workdir / "evaluation.json")
    looks.draw_evaluation(
        found, workdir, level=level, seed=run.settings.seed, report=looks.to_terminal
    )
    looks.clear_terminal()
    show_in_tensorboard(run, workdir, encoder.step, found.figures)
    return f"pictures and figures: {workdir}\n{found}"
