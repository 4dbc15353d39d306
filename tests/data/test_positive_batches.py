"""Batches of windows around positives: cut where they say, resumed, the same on eight devices."""

import itertools

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from alphacl_jax.data.positive_batches import positive_batches
from alphacl_jax.data.positives import Positives
from alphacl_jax.data.sequences import recordings_from_arrays
from alphacl_jax.errors import ArgumentError

BATCH, BEFORE, AFTER = 16, 2, 3
LENGTHS = (30, 25, 4)


def _recordings():
    """The signal of a moment is its number; its context goes round every ten moments."""
    numbers = np.split(np.arange(sum(LENGTHS), dtype=float), np.cumsum(LENGTHS)[:-1])
    return recordings_from_arrays(
        [np.stack([n, -n], axis=1) for n in numbers], context=[n % 10 for n in numbers]
    )


def _batches(devices=1, seed=0, positives=None, batch_size=BATCH):
    mesh = jax.make_mesh((devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices])
    rule = positives or Positives("time_delta", offset=2, hybrid=True)
    return positive_batches(_recordings(), rule, BEFORE, AFTER, batch_size, mesh, seed)


def test_windows_lie_around_their_moments():
    batch = next(_batches())
    assert batch.keys() == {"reference", "positive", "negative", "later"}
    for windows in batch.values():
        assert windows.shape == (BATCH, BEFORE + AFTER, 2)
        numbers = np.asarray(windows)[:, :, 0]
        np.testing.assert_array_equal(np.diff(numbers, axis=1), 1)
        np.testing.assert_array_equal(numbers, -np.asarray(windows)[:, :, 1])
        recording = np.searchsorted(np.cumsum(LENGTHS), numbers, side="right")
        np.testing.assert_array_equal(np.ptp(recording, axis=1), 0)
    np.testing.assert_array_equal(batch["later"][:, 0, 0], batch["reference"][:, 0, 0] + 2)
    # In two moments the context rises by 2, or falls by 8 where it begins again; beyond 0 and 9 the
    # nearest is the end.
    before, after = (
        np.asarray(batch[name])[:, BEFORE, 0] % 10 for name in ("reference", "positive")
    )
    assert np.all((after == np.minimum(before + 2, 9)) | (after == np.maximum(before - 8, 0)))


def test_an_epoch_has_about_as_many_references_as_there_are():
    # Of 26 + 21 moments with a whole window, two at each end have no later one.
    assert _batches().steps_per_epoch == (26 + 21 - 2 * 2) // BATCH


def test_eight_devices_draw_what_one_does():
    for one, eight in itertools.islice(zip(_batches(1), _batches(8), strict=True), 3):
        for name in one:
            np.testing.assert_array_equal(one[name], eight[name])


def test_a_position_is_restored_exactly_and_seeds_differ():
    batches = _batches()
    state = [next(batches), batches.get_state()][1]
    later = next(batches)
    again = _batches()
    again.set_state(state)
    for name, windows in next(again).items():
        np.testing.assert_array_equal(windows, later[name])
    assert not np.array_equal(next(_batches(seed=1))["reference"], next(_batches())["reference"])


def test_a_batch_that_devices_cannot_share():
    with pytest.raises(ArgumentError, match="batch_size=12"):
        _batches(devices=8, batch_size=12)
