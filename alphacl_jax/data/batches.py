"""Batches for the trainer: of images held on the devices, or streamed from where they lie.

All iterators, those of `drawn_batches` too, share one small surface (`Batches`). Their order is a
function of the seed alone, each epoch has its own, and their state, which fits into JSON, restores
the position exactly.
"""

import copy
import os
from collections.abc import Iterator
from typing import Any, Protocol, Self

import grain
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alphacl_jax.data.damage import Damage
from alphacl_jax.data.images import UnreadableImage
from alphacl_jax.data.outages import Patience
from alphacl_jax.data.reading import Source, Split, fits_in_memory, to_arrays
from alphacl_jax.errors import ArgumentError, differences

Batch = dict[str, jax.Array]
Shapes = dict[str, jax.ShapeDtypeStruct]
State = dict[str, Any]


class OtherBatchesError(ValueError):
    """A position is one in other data, or in another order of them."""


class Batches(Protocol):
    """An endless iterator over dicts of arrays `[batch, ...]`, as the trainer reads it.

    The arrays are sharded over the mesh's `data` axis. An epoch has `steps_per_epoch` batches.

    Where the mesh spans several processes, each of them makes its own part of every batch. The
    batches, and the states, are those of one process with the same number of samples per batch.
    """

    steps_per_epoch: int

    @property
    def shapes(self) -> Shapes:
        """Shapes and types of a batch, for `jax.eval_shape`."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def get_state(self) -> State: ...

    def set_state(self, state: State) -> None: ...

    def with_seed(self, seed: int) -> Self:
        """Batches of the same data in another order, from the start; the data is held once."""

    def damage_since(self, step: int) -> str:
        """What of the data was found to be damaged, in a sentence, once there is more of it.

        Args:
          step: of the record that it is told with.

        Returns:
          "" where there is no more than when it was asked last.
        """


class ImageBatches(Batches, Protocol):
    """Batches {"images": uint8 [batch, h, w, c], "labels": int32 [batch]}, see `raw_shapes`.

    A label is -1 where there is none. An epoch has each image once; those left over, fewer than a
    batch, wait for another epoch.
    """

    num_images: int  # that are iterated over: without the damaged ones where all were decoded


def raw_shapes(image_shape: tuple[int, int, int], batch_size: int) -> Shapes:
    """Shapes and types of a batch, for `jax.eval_shape`, of images that need not be opened.

    Args:
      image_shape: (height, width, channels).
      batch_size: images per batch, over all devices.
    """
    return {
        "images": jax.ShapeDtypeStruct((batch_size, *image_shape), np.uint8),
        "labels": jax.ShapeDtypeStruct((batch_size,), np.int32),
    }


def open_batches(
    split: Split, batch_size: int, mesh: Mesh, seed: int, memory_limit_bytes: int
) -> ImageBatches:
    """`resident_batches` where the images fit `memory_limit_bytes`, else `streamed_batches`.

    Args:
      split: what to iterate over.
      batch_size: images per batch, over all devices; the mesh's `data` axis must divide it.
      mesh: a mesh with an axis `data`.
      seed: of the order.
      memory_limit_bytes: what the images may take, as uint8, on each device.

    Raises:
      ArgumentError: where `batch_size` is not divided, or there are fewer images than one batch.
    """
    if fits_in_memory(split, memory_limit_bytes):
        images, labels = to_arrays(split, memory_limit_bytes)
        return resident_batches(images, labels, batch_size, mesh, seed)
    return streamed_batches(split.source, batch_size, mesh, seed)


def resident_batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int, mesh: Mesh, seed: int
) -> ImageBatches:
    """Batches of images that every device holds whole; a step moves only indices to the devices.

    Each process holds them on its own devices, and gathers its own part of a batch there.

    Args:
      images: uint8 [n, h, w, c].
      labels: int32 [n].
      batch_size, mesh, seed: see `open_batches`.

    Raises:
      ArgumentError: see `open_batches`.
    """
    return _Resident(images, labels, batch_size, mesh, seed)


def streamed_batches(
    source: Source, batch_size: int, mesh: Mesh, seed: int, threads: int | None = None
) -> ImageBatches:
    """Batches read and decoded by threads while the devices work.

    A damaged image is named once in the log; the next readable one in the source stands in for it.
    Reading what is away for a while is tried again, see `outages`.

    Args:
      source: what to read.
      batch_size, mesh, seed: see `open_batches`.
      threads: that read; None: one for each core, at most 16.

    Raises:
      ArgumentError: see `open_batches`; from `next` a ValueError, once the readable images are
        fewer than a batch, and a DataAwayError, once the data is away for too long.
    """
    threads = min(os.cpu_count() or 1, 16) if threads is None else threads
    return _Streamed(source, batch_size, mesh, seed, threads)


def batch_sharding(batch_size: int, mesh: Mesh) -> NamedSharding:
    """How a batch lies on the devices, after checking that they can divide it.

    Raises:
      ArgumentError: where they cannot, or the batch is empty.
    """
    devices = mesh.shape["data"]
    if batch_size < 1:
        raise ArgumentError("batch_size", batch_size, "must be at least 1")
    if batch_size % devices:
        raise ArgumentError(
            "batch_size",
            batch_size,
            f"does not fit: a batch of {batch_size} cannot be split evenly over {devices} devices. "
            f"Use a multiple of {devices}, such as {-(-batch_size // devices) * devices}",
        )
    return NamedSharding(mesh, PartitionSpec("data"))


def _check(images: int, batch_size: int, mesh: Mesh) -> NamedSharding:
    """The sharding of a batch, after checking that there can be one."""
    sharding = batch_sharding(batch_size, mesh)
    if images < batch_size:
        raise ArgumentError(
            "batch_size",
            batch_size,
            f"is too large: {images} images are fewer than one batch of {batch_size}. "
            "Use a smaller batch, or more images",
        )
    return sharding


def _own_rows(sharding: NamedSharding, batch_size: int) -> slice:
    """The part of a batch that this process's devices hold: they lie side by side in the mesh."""
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    rows = [part[0].indices(batch_size) for part in parts if part is not None]
    return slice(min(row[0] for row in rows), max(row[1] for row in rows))


