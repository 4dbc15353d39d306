"""The loop: resuming exactly, stopping on signals and on NaN, what is recorded and kept, hooks."""

import json
import math
import os
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from alphacl_jax.training import loop
from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.loop import (
    Hook,
    InterruptedBySignal,
    NonFiniteLossError,
    Schedule,
    train,
)
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.records import read_records
from alphacl_jax.training.state import TrainState, step_key
from tests.training.loops import Counting, records_of, saved_steps, train_in

SCHEDULE = Schedule(total_steps=20, log_every=4, save_every=6)
RECORDED = [4, 8, 12, 16, 20]


def _state() -> TrainState:
    return TrainState(
        step=jnp.int32(0),
        params=jnp.zeros((3,)),
        method_state={},
        opt_state=(),
        key=jax.random.key_data(jax.random.key(0)),
    )


def _step(state, batch, recorded, bad=None, bad_at=-1):
    noise = jax.random.normal(step_key(state), (3,))
    params = 0.9 * state.params + batch["images"] * noise
    metrics = {
        "loss": jnp.sum(params),
        "gradient_norm": batch["images"],
        "parameter_norm": jnp.float32(1.0),
        "learning_rate": 0.1 * state.step,
        "energy": jnp.where(recorded, batch["images"], jnp.nan),
    }
    if bad is not None:
        metrics[bad] = jnp.where(state.step + 1 == bad_at, jnp.nan, metrics[bad])
    return state._replace(step=state.step + 1, params=params), metrics


# As in the trainer, a state's memory is given up to the next.
STEP = jax.jit(_step, donate_argnums=0, static_argnames="bad")


def _train(workdir, batches=None, schedule=SCHEDULE, step=STEP, hooks=()) -> TrainState:
    return train_in(workdir, _state(), step, batches or Counting(), schedule, hooks)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without interruption: its folder and its last state."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, _train(workdir)


def test_a_run_records_and_saves_when_it_should(whole):
    workdir, state = whole
    assert int(state.step) == 20
    assert saved_steps(workdir) == [12, 18, 20]
    records = records_of(workdir)
    assert [r["step"] for r in records] == RECORDED
    assert [r["epoch"] for r in records] == [s / 5 for s in RECORDED]
    # The loop's own values are means over the steps since the record before,
    assert [r["gradient_norm"] for r in records] == [2.5, 6.5, 10.5, 14.5, 18.5]
    # the method's and the learning rate those of the recorded step.
    assert [r["energy"] for r in records] == RECORDED
    rates = [r["learning_rate"] for r in records]
    np.testing.assert_allclose(rates, [0.1 * (s - 1) for s in RECORDED], rtol=1e-6)
    assert set(records[0]) >= {"loss", "parameter_norm"}
    assert all("images_per_second" in r for r in read_records(workdir / "metrics.jsonl"))


def test_a_step_is_told_whether_it_is_recorded(tmp_path):
    told = []

    def step(state, batch, recorded):
        told.append(recorded)
        return STEP(state, batch, recorded)

    _train(tmp_path, step=step, hooks=[Hook(7, lambda step, state: {})])
    assert [n for n, recorded in enumerate(told, 1) if recorded] == [4, 7, 8, 12, 14, 16, 20]


class Killed(Exception):
    """Stands for a SIGKILL: nothing is saved or flushed because of it."""


def _die():
    raise Killed


@pytest.mark.parametrize("at", [3, 7, 11, 12, 13, 20])
def test_a_run_that_died_goes_on_exactly(whole, tmp_path, at):
    with pytest.raises(Killed):
        _train(tmp_path, Counting(at, _die))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "lo')  # what it was writing
    batches = Counting()
    state = _train(tmp_path, batches)
    np.testing.assert_array_equal(state.params, whole[1].params)
    assert int(state.step) == batches.position == 20
    assert records_of(tmp_path) == records_of(whole[0])


def test_a_run_that_died_and_lost_its_newest_checkpoint_goes_on_exactly(whole, tmp_path, caplog):
    with pytest.raises(Killed):
        _train(tmp_path, Counting(14, _die))
    for path in (tmp_path / "checkpoints" / "12").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    state = _train(tmp_path)
    assert "checkpoint of step 12 is damaged" in caplog.text
    np.testing.assert_array_equal(state.params, whole[1].params)
    assert records_of(tmp_path) == records_of(whole[0])


