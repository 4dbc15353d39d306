"""Drawn batches: a function of seed and step alone, on any number of devices; exact positions."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from alphacl_jax.data.batches import OtherBatchesError
from alphacl_jax.data.drawn_batches import DrawnBatches
from alphacl_jax.errors import ArgumentError

BATCH = 8
ARRAYS = {"rows": np.arange(37, dtype=np.float32), "labels": np.arange(37, dtype=np.int32)}


def _mesh(devices):
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def _draw(key, arrays):
    chosen = jax.random.randint(key, (BATCH,), 0, len(arrays["rows"]))
    noise = jax.random.bits(jax.random.fold_in(key, 1), (BATCH, 3))
    rows = arrays["rows"][chosen]
    return {"rows": rows, "noise": noise, "labels": arrays["labels"][chosen]}


def _open(devices=1, seed=0, batch_size=BATCH, steps=5, draw=_draw, arrays=ARRAYS):
    return DrawnBatches(arrays, draw, batch_size, steps, _mesh(devices), seed)


def _taken(batches, steps):
    return [jax.tree.map(np.asarray, next(batches)) for _ in range(steps)]


def _assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture(scope="module")
def first():
    """The first batches of seed 0 on one device."""
    return _taken(_open(), 6)


def test_a_batch_is_what_is_drawn_and_steps_differ(first):
    for batch in first:
        assert batch["noise"].shape == (BATCH, 3)
        np.testing.assert_array_equal(batch["rows"], batch["labels"])
    assert len({batch["labels"].tobytes() for batch in first}) == 6


def test_eight_devices_draw_what_one_does_and_talk_to_each_other_about_nothing(first):
    batches = _open(devices=8)
    batch = next(batches)
    for array in batch.values():
        spread = NamedSharding(_mesh(8), PartitionSpec("data"))
        assert array.sharding.is_equivalent_to(spread, array.ndim)
    _assert_equal([batch, *_taken(batches, 5)], first)
    program = batches._draw.lower(batches._stream, np.uint32(0), batches._arrays)
    text = program.compile().as_text()
    assert not [word for word in ("all-", "collective", "send", "recv") if word in text]


@pytest.mark.parametrize("taken", [0, 3, 5])
def test_the_state_resumes_exactly(first, taken):
    batches = _open()
    _taken(batches, taken)
    state = json.loads(json.dumps(batches.get_state()))
    resumed = _open(devices=8)
    _taken(resumed, 2)  # a position of its own, to be forgotten
    resumed.set_state(state)
    _assert_equal(_taken(resumed, 6 - taken), first[taken:])


def test_seeds_have_draws_of_their_own(first):
    batches = _open(seed=7)
    _taken(batches, 2)
    again = batches.with_seed(0)
    _assert_equal(_taken(again, 6), first)
    other = _taken(batches, 2)
    assert batches.get_state()["step"] == 4
    assert not np.array_equal(other[0]["labels"], first[2]["labels"])
    # Arrays and program are held once.
    assert again._arrays is batches._arrays
    assert again._draw is batches._draw


def test_shapes_are_those_of_a_batch():
    batches = _open()
    made = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), next(batches))
    assert dict(batches.shapes) == made == dict(batches.with_seed(1).shapes)


def test_nothing_is_damaged_and_an_epoch_is_what_it_was_said_to_be():
    assert (_open().damage_since(3), _open().steps_per_epoch) == ("", 5)


def test_a_state_of_other_batches_is_refused():
    state = _open().get_state()
    with pytest.raises(OtherBatchesError, match="seed is 0 there and 1 here"):
        _open(seed=1).set_state(state)
    longer = {name: np.tile(array, 2) for name, array in ARRAYS.items()}
    with pytest.raises(OtherBatchesError, match=r"arrays is \[\[37\], \[37\]\] there and"):
        _open(arrays=longer).set_state(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 8, "batch_size": 12}, r"batch of 12 .* over 8 devices. .* such as 16"),
        ({"batch_size": 0}, "^batch_size=0 must be at least 1"),
        ({"steps": 0}, "^steps_per_epoch=0 must be at least 1"),
        ({"batch_size": 4}, r"^draw=_draw makes 'labels' of shape \(8,\), and a batch has 4 rows"),
    ],
)
def test_what_makes_no_batches(options, message):
    with pytest.raises(ArgumentError, match=message):
        _open(**options)


def test_the_draws_are_not_those_of_the_trainer():
    """Its keys come from the same seed: the run's by a split, each step's by `fold_in`."""

    def draw(key, arrays):
        return {"key": jnp.tile(jax.random.key_data(key)[None], (BATCH, 1))}

    drawn = {tuple(batch["key"][0].tolist()) for batch in _taken(_open(draw=draw), 20)}
    seed = jax.random.key(0)
    run = jax.random.split(seed)[1]
    theirs = {
        tuple(np.asarray(jax.random.key_data(jax.random.fold_in(key, i))).tolist())
        for key in (seed, run)
        for i in range(20)
    }
    assert len(drawn) == 20
    assert not drawn & theirs
