"""Checkpoints: read back bit by bit, damage noticed and survived, half-written ones ignored."""

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.training.checkpoint import Checkpoints, UnusableCheckpointsError
from alphacl_jax.training.state import TrainState

# Orbax abandons its other reads where one fails, and Python reports them when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Has them collected and reported here, not in a test that comes later."""
    yield
    gc.collect()


def _state(step: int) -> TrainState:
    """A state whose every value depends on the step; incompressible, so that flips hit values."""
    key = jax.random.key(step)
    return TrainState(
        step=jnp.int32(step),
        params={"dense": {"kernel": jax.random.normal(key, (64, 65)), "bias": jnp.zeros((65,))}},
        method_state={"encoder": {"mean": jax.random.normal(key, (5,)).astype(jnp.bfloat16)}},
        opt_state=(jnp.int32(step), ({"mu": jax.random.normal(key, (65,))}, ())),
        key=jax.random.key_data(key),
    )


def _position(step: int) -> dict:
    return {"kind": "resident", "step": step, "reader": {"index": [step, None, "a"]}}


def _assert_same(a: TrainState, b: TrainState) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """A folder of checkpoints of steps 10, 20 and 30; tests damage copies of it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoints = Checkpoints(folder)
    for step in (10, 20, 30):
        checkpoints.save(_state(step), _position(step))
    checkpoints.close()
    return folder


@pytest.fixture
def folder(three, tmp_path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "copy"))


def _restore(folder: Path):
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.restore(_state(0)), checkpoints.steps()
    finally:
        checkpoints.close()


def test_the_newest_is_read_back_bit_by_bit(folder):
    (state, position), steps = _restore(folder)
    _assert_same(state, _state(30))
    assert position == _position(30)
    assert steps == [10, 20, 30]


def test_nothing_to_restore(tmp_path):
    assert _restore(tmp_path) == (None, [])


def test_the_last_three_are_kept_and_a_step_is_saved_once(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3, 4):
        checkpoints.save(_state(step), _position(step))
    checkpoints.save(_state(4), {"other": True})
    assert checkpoints.steps() == [2, 3, 4]
    restored = checkpoints.restore(_state(0))
    assert restored is not None
    assert restored[1] == _position(4)
    checkpoints.close()


def test_a_state_on_eight_devices_comes_back_on_eight(tmp_path):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(jax.device_put(_state(3), everywhere), _position(3))
    for like in (jax.device_put(_state(0), everywhere), _state(0)):
        restored = checkpoints.restore(like)
        assert restored is not None
        _assert_same(restored[0], _state(3))
        for leaf, wanted in zip(jax.tree.leaves(restored[0]), jax.tree.leaves(like), strict=True):
            assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)
    checkpoints.close()


def _largest(step_folder: Path) -> Path:
    files = [path for path in step_folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def _flip(step_folder: Path) -> None:
    path = _largest(step_folder)
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 8):
        data[place] ^= 0xFF
    path.write_bytes(data)


def _truncate(step_folder: Path) -> None:
    path = _largest(step_folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty_every_file(step_folder: Path) -> None:
    for path in step_folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def _delete_extra(step_folder: Path) -> None:
    shutil.rmtree(step_folder / "extra")


def _move_the_position(step_folder: Path) -> None:
    (path,) = (p for p in (step_folder / "extra").rglob("*") if b'"kind"' in p.read_bytes())
    path.write_bytes(path.read_bytes().replace(b'"resident"', b'"streamed"'))


DAMAGES = [
    _flip,
    _truncate,
    _empty_every_file,
    _delete_extra,
    _move_the_position,
    lambda step_folder: _largest(step_folder).unlink(),
    lambda step_folder: (step_folder / "state" / "_METADATA").unlink(),
]
NAMES = ["flip", "truncate", "empty", "no extra", "another position", "no arrays", "no metadata"]


@pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
def test_a_damaged_newest_falls_back_and_says_so(folder, damage, caplog):
    damage(folder / "30")
    (state, position), steps = _restore(folder)
    _assert_same(state, _state(20))
    assert position == _position(20)
    assert steps == [10, 20]
    assert "checkpoint of step 30 is damaged" in caplog.text
    assert str(folder / "damaged" / "30") in caplog.text
    assert (folder / "damaged" / "30").is_dir()


def test_a_step_that_was_damaged_can_be_saved_and_damaged_again(folder):
    for _ in range(2):
        _truncate(folder / "30")
        checkpoints = Checkpoints(folder)
        restored = checkpoints.restore(_state(0))
        assert restored is not None
        assert int(restored[0].step) == 20
        checkpoints.save(_state(30), _position(30))
        checkpoints.close()
        (state, _), steps = _restore(folder)
        _assert_same(state, _state(30))
        assert steps == [10, 20, 30]


def test_a_reader_passes_over_the_damaged_and_moves_nothing(folder, caplog):
    _flip(folder / "30")
    reader = Checkpoints(folder, read_only=True)
    restored = reader.restore(_state(0))
    reader.close()
    assert restored is not None
    assert int(restored[0].step) == 20
    assert "it is passed over" in caplog.text
    assert (folder / "30").is_dir()
    assert not (folder / "damaged").exists()


def test_short_memory_is_no_damage(folder, monkeypatch):
    checkpoints = Checkpoints(folder)

    def exhausted(*arguments, **options):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(checkpoints._reader, "restore", exhausted)
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        checkpoints.restore(_state(0))
    assert checkpoints.steps() == [10, 20, 30]
    checkpoints.close()


def test_all_damaged(folder):
    for step in ("10", "20", "30"):
        _flip(folder / step)
    with pytest.raises(UnusableCheckpointsError) as error:
        _restore(folder)
    message = str(error.value)
    assert message.startswith(f"none of the checkpoints of steps [10, 20, 30] in {folder}")
    assert "same command" in message
    assert sorted(p.name for p in (folder / "damaged").iterdir()) == ["10", "20", "30"]


def test_a_half_written_folder_is_no_checkpoint(folder):
    shutil.copytree(folder / "30", folder / "40.orbax-checkpoint-tmp")
    _truncate(folder / "40.orbax-checkpoint-tmp")
    checkpoints = Checkpoints(folder)
    restored = checkpoints.restore(_state(0))
    assert restored is not None
    assert int(restored[0].step) == 30
    assert checkpoints.steps() == [10, 20, 30]
    checkpoints.save(_state(50), _position(50))  # waits for what orbax clears in the background
    checkpoints.close()
    assert not (folder / "40.orbax-checkpoint-tmp").exists()
