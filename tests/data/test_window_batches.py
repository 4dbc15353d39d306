"""Windows drawn from recordings: within one recording, in proportion to length, with labels."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from alphacl_jax.data.sequences import recordings_from_arrays
from alphacl_jax.data.window_batches import window_batches
from alphacl_jax.errors import ArgumentError

LENGTHS = (12, 3, 40, 5)
WINDOW, BATCH = 5, 16


def _mesh(devices):
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def _recordings(**labels):
    """Moment m of recording r is 100 r + m, and less that in a second channel."""
    signals = [100.0 * r + np.arange(length) for r, length in enumerate(LENGTHS)]
    return recordings_from_arrays([np.stack([s, -s], axis=1) for s in signals], **labels)


ALL = {
    "labels": ["b", "a", "b", None],
    "moment_labels": [np.arange(length) % 4 for length in LENGTHS],
}


@pytest.fixture(scope="module")
def many():
    """Many windows, with their labels."""
    batches = window_batches(_recordings(**ALL), WINDOW, BATCH, _mesh(1), 0)
    drawn = [jax.tree.map(np.asarray, next(batches)) for _ in range(100)]
    return {name: np.concatenate([batch[name] for batch in drawn]) for name in drawn[0]}


def test_a_window_is_of_one_recording_and_has_its_labels(many):
    windows, numbers = many["windows"], many["recordings"]
    assert windows.shape == (100 * BATCH, WINDOW, 2)
    np.testing.assert_array_equal(windows[:, :, 0], -windows[:, :, 1])
    moments = windows[:, :, 0] - 100 * numbers[:, None]
    np.testing.assert_array_equal(moments, moments[:, :1] + np.arange(WINDOW))
    assert moments.min() == 0
    assert np.all(moments[:, -1] < np.array(LENGTHS)[numbers])
    np.testing.assert_array_equal(many["labels"], np.array([1, 0, 1, -1])[numbers])
    np.testing.assert_array_equal(many["moment_labels"], moments % 4)


def test_a_recording_is_drawn_in_proportion_to_its_length_and_all_its_windows_are(many):
    of_each = np.bincount(many["recordings"], minlength=4)
    assert of_each[1] == 0  # shorter than a window
    expected = 100 * BATCH * np.array([12, 0, 40, 5]) / 57
    # Six standard deviations of a binomial.
    assert np.all(np.abs(of_each - expected) <= 6 * np.sqrt(expected))
    starts = many["windows"][many["recordings"] == 2][:, 0, 0] - 200
    counts = np.bincount(starts.astype(int), minlength=36)
    assert counts.shape == (36,)
    assert np.all(np.abs(counts - of_each[2] / 36) <= 6 * np.sqrt(of_each[2] / 36))


def test_an_epoch_has_as_many_windows_as_cover_the_recordings():
    assert window_batches(_recordings(), 2, 8, _mesh(1), 0).steps_per_epoch == 60 // 16
    assert window_batches(_recordings(), WINDOW, BATCH, _mesh(1), 0).steps_per_epoch == 1


def test_labels_that_nobody_gave_are_not_made_up():
    assert set(window_batches(_recordings(), 3, 8, _mesh(1), 0).shapes) == {
        "windows",
        "recordings",
    }


def test_eight_devices_draw_what_one_does_without_talking():
    one, eight = (window_batches(_recordings(**ALL), 5, 16, _mesh(n), 3) for n in (1, 8))
    for _ in range(3):
        jax.tree.map(np.testing.assert_array_equal, next(eight), next(one))
    text = eight._draw.lower(eight._stream, np.uint32(0), eight._arrays).compile().as_text()
    assert not [word for word in ("all-", "collective", "send", "recv") if word in text]


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (41, "^window=41 is longer than all recordings, of which the longest has 40 moments"),
        (0, "^window=0 must be at least 1 moment"),
    ],
)
def test_windows_that_there_are_not(window, message):
    with pytest.raises(ArgumentError, match=message):
        window_batches(_recordings(), window, BATCH, _mesh(1), 0)
