"""Batches: every image once per epoch, exact resumption, placement, damaged images."""

import json
import threading
import time

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alphacl_jax.data import batches, sources
from alphacl_jax.data.images import UnreadableImage

IMAGES, BATCH = 37, 8
STEPS = IMAGES // BATCH


def _mesh(devices: int) -> Mesh:
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


class Numbered:
    """Image i is filled with i and has label 100 + i."""

    image_shape = (2, 2, 3)
    names = None

    def __init__(self, damaged: tuple[int, ...] = ()) -> None:
        self.damaged = damaged

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index):
        if index in self.damaged:
            raise UnreadableImage(f"image {index} (broken)")
        return {"image": np.full((2, 2, 3), index, np.uint8), "label": 100 + index}


def one_device() -> Mesh:
    return _mesh(1)


def _open(kind: str, *, devices: int = 1, seed: int = 0, batch: int = BATCH) -> batches.Batches:
    split = sources.Split(Numbered(), labelled=True)
    limit = IMAGES * 12 - (kind == "streamed")
    return batches.open_batches(split, batch, _mesh(devices), seed, limit)


def order_of(iterator: batches.Batches, steps: int) -> list[list[int]]:
    return [(np.asarray(next(iterator)["labels"]) - 100).tolist() for _ in range(steps)]


both = pytest.mark.parametrize("kind", ["resident", "streamed"])


@both
def test_the_memory_limit_chooses(kind):
    assert _open(kind).get_state()["kind"] == kind


@both
@pytest.mark.parametrize("devices", [1, 8])
def test_a_batch_holds_matching_images_and_labels_sharded_over_data(kind, devices):
    batch = next(_open(kind, devices=devices))
    sharding = NamedSharding(_mesh(devices), PartitionSpec("data"))
    for array in batch.values():
        assert isinstance(array, jax.Array)
        assert array.sharding.is_equivalent_to(sharding, array.ndim)
    assert batch["images"].shape == (BATCH, 2, 2, 3)
    assert batch["images"].dtype == np.uint8
    assert batch["labels"].dtype == np.int32
    np.testing.assert_array_equal(batch["images"][:, 1, 0, 2] + 100, batch["labels"])


@both
def test_an_epoch_visits_no_image_twice_and_epochs_differ(kind):
    iterator = _open(kind)
    assert iterator.steps_per_epoch == STEPS
    epochs = [[i for batch in order_of(iterator, STEPS) for i in batch] for _ in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == STEPS * BATCH
        assert epoch != sorted(epoch)
    assert epochs[0] != epochs[1] != epochs[2]
    # the images left over are not the same in each epoch
    assert len({frozenset(epoch) for epoch in epochs}) == 3


@both
def test_the_seed_and_nothing_else_decides_the_order(kind):
    first = order_of(_open(kind), 6)
    assert order_of(_open(kind, devices=8), 6) == first
    assert order_of(_open(kind, seed=1), 6) != first


@both
@pytest.mark.parametrize("taken", [0, 3, STEPS, 2 * STEPS + 1])
def test_the_state_resumes_exactly(kind, taken):
    iterator = _open(kind)
    order_of(iterator, taken)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = order_of(iterator, STEPS + 2)
    resumed = _open(kind)
    order_of(resumed, 2)  # a position of its own, to be forgotten
    resumed.set_state(state)
    assert order_of(resumed, STEPS + 2) == expected
    iterator.set_state(state)  # and back, in the same iterator
    assert order_of(iterator, STEPS + 2) == expected


@both
def test_shapes_are_those_of_a_batch_and_are_known_without_the_data(kind):
    iterator = _open(kind, devices=8)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), next(iterator))
    assert iterator.shapes == shapes
    assert batches.raw_shapes((2, 2, 3), BATCH) == shapes
    assert iterator.with_seed(1).shapes == shapes


@both
def test_a_state_of_other_batches_is_refused(kind):
    state = _open(kind).get_state()
    with pytest.raises(ValueError, match="other batches: seed is 0 there and 1 here; b"):
        _open(kind, seed=1, batch=4).set_state(state)


@both
def test_fewer_images_than_a_batch(kind):
    with pytest.raises(ValueError, match="37 images are fewer than one batch of 40"):
        _open(kind, batch=40)


@both
def test_a_batch_that_the_devices_do_not_divide(kind):
    with pytest.raises(ValueError, match=r"batch of 12 .* over 8 devices. .* such as 16"):
        _open(kind, devices=8, batch=12)


@both
def test_an_empty_batch(kind):
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        _open(kind, batch=0)


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_threads_read_as_are_asked_for_and_the_order_is_the_same(threads):
    reading, most, lock = 0, 0, threading.Lock()

    class Watched(Numbered):
        def __getitem__(self, index):
            nonlocal reading, most
            with lock:
                reading += 1
                most = max(most, reading)
            time.sleep(0.005)  # long enough for all threads to be in it
            with lock:
                reading -= 1
            return super().__getitem__(index)

    stream = batches.streamed_batches(Watched(), BATCH, _mesh(1), seed=0, threads=threads)
    assert order_of(stream, 2 * STEPS) == order_of(_open("streamed"), 2 * STEPS)
    assert most == threads


def test_streaming_past_damaged_images_names_each_once_and_stays_exact(caplog):
    source = Numbered(damaged=(3, 4, 20))
    iterator = batches.streamed_batches(source, BATCH, _mesh(1), seed=0)
    order = order_of(iterator, 3 * STEPS)
    whole = order_of(batches.streamed_batches(Numbered(), BATCH, _mesh(1), seed=0), 3 * STEPS)
    stand_in = {3: 5, 4: 5, 20: 21}
    assert order == [[stand_in.get(i, i) for i in batch] for batch in whole]
    named = sorted(record.getMessage().split(": ")[1] for record in caplog.records)
    assert named == ["image 20 (broken)", "image 3 (broken)", "image 4 (broken)"]


def test_streaming_ends_when_too_few_images_can_be_read():
    source = Numbered(damaged=tuple(range(IMAGES)))
    iterator = batches.streamed_batches(source, BATCH, _mesh(1), seed=0)
    with pytest.raises(ValueError, match="of 37 images cannot be read, which leaves fewer than"):
        next(iterator)


def test_resident_damage_leaves_too_few(caplog):
    split = sources.Split(Numbered(damaged=tuple(range(4, IMAGES))), labelled=True)
    with pytest.raises(ValueError, match="4 images are fewer than one batch of 8"):
        batches.open_batches(split, BATCH, _mesh(1), 0, 10**6)
    assert "33 of 37 images cannot be read" in caplog.text