def require_same(expected: State, state: State) -> None:
    """A position means something only in the same order of the same data."""
    differing = {
        key: (state.get(key), value) for key, value in expected.items() if state.get(key) != value
    }
    if differing:
        raise OtherBatchesError(
            f"this data position belongs to other batches: {differences(differing)}"
        )


class _Resident:
    def __init__(
        self, images: np.ndarray, labels: np.ndarray, batch_size: int, mesh: Mesh, seed: int
    ) -> None:
        self._sharding = _check(len(images), batch_size, mesh)
        self._rows = _own_rows(self._sharding, batch_size)
        own = mesh.local_mesh
        self._own_sharding = NamedSharding(own, PartitionSpec("data"))
        self._data = jax.device_put((images, labels), NamedSharding(own, PartitionSpec()))
        self._identity = {
            "kind": "resident",
            "seed": seed,
            "images": len(images),
            "batch_size": batch_size,
        }
        self._seed, self._batch_size, self._step = seed, batch_size, 0
        self.num_images = len(images)
        self._epoch, self._order = -1, np.empty(0, np.int32)
        self.steps_per_epoch = len(images) // batch_size
        self.shapes = raw_shapes(images.shape[1:], batch_size)

        def gather(data: tuple[jax.Array, jax.Array], indices: jax.Array) -> Batch:
            return {"images": data[0][indices], "labels": data[1][indices]}

        self._gather = jax.jit(gather, out_shardings=self._own_sharding)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        epoch, step = divmod(self._step, self.steps_per_epoch)
        if epoch != self._epoch:
            shuffle = np.random.default_rng((self._seed, epoch))
            self._order = shuffle.permutation(self.num_images).astype(np.int32)
            self._epoch = epoch
        indices = self._order[step * self._batch_size : (step + 1) * self._batch_size][self._rows]
        self._step += 1
        own = self._gather(self._data, jax.device_put(indices, self._own_sharding))
        return {name: self._whole(array) for name, array in own.items()}

    def _whole(self, own: jax.Array) -> jax.Array:
        """The batch of all processes, of which `own` is this one's part."""
        return jax.make_array_from_single_device_arrays(
            (self._batch_size, *own.shape[1:]),
            self._sharding,
            [shard.data for shard in own.addressable_shards],
        )

    def get_state(self) -> State:
        return {**self._identity, "step": self._step}

    def set_state(self, state: State) -> None:
        require_same(self._identity, state)
        self._step = state["step"]

    def with_seed(self, seed: int) -> Self:
        other = copy.copy(self)
        other._identity = {**self._identity, "seed": seed}
        other._seed, other._step, other._epoch = seed, 0, -1
        return other

    def damage_since(self, step: int) -> str:
        del step
        return ""  # what was damaged was left out when all were decoded, and told then


