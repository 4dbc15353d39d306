"""From settings to the parts of a run: data, policy, method, step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import jax
import optax
from jax.sharding import Mesh

from alphacl_jax.data import policies, sources
from alphacl_jax.data.batches import ImageBatches, open_batches, raw_shapes
from alphacl_jax.data.decoding import PixelRange
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.method import Method
from alphacl_jax.runs.chunk_size import with_chosen_chunk
from alphacl_jax.runs.methods import (
    check_batch_size,
    check_devices,
    make_batch_of,
    make_method,
    parts_of,
    require_labels_of,
)
from alphacl_jax.runs.settings import OptimizerSettings, RunSettings
from alphacl_jax.training.loop import Schedule, TrainStep
from alphacl_jax.training.optim import Part, make_optimizer, warmup_cosine
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import MakeBatch, make_init, make_train_step


@dataclass(frozen=True)
class Run:
    """What the settings of a run stand for.

    Attributes:
      settings: of the run.
      dataset: opened, not yet decoded.
      policy: the augmentation; of the first view where the second has another.
      preprocessing: what the encoder's inputs are.
      mesh: the devices.
      method: what is trained.
    """

    settings: RunSettings
    dataset: sources.Dataset
    policy: policies.Policy
    preprocessing: Preprocessing
    mesh: Mesh
    method: Method

    @property
    def make_batch(self) -> MakeBatch:
        return make_batch_of(self.settings, self.policy, self.preprocessing)

    @property
    def view_policies(self) -> policies.Policies:
        """The augmentation of the views of the images' size."""
        return policies.of_views(self.policy, self.settings.augmentation.second_view_overrides)

    @property
    def memory_limit_bytes(self) -> int:
        return self.settings.data.memory_limit_mb * 2**20


@dataclass(frozen=True)
class Training:
    """The parts that the loop is given.

    Attributes:
      optimizer: that `init` and `step` are made with.
      init: the state before the first step, by seed.
      step: compiled.
      batches: in the order of the run's seed.
      schedule: when to record, to save and to stop.
      learning_rate: by step.
    """

    optimizer: optax.GradientTransformation
    init: Callable[[int], TrainState]
    step: TrainStep
    batches: ImageBatches
    schedule: Schedule
    learning_rate: optax.Schedule


def open_run(
    settings: RunSettings,
    mesh: Mesh,
    dataset: sources.Dataset | None = None,
    *,
    measured: PixelRange | None = None,
) -> Run:
    """Opens the data and builds the method that the settings describe.

    Args:
      settings: of the run.
      mesh: the devices, with an axis "data".
      dataset: the data, where it is not the one that the settings name.
      measured: what stands for pixel_range=auto, where the run began with a range already.

    Raises:
      ValueError, FileNotFoundError: where settings or data cannot be used; the message says why.
    """
    data = settings.data
    check_batch_size(settings)
    check_devices(settings, mesh)
    if dataset is None:
        make_method(settings, (1, 1, 1), mesh)  # impossible settings, before data is looked for
        decoding = data.decoding
        if decoding.pixel_range == "auto":
            decoding = replace(decoding, pixel_range=measured or "auto")
        dataset = sources.load(data.dataset, data.data_dir, data.image_size, decoding=decoding)
    require_labels_of(settings, dataset)
    if settings.evaluation.supervised:
        if settings.evaluation.evaluate == "none":
            raise ArgumentError(
                "supervised", True, "is set, and evaluate=none makes no table for it"
            )
        require_labels(dataset)
    preprocessing = Preprocessing.from_dataset(dataset)
    policy = policies.policy_for(
        dataset.name,
        dataset.image_shape,
        settings.augmentation.augmentation,
        settings.augmentation.augmentation_overrides,
    )
    policies.of_views(policy, settings.augmentation.second_view_overrides)  # refuses wrong ones
    steps_per_epoch = len(dataset.pretrain.source) // settings.optimizer.batch_size
    steps = max(1, settings.optimizer.epochs * steps_per_epoch)
    make_batch = make_batch_of(settings, policy, preprocessing)
    settings = with_chosen_chunk(
        settings, make_batch, raw_shapes(dataset.image_shape, 1), mesh.size
    )
    method = make_method(settings, dataset.image_shape, mesh, steps)
    return Run(settings, dataset, policy, preprocessing, mesh, method)


def require_labels(dataset: sources.Dataset) -> None:
    """Refuses a supervised encoder where it could not be trained, or not be tested.

    Raises:
      ArgumentError: where labelled training or test images are missing.
    """
    missing = [
        what
        for what, part in (("labels", dataset.train), ("labelled test images", dataset.test))
        if part is None
    ]
    if missing:
        raise ArgumentError(
            "supervised",
            True,
            f"cannot be done: a supervised encoder needs labelled training and test images, and "
            f"{dataset.title} has no {' and no '.join(missing)}",
        )


def prepare_training(run: Run, batches: ImageBatches | None = None) -> Training:
    """The parts that train a run.

    Args:
      run: of the settings and the data.
      batches: of the data, where they are open already.

    Raises:
      ValueError: where the settings do not fit each other or the data.
    """
    own, looks = run.settings.optimizer, run.settings.evaluation
    if batches is None:
        batches = open_batches(
            run.dataset.pretrain,
            own.batch_size,
            run.mesh,
            run.settings.seed,
            run.memory_limit_bytes,
        )
    optimizer, learning_rate = optimizer_of(own, batches.steps_per_epoch, parts_of(run.settings))
    minutes = looks.save_minutes
    return Training(
        optimizer=optimizer,
        init=init_of(run, optimizer),
        step=make_train_step(run.method, optimizer, run.make_batch, learning_rate, run.mesh),
        batches=batches,
        schedule=Schedule(
            own.epochs * batches.steps_per_epoch,
            looks.log_every,
            looks.save_every,
            None if minutes is None else 60 * minutes,
        ),
        learning_rate=learning_rate,
    )


def init_of(run: Run, optimizer: optax.GradientTransformation) -> Callable[[int], TrainState]:
    """What makes the state before the first step, by seed."""
    # Shapes and random draws are all that initialising reads of a batch: two samples will do.
    shapes = raw_shapes(run.dataset.image_shape, 2)
    return make_init(run.method, optimizer, run.make_batch, shapes, run.mesh)


def optimizer_of(
    settings: OptimizerSettings, steps_per_epoch: int, parts: Mapping[str, Part] | None = None
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimiser, and its learning rate by step; `parts` as in `make_optimizer`."""
    total = settings.epochs * steps_per_epoch
    warmup_epochs = settings.warmup_epochs
    if warmup_epochs is None and settings.epochs >= 10:
        warmup_epochs = min(5, settings.epochs // 10)
    warmup_steps = total // 10 if warmup_epochs is None else warmup_epochs * steps_per_epoch
    learning_rate = warmup_cosine(settings.learning_rate, total, warmup_steps)
    optimizer = make_optimizer(
        settings.optimizer,
        learning_rate,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        clip_norm=settings.clip_norm,
        parts=parts,
    )
    return optimizer, learning_rate


def count_parameters(state: TrainState) -> int:
    """How many numbers are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))
