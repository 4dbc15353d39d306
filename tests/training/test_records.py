"""Records and progress: what is on disk after a cut, what a pipe and a terminal are shown."""

import io
import json
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from alphacl_jax.training import records
from alphacl_jax.training.records import Progress, Recorder, read_records


def _write(workdir, first, steps):
    recorder = Recorder(workdir, first)
    for step in steps:
        recorder.write({"step": step, "loss": 1 / step})
    recorder.close()


def test_no_file_has_no_records(tmp_path):
    assert read_records(tmp_path / "metrics.jsonl") == []


def test_records_read_back(tmp_path):
    _write(tmp_path, 0, [1, 3])
    path = tmp_path / "metrics.jsonl"
    assert read_records(path) == [{"step": 1, "loss": 1.0}, {"step": 3, "loss": 1 / 3}]
    assert [json.loads(line) for line in path.read_text().splitlines()] == read_records(path)


@pytest.mark.parametrize("tail", ['{"step": 3, "lo', "{", "\0\0\0", '{"step": 3, "loss": 0.2}'])
def test_resuming_drops_what_came_after_the_checkpoint_and_a_cut_off_line(tmp_path, tail):
    _write(tmp_path, 0, [1, 2])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(tail)
    _write(tmp_path, 2, [3, 4])
    found = read_records(tmp_path / "metrics.jsonl")
    assert [(r["step"], r["loss"]) for r in found] == [(s, 1 / s) for s in (1, 2, 3, 4)]


def test_a_record_is_on_disk_at_once(tmp_path):
    recorder = Recorder(tmp_path, 0)
    recorder.write({"step": 1, "loss": 0.5})
    assert read_records(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.5}]
    recorder.close()


def _events(folder: Path) -> list[Event]:
    """All events of a folder: each is its length, a checksum, itself and a checksum."""
    events = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def test_tensorboard_has_the_records(tmp_path):
    _write(tmp_path, 0, [1, 2, 3])
    values = {e.step: v for e in _events(tmp_path / "tensorboard") for v in e.summary.value}
    assert {(v.tag, step): v.simple_value for step, v in values.items()} == {
        ("loss", s): pytest.approx(1 / s) for s in (1, 2, 3)
    }


def test_tensorboard_is_told_from_where_a_run_goes_on(tmp_path):
    _write(tmp_path, 2, [3])
    starts = [
        e.step
        for e in _events(tmp_path / "tensorboard")
        if e.session_log.status == SessionLog.START
    ]
    assert starts == [3]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set."""
    now = [100.0]
    monkeypatch.setattr(records.time, "monotonic", lambda: now[0])
    return now


def test_a_pipe_gets_a_line_now_and_then_and_the_last(clock):
    stream = io.StringIO()
    progress = Progress(100, 0, batch_size=32, stream=stream)
    for step in range(10, 101, 10):
        clock[0] += 4.0
        progress.update(step, 0.25, 12.5)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert lines == [
        "step 10/100, loss 0.2500, energy 12.5, 80 images/s, 36 s left",
        "step 50/100, loss 0.2500, energy 12.5, 80 images/s, 20 s left",
        "step 90/100, loss 0.2500, energy 12.5, 80 images/s, 4 s left",
        "step 100/100, loss 0.2500, energy 12.5, 80 images/s, 0 s left",
    ]
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_without_energy_and_resumed(clock):
    stream = io.StringIO()
    progress = Progress(100, 60, batch_size=10, stream=stream)
    clock[0] += 2.0
    progress.update(80, 1.0, None)
    assert progress.images_per_second == 100.0
    assert stream.getvalue().splitlines() == [
        "resuming at step 60 of 100",
        "step 80/100, loss 1.0000, 100 images/s, 2 s left",
    ]


def test_compiling_does_not_count(clock):
    stream = io.StringIO()
    progress = Progress(30, 0, batch_size=10, stream=stream)
    clock[0] += 60.0
    progress.begin(1)
    progress.update(1, 1.0, None)
    clock[0] += 19.0
    progress.update(20, 1.0, None)
    assert progress.images_per_second == 10.0
    assert stream.getvalue().splitlines() == [
        "step 1/30, loss 1.0000",
        "step 20/30, loss 1.0000, 10 images/s, 10 s left",
    ]


def test_a_terminal_gets_a_bar():
    stream = _Terminal()
    progress = Progress(100, 20, batch_size=10, stream=stream)
    progress.update(40, 0.125, 3.0)
    progress.update(100, 0.0625, 3.0)
    progress.close()
    text = stream.getvalue()
    assert "\r 20%|" in text
    assert "100/100 steps" in text
    assert "loss 0.0625, energy 3.0" in text
    assert text.endswith("\n")