class _Streamed:
    def __init__(
        self, source: Source, batch_size: int, mesh: Mesh, seed: int, threads: int
    ) -> None:
        self._source, self._mesh = source, mesh
        self._sharding = _check(len(source), batch_size, mesh)
        self._identity = {
            "kind": "streamed",
            "seed": seed,
            "images": len(source),
            "batch_size": batch_size,
        }
        self.num_images = len(source)
        self.steps_per_epoch = len(source) // batch_size
        self.shapes = raw_shapes(source.image_shape, batch_size)
        self._damage, self._patience = Damage(len(source)), Patience()
        self._batch_size, self._threads = batch_size, threads

        # Cut to whole batches before repeating, so that none straddles two epochs; each thread
        # reads a whole batch, since handing over single images costs more than decoding small ones.
        # Each process decodes its own rows of every batch, and counts batches as the others do.
        rows = _own_rows(self._sharding, batch_size)
        dataset = (
            grain.MapDataset.range(len(source))
            .seed(seed)
            .shuffle()
            .slice(slice(0, self.steps_per_epoch * batch_size))
            .repeat()
            .batch(batch_size, drop_remainder=True)
            .map(lambda indices: self._read_all(source, indices[rows]))
            .to_iter_dataset(
                grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2)
            )
        )
        self._reader = iter(dataset)

    def _read_all(self, source: Source, indices: np.ndarray) -> dict[str, np.ndarray]:
        examples = [self._read(source, int(index)) for index in indices]
        return {name: np.stack([example[name] for example in examples]) for name in examples[0]}

    def _read(self, source: Source, index: int) -> dict[str, Any]:
        """The image at `index`, or in place of a damaged one the next that can be read.

        So every batch is full, and which images are in it depends on nothing but its number.
        """
        while True:
            if index not in self._damage:
                try:
                    example = self._patience.read(source.__getitem__, index)
                    return {"images": example["image"], "labels": np.int32(example["label"])}
                except UnreadableImage as error:
                    left = self._damage.add(index, str(error))
                    if left < self._batch_size:
                        raise ValueError(
                            f"{len(source) - left} of {len(source)} images cannot be read, which "
                            f"leaves fewer than one batch of {self._batch_size}; the last: {error}"
                        ) from error
            index = (index + 1) % len(source)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        batch = next(self._reader)
        return {
            name: jax.make_array_from_process_local_data(
                self._sharding, array, (self._batch_size, *array.shape[1:])
            )
            for name, array in batch.items()
        }

    def get_state(self) -> State:
        return {**self._identity, "reader": self._reader.get_state()}

    def set_state(self, state: State) -> None:
        require_same(self._identity, state)
        self._reader.set_state(state["reader"])

    def with_seed(self, seed: int) -> Self:
        return type(self)(self._source, self._batch_size, self._mesh, seed, self._threads)

    def damage_since(self, step: int) -> str:
        return self._damage.news(step)
