"""The chunk in which a batch is embedded, chosen by what the activations of one may take."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax

from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.embedding import project_views
from alphacl_jax.methods.method import Batch
from alphacl_jax.methods.network import Network, flat_views
from alphacl_jax.runs.networks import make_encoder, make_projector
from alphacl_jax.runs.settings import DirectCLRSettings, OptimizerSettings, RunSettings
from alphacl_jax.training.step import MakeBatch


def with_chosen_chunk(
    settings: RunSettings,
    make_batch: MakeBatch,
    raw_shapes: Mapping[str, jax.ShapeDtypeStruct],
    devices: int,
) -> RunSettings:
    """The settings with a number, or None for the whole batch, where micro_batch is "auto".

    The number follows from the settings, the images' shape, the number and the kind of the devices
    and the version of JAX.

    Args:
      settings: of the run.
      make_batch, raw_shapes: of the run's images, of any number of them.
      devices: of which each has an equal part of a chunk.

    Raises:
      ArgumentError: where not even an image a device fits.
    """
    own = settings.optimizer
    if own.micro_batch != "auto":
        return settings
    chosen = None
    if own.batch_size % devices == 0:  # otherwise the batch is refused, where it is cut
        shape = raw_shapes["images"].shape[1:]
        network = _embedding_network(settings, (shape[0], shape[1], shape[2]))
        per_image = activation_bytes_per_image(network, make_batch, raw_shapes)
        chosen = _largest(own, per_image, devices)
    if chosen == own.batch_size:
        chosen = None
    own = replace(own, micro_batch=chosen, activations_mb=OptimizerSettings.activations_mb)
    return replace(settings, optimizer=own)


def _embedding_network(settings: RunSettings, image_shape: tuple[int, int, int]) -> Network:
    """What embeds a batch: that of DirectCLR has no projector."""
    modules: dict[str, nn.Module] = {"encoder": make_encoder(settings.model, image_shape)}
    if not isinstance(settings.method, DirectCLRSettings):
        modules["projector"] = make_projector(settings.model)
    return Network(modules)


def _largest(own: OptimizerSettings, per_image: float, devices: int) -> int:
    """The largest chunk within the limit that divides the batch and that the devices can share."""
    limit = own.activations_mb * 2**20
    fitting = [
        size
        for size in range(devices, own.batch_size + 1, devices)
        if own.batch_size % size == 0 and size // devices * per_image <= limit
    ]
    if not fitting:
        needed = math.ceil(per_image / 2**20)
        problem = f"is too little for one image of each device, whose activations take {needed} MB"
        raise ArgumentError("activations_mb", own.activations_mb, problem)
    return fitting[-1]


def activation_bytes_per_image(
    network: Network, make_batch: MakeBatch, raw_shapes: Mapping[str, jax.ShapeDtypeStruct]
) -> float:
    """What a network keeps of one more image for its gradient, in bytes.

    Nothing is computed or compiled. The compiler may keep less, and needs room to work beside it.

    Args:
      network: that embeds its batch at once.
      make_batch: see `Run`.
      raw_shapes: of what it is given, of any number of images.
    """

    def kept(params: Any, stats: Any, batch: Batch) -> Any:
        _, pull, _ = jax.vjp(
            lambda params: project_views(network, params, stats, batch), params, has_aux=True
        )
        return pull

    def bytes_of(size: int) -> int:
        key = jax.eval_shape(lambda: jax.random.key(0))
        raw = {
            name: jax.ShapeDtypeStruct((size, *of.shape[1:]), of.dtype)
            for name, of in raw_shapes.items()
        }
        batch = jax.eval_shape(make_batch, key, raw)
        views = jax.eval_shape(flat_views, batch["views"])
        params, stats = jax.eval_shape(network.init, key, views)
        leaves = jax.tree.leaves(jax.eval_shape(kept, params, stats, batch))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    # What does not grow with the batch, the parameters above all, is in both.
    return bytes_of(2) - bytes_of(1)
