"""What comes to a run from outside: folders that vanish, full disks, signals at its very end."""

import gc
import os
import re
import resource
import shutil
import signal
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.data.batches import OtherBatchesError
from alphacl_jax.training.checkpoint import Checkpoints, UnsavedError
from alphacl_jax.training.loop import Schedule, train
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.place import LostFolderError, Place
from alphacl_jax.training.records import read_records
from alphacl_jax.training.state import TrainState
from tests.training.loops import Counting, records_of, saved_steps, train_in

SCHEDULE = Schedule(total_steps=12, log_every=2, save_every=5)
FULL = "RESOURCE_EXHAUSTED: ... No space left on device [os_error_code='28']"


def _state(step=0) -> TrainState:
    key = jax.random.key_data(jax.random.key(0))
    return TrainState(jnp.int32(step), jnp.full((3,), float(step)), {}, (), key)


def _step(state, batch, recorded):
    metrics = dict.fromkeys(("loss", "gradient_norm", "parameter_norm", "energy"), batch["images"])
    return state._replace(step=state.step + 1, params=state.params + batch["images"]), metrics


def _train(workdir, at=None, act=None) -> TrainState:
    return train_in(workdir, _state(), jax.jit(_step), Counting(at, act), SCHEDULE)


def _replaced(folder):
    shutil.move(folder, folder.with_name("moved"))
    shutil.copytree(folder.with_name("moved"), folder)


@pytest.mark.parametrize("act", [shutil.rmtree, _replaced], ids=["deleted", "replaced"])
# Recorded next is step 8, and then saved is step 10.
@pytest.mark.parametrize("what", ["run", "run/checkpoints"])
def test_a_folder_that_is_lost_ends_the_run_and_is_not_written_to(tmp_path, act, what):
    run, lost = tmp_path / "run", tmp_path / what
    run.mkdir()
    with pytest.raises(LostFolderError) as error:
        _train(run, at=7, act=lambda: act(lost))
    assert str(error.value).startswith(f"{lost} was deleted, moved or replaced while the run wrote")
    assert "the same command goes on from its last checkpoint" in str(error.value)
    if act is shutil.rmtree:
        assert not lost.exists()
        return
    # What took its place has what was copied, and goes on.
    assert saved_steps(run) == [5]
    assert [r["step"] for r in records_of(run)] == [2, 4, 6, 8, 10][: 3 if what == "run" else 5]
    assert int(_train(run).step) == 12


def test_other_errors_of_a_folder_are_its_own(tmp_path, monkeypatch):
    place = Place(tmp_path)

    def denied(path):
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", denied)
        with pytest.raises(PermissionError):
            place.require()
    place.require()
    place.close()


def test_a_full_disk_is_told_with_the_folder_and_the_room(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)

    def fails(*arguments, **options):
        raise ValueError(FULL)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints._manager, "save", fails)
        with pytest.raises(UnsavedError) as error:
            checkpoints.save(_state(4), {})
        assert re.fullmatch(
            rf"step 4 could not be saved in {tmp_path}: No space left on device \([\d,]+\.\d MB "
            r"are free there, \d+\.\d MB are needed\)\. No step was saved before it\. Make "
            "room, and give the same command again",
            str(error.value),
        )
    checkpoints.save(_state(4), {})
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints._manager, "save", fails)
        with pytest.raises(UnsavedError, match=r"Step 4 is kept there\. Make room, .* from there$"):
            checkpoints.save(_state(5), {})
    checkpoints.close()


