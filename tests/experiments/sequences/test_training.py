"""Training on windows, and what networks make of whole recordings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.data.sequences import recordings_from_arrays
from alphacl_jax.data.window_batches import one_window_each
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.cpc import cpc_contexts, cpc_method
from alphacl_jax.models.speech import GRUContext, StepEncoder, feature_encoder
from alphacl_jax.training.mesh import data_mesh
from experiments.sequences.training import Recipe, Trained, each_step, held_out_metrics, train
from tests.experiments.sequences.made_recordings import made_recordings

NETWORKS = feature_encoder(4), GRUContext(3)
RECIPE = Recipe(window=6, batch_size=8, steps=12, learning_rate=0.02)
RECORDINGS = made_recordings()


@pytest.fixture(scope="module")
def mesh():
    return data_mesh(jax.devices()[:1])


@pytest.fixture(scope="module")
def method(mesh):
    return cpc_method(*NETWORKS, mesh, steps=2)


@pytest.fixture(scope="module")
def both(method, mesh):
    """Before the first step and after the last."""
    start = train(method, RECORDINGS, RECIPE._replace(steps=0), mesh, 3)
    return start, train(method, RECORDINGS, RECIPE, mesh, 3)


def test_training_lowers_the_loss_of_recordings_that_it_did_not_see(both, method, mesh):
    start, end = both
    others = made_recordings(1)
    before, after = (held_out_metrics(method, one, others, RECIPE, mesh, draws=5) for one in both)
    assert after["loss"] < before["loss"] - 0.05
    assert before["candidates"] == pytest.approx(8 * 4)
    assert set(after) == {"loss", "accuracy_1", "accuracy_2", "candidates", "bound"}
    assert (start.recorded, start.diverged, end.diverged) == ({}, False, False)
    assert end.recorded["loss"] > 0


def test_held_out_batches_are_as_many_recordings_as_devices_divide(both, method, mesh):
    few = made_recordings(1, recordings=7)
    found = held_out_metrics(method, both[1], few, RECIPE, mesh, draws=1)
    assert found["candidates"] == pytest.approx(7 * 4)
    with pytest.raises(ArgumentError, match="recordings=7 of a window's length or more are too"):
        held_out_metrics(method, both[1], few, RECIPE, data_mesh(jax.devices()[:8]))


def test_a_seed_is_the_same_training_and_another_is_another(both, method, mesh):
    again, other = (train(method, RECORDINGS, RECIPE, mesh, seed) for seed in (3, 4))
    jax.tree.map(np.testing.assert_array_equal, both[1].params, again.params)
    assert other.recorded["loss"] != again.recorded["loss"]


def test_a_loss_that_is_not_finite_ends_it(method, mesh):
    recipe = RECIPE._replace(learning_rate=1e30, steps=100)
    found = train(method, RECORDINGS, recipe, mesh, 0)
    assert found.diverged
    assert not np.isfinite(found.recorded["loss"])


def test_windows_longer_than_all_recordings_are_refused(method, mesh):
    with pytest.raises(ArgumentError, match="window=99 is longer than all recordings"):
        train(method, RECORDINGS, RECIPE._replace(window=99), mesh, 0)


@pytest.mark.parametrize("batch_size", [5, 16])
def test_each_recording_is_encoded_as_if_it_were_alone(both, batch_size):
    encode = cpc_contexts(*NETWORKS)
    found = each_step(encode, both[1], RECORDINGS, 1, batch_size=batch_size)
    assert [len(of) for of in found] == RECORDINGS.lengths.tolist()
    for number in (0, 7, 11):
        alone = encode(both[1].params, both[1].state, jnp.asarray(RECORDINGS.of(number)[None]))
        np.testing.assert_allclose(found[number], alone[0], rtol=1e-5, atol=1e-6)


def test_steps_of_several_moments_are_whole_ones():
    encoder = StepEncoder((4, 2), (2, 2), 3)
    signals = [np.ones((length, 1)) for length in (8, 11, 12, 3)]
    recordings = recordings_from_arrays(signals)
    params = encoder.init(jax.random.key(0), jnp.zeros((1, 12, 1)), train=False)["params"]

    def encode(params, state, x):
        return encoder.apply({"params": params}, x, train=False)

    found = each_step(encode, Trained(params, {}, {}), recordings, 4)
    # The one that is shorter than a step has one all the same.
    assert [of.shape for of in found] == [(2, 3), (2, 3), (3, 3), (1, 3)]


def test_one_window_of_each_recording_lies_in_it():
    window = 8
    long_enough = np.flatnonzero(RECORDINGS.lengths >= window)
    drawn = [one_window_each(RECORDINGS, window, seed) for seed in range(3)]
    for batch in drawn:
        assert sorted(np.asarray(batch["recordings"])) == long_enough.tolist()
        for number, label, found in zip(
            batch["recordings"], batch["labels"], batch["windows"], strict=True
        ):
            signal = RECORDINGS.of(int(number))
            assert label == RECORDINGS.labels[number]
            starts = range(len(signal) - window + 1)
            assert any(np.array_equal(signal[i : i + window], found) for i in starts)
    assert not np.array_equal(drawn[0]["recordings"], drawn[1]["recordings"])
    with pytest.raises(ArgumentError, match="window=13 is longer than all recordings"):
        one_window_each(RECORDINGS, 13, 0)
