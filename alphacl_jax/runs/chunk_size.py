"""The chunk in which a batch is embedded, chosen by what the activations of one may take."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh

from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.method import Method
from alphacl_jax.runs.settings import OptimizerSettings, RunSettings
from alphacl_jax.training.step import MakeBatch


def with_chosen_chunk(
    settings: RunSettings,
    method: Method,
    make_batch: MakeBatch,
    raw_shapes: Mapping[str, jax.ShapeDtypeStruct],
    mesh: Mesh,
) -> RunSettings:
    """The settings with a number, or None for the whole batch, where micro_batch is "auto".

    The number follows from the settings, the images' shape and the number of devices alone, so
    that a run that goes on takes the same: BatchNorm sees it.

    Args:
      settings: of the run.
      method: of these settings, which embeds the whole batch at once.
      make_batch, raw_shapes: see `init_of`.
      mesh: the devices.

    Raises:
      ArgumentError: where not even an image a device fits.
    """
    own = settings.optimizer
    if own.micro_batch != "auto":
        return settings
    per_image = activation_bytes_per_image(method, make_batch, raw_shapes, mesh.size)
    limit = own.activations_mb * 2**20
    fitting = [
        size
        for size in range(mesh.size, own.batch_size + 1, mesh.size)
        if own.batch_size % size == 0 and size // mesh.size * per_image <= limit
    ]
    if not fitting:
        problem = f"is too little: one image of each device takes {per_image / 2**20:.1f} MB"
        raise ArgumentError("activations_mb", own.activations_mb, problem)
    chosen = None if fitting[-1] == own.batch_size else fitting[-1]
    optimizer = replace(own, micro_batch=chosen, activations_mb=OptimizerSettings.activations_mb)
    return replace(settings, optimizer=optimizer)


def activation_bytes_per_image(
    method: Method,
    make_batch: MakeBatch,
    raw_shapes: Mapping[str, jax.ShapeDtypeStruct],
    devices: int,
) -> float:
    """What the forward pass keeps for the gradient of one more image, in bytes.

    Nothing is computed or compiled. The compiler may keep less, and needs room to work beside it.

    Args:
      method, make_batch, raw_shapes: as in `with_chosen_chunk`.
      devices: which the method spreads a batch over.
    """

    def kept(params: Any, state: Any, batch: Any, key: Array) -> Any:
        _, pull, _ = jax.vjp(
            lambda params: method.loss(params, state, batch, key), params, has_aux=True
        )
        return pull

    def bytes_of(size: int) -> int:
        key = jax.eval_shape(lambda: jax.random.key(0))
        raw = {
            name: jax.ShapeDtypeStruct((size, *of.shape[1:]), of.dtype)
            for name, of in raw_shapes.items()
        }
        batch = jax.eval_shape(make_batch, key, raw)
        batch = {**batch, "recorded": jax.ShapeDtypeStruct((), bool)}
        params, state = jax.eval_shape(method.init, key, batch)
        leaves = jax.tree.leaves(jax.eval_shape(kept, params, state, batch, key))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    # What does not grow with the batch, the parameters above all, is in both.
    one, more = 2 * devices, 4 * devices
    return (bytes_of(more) - bytes_of(one)) / (more - one)