# As in test_checkpoint.py: orbax abandons its other writes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_the_system_refuses_is_one_sentence_and_no_tracebacks(tmp_path, caplog):
    """Files may have 20 kB here, and a state has more."""
    numbers = jax.random.normal(jax.random.key(0), (100_000,))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(_state(3), {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(UnsavedError) as error:
                checkpoints.save(_state(4)._replace(params=numbers), {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value) == (
        f"step 4 could not be saved in {tmp_path}: File too large. Step 3 is kept there. Put that "
        "right, and give the same command again to go on from there"
    )
    assert "Traceback" not in caplog.text
    assert "raised an exception" not in caplog.text
    gc.collect()  # or they were reported in another test


def test_errors_of_saving_that_are_no_systems_are_not_renamed(tmp_path, monkeypatch):
    with closing(Checkpoints(tmp_path)) as checkpoints:

        def fails(*arguments, **options):
            raise ValueError("a fault of ours")

        monkeypatch.setattr(checkpoints._manager, "save", fails)
        with pytest.raises(ValueError, match="a fault of ours"):
            checkpoints.save(_state(4), {})


def test_a_checkpoint_is_on_the_disk_when_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    with closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(_state(4), {})
    files = [path for path in (tmp_path / "4").rglob("*") if path.is_file()]
    assert files
    assert {*map(str, files), str(tmp_path / "4"), str(tmp_path)} <= set(synced)


def test_no_right_to_read_is_no_damage(tmp_path, monkeypatch):
    with closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(_state(4), {})

        def denied(*arguments, **options):
            raise ValueError("PERMISSION_DENIED: ... [os_error_code='13']")

        monkeypatch.setattr(checkpoints._reader, "restore", denied)
        with pytest.raises(OSError, match="Permission denied"):
            checkpoints.restore(_state())
        assert checkpoints.steps() == [4]


def test_a_signal_in_the_last_step_is_handed_on(tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        _train(tmp_path, at=12, act=lambda: os.kill(os.getpid(), signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert saved_steps(tmp_path)[-1] == 12


class _Other(Counting):
    """Batches of other data than those of the checkpoints."""

    def set_state(self, state):
        raise OtherBatchesError("of other batches")


@pytest.mark.parametrize("allowed", [False, True])
def test_positions_in_other_data_are_left_where_data_may_have_changed(tmp_path, allowed):
    with closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(_state(10), {"data": {}, "unrecorded": {}})
        batches, mesh = _Other(), data_mesh()

        def goes_on():
            return train(
                _state(), jax.jit(_step), batches, SCHEDULE, checkpoints, mesh=mesh,
                data_changed=allowed,
            )  # fmt: skip

        if not allowed:
            with pytest.raises(OtherBatchesError):
                goes_on()
            return
        np.testing.assert_array_equal(goes_on().params, 10.0 + 1 + 2)


DAMAGED = {
    "no UTF-8": b'{"step": 2, "loss": \xff\xfe}\n',
    "no JSON": b'{"step": 2, "lo\n',
    "no record": b"[1, 2]\n",
    "no step": b'{"loss": 0.5}\n',
    "no number": b'{"step": 2, "loss": "low"}\n',
    "a deep nest": b"[" * 100_000 + b"\n",
    "zeros": b"\0" * 300 + b"\n",
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED.keys())
def test_good_records_before_and_after_damage_are_kept(tmp_path, line, caplog):
    path = tmp_path / "metrics.jsonl"
    whole = [b'{"step": 2, "loss": 1.0}\n', line, b'{"step": 4, "loss": 0.5}\n']
    path.write_bytes(b"".join(whole))
    assert [r["step"] for r in read_records(path)] == [2, 4]
    assert "records" not in caplog.text  # who only reads leaves all as it is
    with closing(Checkpoints(tmp_path / "checkpoints")) as checkpoints:
        checkpoints.save(_state(5), {"data": {"position": 5}, "unrecorded": {}})
    assert int(_train(tmp_path).step) == 12
    assert [r["step"] for r in read_records(path)] == [2, 4, 6, 8, 10, 12]
    assert f"{path}: 1 lines are no records, the first is line 2." in caplog.text
    assert (tmp_path / "metrics.jsonl.damaged-1").read_bytes() == b"".join(whole)


@pytest.mark.parametrize("tail", [b"\0" * 50, b"\xff\xfe garbage", b'{"step": 3, "lo\0\0', b"loss"])
def test_an_end_that_no_record_begins_with_is_damage(tmp_path, tail, caplog):
    path = tmp_path / "metrics.jsonl"
    whole = b'{"step": 2, "loss": 1.0}\n' + tail
    path.write_bytes(whole)
    _train(tmp_path)
    assert f"{path}: 1 lines are no records, the first is line 2." in caplog.text
    assert (tmp_path / "metrics.jsonl.damaged-1").read_bytes() == whole


def test_a_line_that_was_cut_off_is_no_damage(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 2, "loss": 1.0}\n{"step": 3')
    _train(tmp_path)
    assert caplog.text == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoints",
        "metrics.jsonl",
        "tensorboard",
    ]


def test_a_record_that_finds_no_room_names_its_file(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")

    def full():
        descriptor = os.open("/dev/full", os.O_WRONLY)
        (name,) = (
            number
            for number in os.listdir("/proc/self/fd")
            if os.path.realpath(f"/proc/self/fd/{number}") == str(tmp_path / "metrics.jsonl")
        )
        os.dup2(descriptor, int(name))
        os.close(descriptor)

    with pytest.raises(OSError, match="No space left on device") as error:
        _train(tmp_path, at=3, act=full)
    assert error.value.filename == str(tmp_path / "metrics.jsonl")
    assert int(_train(tmp_path).step) == 12
    assert [r["step"] for r in records_of(tmp_path)] == [2, 4, 6, 8, 10, 12]
