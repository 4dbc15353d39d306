"""The methods that a run can train, each with what makes it from its settings."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import Array
from jax.sharding import Mesh

from alphacl_jax.data.policies import Policy, of_views
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.data.sources import Dataset
from alphacl_jax.data.views import make_views
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.contrastive import contrastive_method
from alphacl_jax.methods.method import Batch, Method
from alphacl_jax.methods.queue import queue_method
from alphacl_jax.methods.siamese import SetPredictor, siamese_method
from alphacl_jax.methods.supervised import supervised_method
from alphacl_jax.methods.target import Momentum, constant_momentum, cosine_momentum
from alphacl_jax.models.heads import Subvector
from alphacl_jax.runs.fields import require_default
from alphacl_jax.runs.flag_file import as_mapping, method_name
from alphacl_jax.runs.method_settings import AverageSettings
from alphacl_jax.runs.networks import make_encoder, make_predictor, make_projector
from alphacl_jax.runs.objectives import make_label_loss, make_objective
from alphacl_jax.runs.settings import (
    ContrastiveSettings,
    DirectCLRSettings,
    QueueSettings,
    RunSettings,
    SiameseSettings,
    SupervisedSettings,
)
from alphacl_jax.training.optim import Part
from alphacl_jax.training.step import MakeBatch

Shape = tuple[int, int, int]


class Maker(NamedTuple):
    """How a method is made.

    Attributes:
      method: from the run's settings, the images' shape, the devices, and the run's steps.
      make_batch: what makes the batch that the method reads of raw images.
      views: how many views of an image the method reads; None for any number, of two sizes.
      labels: the name of the setting by which it cannot do without labels; "" where it can.
      unread: settings of the network that the method does not read; one that is set is an error.
    """

    method: Callable[[RunSettings, Shape, Mesh, int], Method]
    make_batch: Callable[[RunSettings, Policy, Preprocessing], MakeBatch]
    views: int | None = 2
    labels: Callable[[Any], str] = lambda own: ""
    unread: tuple[str, ...] = ()


def _contrastive(settings: RunSettings, shape: Shape, mesh: Mesh, steps: int) -> Method:
    del steps
    own = settings.method
    assert isinstance(own, ContrastiveSettings | DirectCLRSettings)
    return contrastive_method(
        make_encoder(settings.model, shape),
        Subvector(own.subvector)
        if isinstance(own, DirectCLRSettings)
        else make_projector(settings.model),
        make_objective(own),
        mesh,
        negatives=own.negatives,
        labelled=own.labelled,
        stop_gradient=own.stop_gradient,
        block_size=own.block_size,
        micro_batch=_micro_batch_of(settings),
    )


def _supervised(settings: RunSettings, shape: Shape, mesh: Mesh, steps: int) -> Method:
    del steps
    own = settings.method
    assert isinstance(own, SupervisedSettings)
    return supervised_method(
        make_encoder(settings.model, shape),
        make_projector(settings.model),
        make_label_loss(own),
        mesh,
        micro_batch=_micro_batch_of(settings),
    )


def _queue(settings: RunSettings, shape: Shape, mesh: Mesh, steps: int) -> Method:
    own = settings.method
    assert isinstance(own, QueueSettings)
    return queue_method(
        make_encoder(settings.model, shape),
        make_projector(settings.model),
        make_objective(own),
        mesh,
        size=own.queue_size,
        momentum=_momentum(own, steps),
        stop_gradient=own.stop_gradient,
        block_size=own.block_size,
        micro_batch=_micro_batch_of(settings),
    )


def _siamese(settings: RunSettings, shape: Shape, mesh: Mesh, steps: int) -> Method:
    del mesh  # its loss compares no samples
    own = settings.method
    assert isinstance(own, SiameseSettings)
    predictor: Any = None
    if own.predictor in ("mlp", "linear"):
        predictor = make_predictor(settings.model, own)
    elif own.predictor != "none":
        predictor = SetPredictor(own.predictor, own.predictor_eps, own.predictor_every)
    return siamese_method(
        make_encoder(settings.model, shape),
        make_projector(settings.model),
        predictor,
        target=own.target,
        momentum=_momentum(own, steps) if own.target == "ema" else None,
        correlation_decay=own.correlation_decay,
        micro_batch=_micro_batch_of(settings),
    )


def _micro_batch_of(settings: RunSettings) -> int | None:
    """The chunk where there is one; before it is chosen, the method of the whole batch."""
    chosen = settings.optimizer.micro_batch
    return chosen if isinstance(chosen, int) else None


def _momentum(settings: AverageSettings, total_steps: int) -> Momentum:
    if settings.ema_schedule == "constant":
        return constant_momentum(settings.ema_momentum)
    return cosine_momentum(settings.ema_momentum, total_steps)


def _views(settings: RunSettings, policy: Policy, preprocessing: Preprocessing) -> MakeBatch:
    """Augmented views of each image, of two sizes where the settings say so, and the labels."""
    own = settings.augmentation
    colours = preprocessing.mean, preprocessing.std
    low, high = own.small_scale
    large = of_views(policy, own.second_view_overrides)
    # Of small crops every image gets one.
    small = dataclasses.replace(policy, crop_prob=1.0, crop_scale=(low, high))

    def make_batch(key: Array, raw: Batch) -> Batch:
        images, small_key = raw["images"], key
        if own.small_views:
            key, small_key = jax.random.split(key)
        views = make_views(key, images, large, *colours, views=own.large_views)
        batch = {"views": views, "labels": raw["labels"]}
        if own.small_views:
            sides = own.small_side or -(-min(images.shape[1:3]) // 2)
            batch["small_views"] = make_views(
                small_key,
                images,
                small,
                *colours,
                views=own.small_views,
                size=(sides, sides),
            )
        return batch

    return make_batch


def _if_labelled(own: Any) -> str:
    return "labelled" if own.labelled else ""


_OF_PROJECTOR = (
    "projector_hidden", "projector_depth", "projector_dim", "projector_norm",
    "projector_output_norm",
)  # fmt: skip
MAKERS: dict[str, Maker] = {
    "contrastive": Maker(_contrastive, _views, labels=_if_labelled),
    "supervised": Maker(_supervised, _views, views=None, labels=lambda own: "method"),
    "directclr": Maker(
        _contrastive,
        _views,
        labels=_if_labelled,
        unread=_OF_PROJECTOR,
    ),
    "queue": Maker(_queue, _views),
    "siamese": Maker(_siamese, _views, views=None),
}


def make_method(
    settings: RunSettings, image_shape: Shape, mesh: Mesh, total_steps: int = 1
) -> Method:
    """The method of a run.

    Args:
      settings: of the run.
      image_shape: (height, width, channels).
      mesh: the devices.
      total_steps: of the run; what only evaluates the method need not know them.

    Raises:
      ArgumentError: where its settings do not fit each other, or one is set that it does not read.
    """
    name = method_name(settings)
    maker = MAKERS[name]
    for unread in maker.unread:
        require_default(settings.model, unread, f"other methods than {name}")
    views = settings.augmentation.views
    if maker.views is not None and views != str(maker.views):
        problem = f"views are made of each image, and the method {name} reads {maker.views}"
        raise ArgumentError("views", views, problem)
    return maker.method(settings, image_shape, mesh, total_steps)


def check_batch_size(settings: RunSettings) -> None:
    """Refuses a batch that the method cannot be trained with.

    Raises:
      ArgumentError: for a queue that batches do not fill evenly.
    """
    own, keys = settings.method, 2 * settings.optimizer.batch_size
    if isinstance(own, QueueSettings) and own.queue_size % keys:
        problem = f"must be a multiple of {keys}, the keys of one batch of {keys // 2}"
        raise ArgumentError("queue_size", own.queue_size, problem)


def check_devices(settings: RunSettings, mesh: Mesh) -> None:
    """Refuses a part of a batch that the devices cannot share evenly.

    Raises:
      ArgumentError: with the numbers.
    """
    micro_batch = _micro_batch_of(settings)
    if micro_batch is not None and micro_batch % mesh.size:
        problem = f"must be a multiple of {mesh.size}, the number of devices"
        raise ArgumentError("micro_batch", micro_batch, problem)


def require_labels_of(settings: RunSettings, dataset: Dataset) -> None:
    """Refuses data without labels where the method reads them.

    Raises:
      ArgumentError: naming the setting that asks for labels.
    """
    setting = MAKERS[method_name(settings)].labels(settings.method)
    if setting and dataset.train is None:
        problem = f"reads labels, and the training images of {dataset.title} have none"
        raise ArgumentError(setting, as_mapping(settings)[setting], problem)


def make_batch_of(settings: RunSettings, policy: Policy, preprocessing: Preprocessing) -> MakeBatch:
    """What makes the batch that a run's method reads of raw images.

    Args:
      settings: of the run.
      policy: the augmentation, of the first view where the settings change that of the second.
      preprocessing: of the encoder's inputs.
    """
    return MAKERS[method_name(settings)].make_batch(settings, policy, preprocessing)


def parts_of(settings: RunSettings) -> dict[str, Part]:
    """What the optimiser is to do otherwise in parts of the method's parameters."""
    own = settings.method
    if not isinstance(own, SiameseSettings) or own.predictor not in ("mlp", "linear"):
        return {}
    schedule = None
    if own.predictor_constant_rate:
        schedule = optax.constant_schedule(settings.optimizer.learning_rate)
    part = Part(own.predictor_rate, schedule, own.predictor_weight_decay)
    return {} if part == Part() else {"predictor": part}
