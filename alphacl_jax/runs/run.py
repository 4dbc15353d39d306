"""A run on images: from settings to data, augmentation and method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from alphacl_jax.data import policies, sources
from alphacl_jax.data.batches import ImageBatches, Shapes, open_batches, raw_shapes
from alphacl_jax.data.contents import sample_of
from alphacl_jax.data.decoding import PixelRange
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.data.reading import fingerprint_of
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.method import Method
from alphacl_jax.runs.any_run import AnyRun, Training, prepare_training
from alphacl_jax.runs.chunk_size import with_chosen_chunk
from alphacl_jax.runs.description import Description, is_described, read_description
from alphacl_jax.runs.encoder import Encoder, encoder_of
from alphacl_jax.runs.folder import of_seeds
from alphacl_jax.runs.methods import (
    check_batch_size,
    check_devices,
    make_batch_of,
    make_method,
    parts_of,
    require_labels_of,
)
from alphacl_jax.runs.probes import probe_hooks
from alphacl_jax.runs.settings import RunSettings
from alphacl_jax.runs.start import encoder_to_start_from, with_encoder
from alphacl_jax.training.loop import Hook
from alphacl_jax.training.optim import Part
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import MakeBatch


@dataclass(frozen=True)
class Run(AnyRun):
    """What the settings of a run on images stand for.

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

    def as_begun(self, training: Training, workdir: Path) -> tuple["Run", Training]:
        """The same with what the run in the folder, where there is one, measured when it began.

        Colours that are measured today may differ in their last digits; these and the range of the
        pixels may differ more where the images changed.
        """
        begun = next((folder for folder in of_seeds(workdir) if is_described(folder)), None)
        if begun is None:
            return self, training
        there = read_description(begun)
        if not isinstance(there, Description):
            return self, training  # which the folder refuses
        kept = there.preprocessing
        if kept.image_shape != self.preprocessing.image_shape:
            return self, training  # which the folder refuses
        run = self
        automatic = self.settings.data.pixel_range == "auto"
        if automatic and kept.pixel_range != self.preprocessing.pixel_range:
            run = open_run(self.settings, self.mesh, measured=kept.pixel_range)
            training = prepare_training(run)
        colours = replace(run.preprocessing, mean=kept.mean, std=kept.std)
        if colours == run.preprocessing:
            return run, training
        run = replace(run, preprocessing=colours)
        return run, prepare_training(run, training.batches)

    def with_settings(self, settings: RunSettings) -> "Run":
        return replace(self, settings=settings)

    @property
    def title(self) -> str:
        return self.dataset.title

    @property
    def make_batch(self) -> MakeBatch:
        return make_batch_of(self.settings, self.policy, self.preprocessing)

    def raw_shapes(self, batch_size: int) -> Shapes:
        return raw_shapes(self.dataset.image_shape, batch_size)

    def open_batches(self) -> ImageBatches:
        return open_batches(
            self.dataset.pretrain,
            self.settings.optimizer.batch_size,
            self.mesh,
            self.settings.seed,
            self.memory_limit_bytes,
        )

    @property
    def parts(self) -> Mapping[str, Part]:
        return parts_of(self.settings)

    def describe(self, batches: Any) -> Description:
        data = self.dataset
        return Description(
            Preprocessing.from_dataset(data),
            self.policy,
            data.class_names,
            data.title,
            batches.num_images,
            fingerprint_of(data.pretrain.source),
        )

    def sample(self) -> dict[str, str]:
        return sample_of(self.dataset.pretrain.source)

    def starts_from(self) -> Encoder | None:
        return encoder_to_start_from(self.settings, self.dataset.image_shape)

    def start(self, init: Callable[[int], TrainState]) -> TrainState:
        state, other = init(self.settings.seed), self.starts_from()
        return state if other is None else with_encoder(state, other)

    def encoder(self, description: Description, state: TrainState) -> Encoder:
        return encoder_of(self.settings, description, state)

    def hooks(self, training: Training, untrained: Mapping[str, Encoder]) -> list[Hook]:
        return probe_hooks(self, training, untrained)

    def in_words(self, batches: Any) -> tuple[str, str]:
        height, width, channels = self.dataset.image_shape
        return (
            f"{self.title}: {batches.num_images:,} images of {height}x{width}x{channels}",
            f"{self._chunks()}augmentation: {policies.describe(self.view_policies, channels)}\n",
        )

    def _chunks(self) -> str:
        """The line about the chunks in which a batch is embedded, where it is."""
        own = self.settings.optimizer
        if own.micro_batch is None:
            return ""
        return (
            f"a batch of {own.batch_size:,} images is embedded in chunks of {own.micro_batch:,}\n"
        )

    @property
    def view_policies(self) -> policies.Policies:
        """The augmentation of the views of the images' size."""
        return policies.of_views(self.policy, self.settings.augmentation.second_view_overrides)

    @property
    def memory_limit_bytes(self) -> int:
        return self.settings.data.memory_limit_mb * 2**20


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
