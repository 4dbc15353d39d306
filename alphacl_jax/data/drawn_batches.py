"""Batches that are drawn: each is a function of the seed, its number and arrays on the devices."""

import copy
from collections.abc import Callable
from typing import Any, Self

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alphacl_jax.data.batches import Batch, Shapes, State, batch_sharding, require_same
from alphacl_jax.errors import ArgumentError

# Of a random key and the arrays; the same function at every step.
Draw = Callable[[Array, Any], Batch]

# Keeps these draws apart from those of the trainer, whose keys come from the same seed.
_STREAM = 0x6472


class DrawnBatches:
    """What `draw` makes at each step: batch t of a seed is the same wherever it is made.

    It fulfils `Batches`. The draw is compiled, the arrays are on each device, and a step hands over
    its number alone. Each device draws its part of the batch, so that a draw that chooses rows and
    gathers them moves nothing between devices, and is the same on any number of them; what it
    computes besides, such as normal noise, may differ there in the last bit.
    """

    def __init__(
        self,
        arrays: Any,
        draw: Draw,
        batch_size: int,
        steps_per_epoch: int,
        mesh: Mesh,
        seed: int,
    ) -> None:
        """Moves the arrays to the devices.

        Args:
          arrays: a pytree of what is drawn from, the same in all processes.
          draw: `(key, arrays) -> dict of arrays [batch_size, ...]`.
          batch_size: samples per batch, over all devices; the mesh's `data` axis must divide it.
          steps_per_epoch: how many batches are called an epoch.
          mesh: a mesh with an axis `data`.
          seed: of the draws.

        Raises:
          ArgumentError: where `batch_size` is not divided, an epoch has no step, or the draw makes
            something else than `batch_size` samples.
        """
        sharding = batch_sharding(batch_size, mesh)
        if steps_per_epoch < 1:
            raise ArgumentError("steps_per_epoch", steps_per_epoch, "must be at least 1")
        everywhere = NamedSharding(mesh, PartitionSpec())
        self.steps_per_epoch = steps_per_epoch
        self.shapes: Shapes = jax.eval_shape(draw, jax.random.key(0), arrays)
        for name, of in self.shapes.items():
            if of.shape[:1] != (batch_size,):
                problem = f"makes {name!r} of shape {of.shape}, and a batch has {batch_size} rows"
                raise ArgumentError("draw", getattr(draw, "__name__", repr(draw)), problem)

        def drawn(stream: Array, step: Array, arrays: Any) -> Batch:
            return draw(jax.random.fold_in(jax.random.wrap_key_data(stream), step), arrays)

        self._arrays = jax.tree.map(lambda array: _replicated(array, mesh), arrays)
        self._draw = jax.jit(drawn, in_shardings=everywhere, out_shardings=sharding)
        self._identity = {
            "kind": "drawn",
            "seed": seed,
            "arrays": [list(np.shape(array)) for array in jax.tree.leaves(arrays)],
            "batch": {name: list(of.shape) for name, of in self.shapes.items()},
        }
        self._stream, self._step = _stream(seed), 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        batch: Batch = self._draw(self._stream, np.uint32(self._step), self._arrays)
        self._step += 1
        return batch

    def get_state(self) -> State:
        return {**self._identity, "step": self._step}

    def set_state(self, state: State) -> None:
        require_same(self._identity, state)
        self._step = state["step"]

    def with_seed(self, seed: int) -> Self:
        other = copy.copy(self)
        other._identity = {**self._identity, "seed": seed}
        other._stream, other._step = _stream(seed), 0
        return other

    def damage_since(self, step: int) -> str:
        del step
        return ""


def _stream(seed: int) -> np.ndarray:
    """The data of the key of a seed's draws."""
    return np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key(seed), _STREAM)))


def _replicated(array: Any, mesh: Mesh) -> Array:
    """The array on each device; each process moves its own to its own devices."""
    own = jax.device_put(array, NamedSharding(mesh.local_mesh, PartitionSpec()))
    return jax.make_array_from_single_device_arrays(
        own.shape,
        NamedSharding(mesh, PartitionSpec()),
        [shard.data for shard in own.addressable_shards],
    )