def test_a_finished_run_is_left_alone(whole):
    workdir, state = whole
    before = (workdir / "metrics.jsonl").read_text()

    def never(*arguments):
        raise AssertionError("a finished run went on")

    again = _train(workdir, step=never, hooks=[Hook(1, never)])
    np.testing.assert_array_equal(again.params, state.params)
    assert (workdir / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(whole, tmp_path, number, capsys):
    before = signal.getsignal(number)
    batches = Counting(9, lambda: os.kill(os.getpid(), number))
    with pytest.raises(InterruptedBySignal) as error:
        _train(tmp_path, batches)
    assert error.value.number == number
    assert str(error.value) == (
        f"{number.name} came: step 9 of 20 is saved; the same command resumes there"
    )
    heard = f"{number.name} came: saving after this step; once more to leave at once\n"
    assert heard in capsys.readouterr().err
    assert signal.getsignal(number) is before
    assert saved_steps(tmp_path) == [6, 9]
    # No record is made of it, neither then nor later.
    assert [r["step"] for r in records_of(tmp_path)] == [4, 8]
    state = _train(tmp_path)
    assert "resuming at step 9 of 20" in capsys.readouterr().err
    np.testing.assert_array_equal(state.params, whole[1].params)
    assert records_of(tmp_path) == records_of(whole[0])


def test_a_signal_in_the_last_step_is_no_interruption(whole, tmp_path):
    state = _train(tmp_path, Counting(20, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    np.testing.assert_array_equal(state.params, whole[1].params)


@pytest.mark.parametrize("name", ["loss", "gradient_norm", "parameter_norm"])
# 12 is saved and recorded, 8 recorded, 13 neither, 18 saved, 20 the last.
@pytest.mark.parametrize(
    ("at", "kept"), [(12, [6]), (8, [6]), (13, [6, 12]), (18, [6, 12]), (20, [6, 12, 18])]
)
def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, name, at, kept):
    def step(state, batch, recorded):
        return STEP(state, batch, recorded, bad=name, bad_at=at)

    def run(step, state):
        assert step < at, "a hook was run on what is not finite"
        return {}

    with pytest.raises(NonFiniteLossError, match=f"^{name} is nan at step {at}; ") as error:
        _train(tmp_path, step=step, hooks=[Hook(4, run)])
    assert f"the checkpoint of step {kept[-1]} is kept" in str(error.value)
    assert "Lower the learning rate" in str(error.value)
    assert "--" not in str(error.value)
    assert (error.value.name, error.value.step, error.value.member) == (name, at, None)
    assert math.isnan(error.value.value)
    assert saved_steps(tmp_path) == kept
    for record in records_of(tmp_path):
        assert record["step"] < at
        assert all(math.isfinite(value) for value in record.values())


def test_nan_before_the_first_checkpoint(tmp_path):
    def step(state, batch, recorded):
        return STEP(state, batch, recorded, bad="loss", bad_at=2)

    with pytest.raises(NonFiniteLossError, match="at step 2; training stopped, none was saved yet"):
        _train(tmp_path, step=step)
    assert saved_steps(tmp_path) == []


def test_records_are_json(whole):
    for line in (whole[0] / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda text: pytest.fail(text))


def test_handlers_are_put_back_after_an_error(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Killed):
        _train(tmp_path, Counting(1, _die))
    assert signal.getsignal(signal.SIGTERM) is before


def _hook(seen=None) -> Hook:
    def run(step, state):
        if seen is not None:
            seen.append(step)
        return {"probe/sum": float(jnp.sum(state.params)), "probe/step": float(state.step)}

    return Hook(5, run)


@pytest.fixture(scope="module")
def hooked(tmp_path_factory):
    """A run with a hook: its folder, its last state, and when the hook ran."""
    workdir, seen = tmp_path_factory.mktemp("hooked"), []
    return workdir, _train(workdir, hooks=[_hook(seen)]), seen


def test_what_hooks_find_joins_the_record_of_their_step(hooked):
    workdir, state, seen = hooked
    assert seen == [5, 10, 15, 20]
    records = records_of(workdir)
    assert [r["step"] for r in records] == [4, 5, 8, 10, 12, 15, 16, 20]
    for record in records:
        assert ("probe/sum" in record) == (record["step"] % 5 == 0)
        if "probe/sum" in record:
            assert record["probe/step"] == record["step"] == record["energy"]
    assert records[-1]["probe/sum"] == float(jnp.sum(state.params))


def test_hooks_change_no_training_state(whole, hooked):
    assert hooked[1].params.tobytes() == whole[1].params.tobytes()
    last = {r["step"]: r["loss"] for r in records_of(hooked[0])}
    # Means over fewer steps, of the same losses.
    assert np.isclose((3 * last[8] + last[5]) / 4, records_of(whole[0])[1]["loss"], rtol=1e-6)


@pytest.mark.parametrize("at", [6, 11, 13, 19])
def test_a_resumed_run_has_the_same_hooked_records(hooked, tmp_path, at):
    with pytest.raises(Killed):
        _train(tmp_path, Counting(at, _die), hooks=[_hook()])
    state = _train(tmp_path, hooks=[_hook()])
    np.testing.assert_array_equal(state.params, hooked[1].params)
    assert records_of(tmp_path) == records_of(hooked[0])


def test_a_hook_that_comes_more_seldom_than_the_run_is_long_runs_at_its_end(tmp_path):
    seen = []
    _train(tmp_path, hooks=[Hook(1000, lambda step, state: seen.append(step) or {"x": 1.0})])
    assert seen == [20]
    assert records_of(tmp_path)[-1]["x"] == 1.0


def test_the_time_of_hooks_is_no_training_time(tmp_path, monkeypatch):
    """A clock that steps of 2 images move by 1 s, and the hook by an hour."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def step(state, batch, recorded):
        clock[0] += 1.0
        return STEP(state, batch, recorded)

    def run(step, state):
        clock[0] += 3600.0
        return {}

    _train(tmp_path, step=step, hooks=[Hook(4, run)])
    rates = [r["images_per_second"] for r in read_records(tmp_path / "metrics.jsonl")]
    assert rates == pytest.approx([2.0] * 5)


def test_time_saves_too(tmp_path, monkeypatch):
    """Batches take 4 s each: the first step with more than 10 s behind it is the third."""
    clock = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    saved = []
    save = Checkpoints.save

    def noted(self, state, position):
        saved.append(int(state.step))
        save(self, state, position)

    monkeypatch.setattr(Checkpoints, "save", noted)

    class Slow(Counting):
        def __next__(self):
            clock[0] += 4.0
            return super().__next__()

    schedule = Schedule(20, log_every=4, save_every=7, save_seconds=10)
    _train(tmp_path, Slow(), schedule)
    assert saved == [3, 6, 7, 10, 13, 14, 17, 20]
    assert [r["step"] for r in records_of(tmp_path)] == RECORDED


def test_a_process_that_does_not_write_trains_the_same(whole, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    mesh, seen = data_mesh(), []
    hooks = [_hook(seen)]
    state = train(_state(), STEP, Counting(), SCHEDULE, checkpoints, hooks=hooks, mesh=mesh)
    checkpoints.close()
    np.testing.assert_array_equal(state.params, whole[1].params)
    assert seen == [5, 10, 15, 20]
    assert [p.name for p in Path(tmp_path).iterdir()] == ["checkpoints"]


@pytest.mark.parametrize("name", ["log_every", "save_every"])
def test_schedules_that_do_not_fit(name):
    with pytest.raises(ArgumentError, match=f"^{name}=0 must be at least 1 step"):
        partial(Schedule, total_steps=3, log_every=1, save_every=1)(**{name: 0})


def test_damage_is_told_with_the_record_that_comes_after_it(tmp_path, caplog):
    batches = Counting()
    batches.damage = {8: "step 8: 3 of 9 images are damaged"}
    _train(tmp_path, batches)
    assert [r.getMessage() for r in caplog.records] == ["step 8: 3 of 9 images are damaged"]
