"""The loop: resuming exactly, stopping on signals and on NaN, what is recorded and kept."""

import json
import math
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.loop import InterruptedBySignal, NonFiniteLossError, Schedule, train
from alphacl_jax.training.records import read_records
from alphacl_jax.training.state import TrainState, step_key
from tests.training.counting import Counting

SCHEDULE = Schedule(total_steps=20, log_every=4, save_every=6)


def _state() -> TrainState:
    return TrainState(
        step=jnp.int32(0),
        params=jnp.zeros((3,)),
        method_state={},
        opt_state=(),
        key=jax.random.key_data(jax.random.key(0)),
    )


def _step(state, batch, bad=None, bad_at=-1):
    noise = jax.random.normal(step_key(state), (3,))
    params = 0.9 * state.params + batch["images"] * noise
    metrics = {
        "loss": jnp.sum(params),
        "gradient_norm": jnp.float32(1.0),
        "parameter_norm": jnp.float32(1.0),
        "energy": batch["images"],
    }
    if bad is not None:
        metrics[bad] = jnp.where(state.step + 1 == bad_at, jnp.nan, metrics[bad])
    return state._replace(step=state.step + 1, params=params), metrics


# As in the trainer, a state's memory is given up to the next.
STEP = jax.jit(_step, donate_argnums=0, static_argnames="bad")


def _train(workdir: Path, batches=None, schedule=SCHEDULE, step=STEP) -> TrainState:
    return train(
        _state(),
        step,
        batches or Counting(),
        schedule,
        workdir,
        batch_size=2,
        learning_rate=lambda step: 0.1 * step,
    )


def _saved(workdir: Path) -> list[int]:
    checkpoints = Checkpoints(workdir / "checkpoints")
    try:
        return checkpoints.steps()
    finally:
        checkpoints.close()


def _records(workdir: Path) -> list[dict]:
    found = read_records(workdir / "metrics.jsonl")
    return [{k: v for k, v in r.items() if k != "images_per_second"} for r in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without interruption: its folder and its last state."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, _train(workdir)


def test_a_run_records_and_saves_when_it_should(whole):
    workdir, state = whole
    assert int(state.step) == 20
    assert _saved(workdir) == [12, 18, 20]
    records = _records(workdir)
    assert [r["step"] for r in records] == [4, 6, 8, 12, 16, 18, 20]
    assert [r["epoch"] for r in records] == [s / 5 for s in (4, 6, 8, 12, 16, 18, 20)]
    # A record is the mean over the steps since the one before.
    assert [r["energy"] for r in records[:3]] == [2.5, 5.5, 7.5]
    assert records[1]["learning_rate"] == pytest.approx(0.5)
    assert set(records[0]) >= {"loss", "gradient_norm", "learning_rate"}


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
    assert _records(tmp_path) == _records(whole[0])


def test_a_run_that_died_and_lost_its_newest_checkpoint_goes_on_exactly(whole, tmp_path, caplog):
    with pytest.raises(Killed):
        _train(tmp_path, Counting(14, _die))
    for path in (tmp_path / "checkpoints" / "12").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    state = _train(tmp_path)
    assert "checkpoint of step 12 is damaged" in caplog.text
    np.testing.assert_array_equal(state.params, whole[1].params)
    assert _records(tmp_path) == _records(whole[0])


def test_a_finished_run_is_left_alone(whole):
    workdir, state = whole
    before = (workdir / "metrics.jsonl").read_text()

    def never(state, batch):
        raise AssertionError("a finished run took a step")

    again = _train(workdir, step=never)
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
    assert signal.getsignal(number) is before
    assert _saved(tmp_path) == [6, 9]
    state = _train(tmp_path)
    assert "resuming at step 9 of 20" in capsys.readouterr().err
    np.testing.assert_array_equal(state.params, whole[1].params)
    steps = [r["step"] for r in _records(tmp_path)]
    assert steps == [4, 6, 8, 9, 12, 16, 18, 20]


def test_a_signal_in_the_last_step_is_no_interruption(whole, tmp_path):
    state = _train(tmp_path, Counting(20, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    np.testing.assert_array_equal(state.params, whole[1].params)


@pytest.mark.parametrize("name", ["loss", "gradient_norm", "parameter_norm"])
# 12 is saved and recorded, 8 recorded, 13 neither, 20 the last.
@pytest.mark.parametrize(("at", "kept"), [(12, [6]), (8, [6]), (13, [6, 12]), (20, [6, 12, 18])])
def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, name, at, kept):
    def step(state, batch):
        return STEP(state, batch, bad=name, bad_at=at)

    with pytest.raises(NonFiniteLossError, match=f"^{name} is nan at step {at}; ") as error:
        _train(tmp_path, step=step)
    assert f"the checkpoint of step {kept[-1]} is kept" in str(error.value)
    assert "--learning_rate" in str(error.value)
    assert _saved(tmp_path) == kept
    for record in _records(tmp_path):
        assert record["step"] < at
        assert all(math.isfinite(value) for value in record.values())


def test_nan_before_the_first_checkpoint(tmp_path):
    def step(state, batch):
        return STEP(state, batch, bad="loss", bad_at=2)

    with pytest.raises(NonFiniteLossError, match="at step 2; training stopped, none was saved yet"):
        _train(tmp_path, step=step)
    assert _saved(tmp_path) == []


def test_records_are_json(whole):
    for line in (whole[0] / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda text: pytest.fail(text))


def test_handlers_are_put_back_after_an_error(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Killed):
        _train(tmp_path, Counting(1, _die))
    assert signal.getsignal(signal.SIGTERM) is before
