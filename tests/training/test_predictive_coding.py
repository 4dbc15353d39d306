"""CPC in the trainer: what it learns of, exact resumption, devices, several seeds."""

from functools import partial

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from alphacl_jax.data.sequences import recordings_from_arrays
from alphacl_jax.data.window_batches import window_batches
from alphacl_jax.methods.cpc import cpc_method
from alphacl_jax.models.speech import GRUContext, feature_encoder
from alphacl_jax.training.loop import Schedule
from alphacl_jax.training.seeds import (
    SeedsBatches,
    make_seeds_step,
    stack_states,
    unstack_states,
)
from alphacl_jax.training.step import make_init, make_train_step
from tests.training.loops import records_of, train_in

WINDOW, BATCH, STEPS = 12, 16, 2
SEEDS = (3, 0)


def _mesh(devices):
    return jax.make_mesh((devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices])


def _turning(rng, time):
    """A point that goes round a circle, at a speed of its own: the future is known."""
    angle = rng.uniform(0, 6) + rng.uniform(0.3, 1.2) * np.arange(time)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _noise(rng, time):
    return rng.standard_normal((time, 2))


def _recordings(signal, count=30, time=60):
    rng = np.random.default_rng(0)
    labels = [i % 3 for i in range(count)]
    return recordings_from_arrays([signal(rng, time) for _ in range(count)], labels=labels)


def _unchanged(key, raw):
    del key
    return raw


def _parts(batches, mesh, **options):
    """The start by seed, the step, and that of several seeds."""
    method = cpc_method(feature_encoder(16), GRUContext(16), mesh, steps=STEPS, **options)
    optimizer = optax.adam(0.01)
    given = method, optimizer, _unchanged, optax.constant_schedule(0.01), mesh
    init = make_init(method, optimizer, _unchanged, batches.shapes, mesh)
    return init, make_train_step(*given), partial(make_seeds_step, *given)


def _open(signal, devices=1, **options):
    mesh = _mesh(devices)
    batches = window_batches(_recordings(signal), WINDOW, BATCH, mesh, SEEDS[0])
    return batches, *_parts(batches, mesh, **options)


def _trained(opened, steps):
    """The last state, and the metrics of each step."""
    batches, init, step, _ = opened
    batches, state, found = batches.with_seed(SEEDS[0]), init(SEEDS[0]), []
    for _ in range(steps):
        state, metrics = step(state, next(batches), True)
        found.append(jax.device_get(metrics))
    return state, found


@pytest.fixture(scope="module")
def turning():
    return _open(_turning)


def test_what_can_be_predicted_is_learned(turning):
    _, found = _trained(turning, 150)
    log_n = np.log(BATCH * (WINDOW - STEPS))
    assert found[0]["loss"] == pytest.approx(log_n, abs=0.1)
    assert np.mean([metrics["bound"] for metrics in found[-10:]]) > 1.5
    assert np.mean([metrics["loss"] for metrics in found[-10:]]) < log_n - 1.5
    assert np.mean([metrics["accuracy_1"] for metrics in found[-10:]]) > 0.1  # chance is 0.006


def test_nothing_is_learned_of_noise():
    opened = _open(lambda rng, time: _noise(rng, 20 * time))
    _, found = _trained(opened, 150)
    log_n = np.log(BATCH * (WINDOW - STEPS))
    last = [metrics["loss"] for metrics in found[-10:]]
    assert np.mean(last) == pytest.approx(log_n, abs=0.1)
    assert np.mean([metrics["accuracy_1"] for metrics in found[-10:]]) < 0.03


class _Killed(Exception):
    """Stands for a SIGKILL: nothing is saved or flushed because of it."""


class _Dying:
    """Batches that end in the middle of a run."""

    def __init__(self, batches, after):
        self._batches, self._left = batches, after

    def __getattr__(self, name):
        return getattr(self._batches, name)

    def __next__(self):
        if not self._left:
            raise _Killed
        self._left -= 1
        return next(self._batches)


def test_a_run_that_died_goes_on_bitwise(turning, tmp_path):
    batches, init, step, _ = turning
    schedule = Schedule(total_steps=9, log_every=2, save_every=4)

    def run(workdir, batches):
        return train_in(workdir, init(1), step, batches, schedule, shown="bound")

    whole = run(tmp_path / "whole", batches.with_seed(1))
    with pytest.raises(_Killed):
        run(tmp_path / "died", _Dying(batches.with_seed(1), 7))
    resumed = run(tmp_path / "died", batches.with_seed(1))
    assert int(resumed.step) == 9
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert records_of(tmp_path / "died") == records_of(tmp_path / "whole")


def test_eight_devices_train_as_one(turning):
    one, eight = (_trained(opened, 5) for opened in (turning, _open(_turning, 8)))
    for a, b in zip(one[1], eight[1], strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_seeds_as_one_program_are_what_they_are_alone(turning):
    batches, init, step, make_seeds = turning
    seeds_step = make_seeds()
    together = SeedsBatches([batches.with_seed(seed) for seed in SEEDS])
    stacked = stack_states([init(seed) for seed in SEEDS])
    for _ in range(4):
        stacked, _ = seeds_step(stacked, next(together), False)
    for seed, member in zip(SEEDS, unstack_states(stacked), strict=True):
        own, state = batches.with_seed(seed), init(seed)
        for _ in range(4):
            state, _ = step(state, next(own), False)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), member.params, state.params
        )


@pytest.mark.parametrize("negatives", ["mixed_excluded", "same", "same_excluded", "current"])
def test_each_policy_trains(negatives):
    _, found = _trained(_open(_turning, negatives=negatives), 60)
    assert 1 < found[0]["candidates"] <= BATCH * (WINDOW - STEPS)
    first, last = (np.mean([m["bound"] for m in part]) for part in (found[:5], found[-5:]))
    assert last > first + 0.3
