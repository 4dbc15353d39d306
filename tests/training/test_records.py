"""Records and progress: what is on disk after a cut, what a pipe and a terminal are shown."""

import errno
import io
import json
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import RecordWriter

from alphacl_jax.training import progress as progress_module
from alphacl_jax.training.progress import Progress
from alphacl_jax.training.records import Recorder, RunRecords, read_records, tensorboard_name
from alphacl_jax.training.seeds import SeedsRecorder


def _write(workdir, first, steps):
    recorder = Recorder(workdir)
    recorder.begin(first)
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
    recorder = Recorder(tmp_path)
    recorder.begin(0)
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
        ("train/loss", s): pytest.approx(1 / s) for s in (1, 2, 3)
    }


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("loss", "train/loss"),
        ("learning_rate", "optimizer/learning_rate"),
        ("gradient_norm", "optimizer/gradient_norm"),
        ("energy", "measures/energy"),
        ("images_per_second", "speed/images_per_second"),
        ("probe/knn", "probe/knn"),
    ],
)
def test_tensorboard_groups_names(name, shown):
    assert tensorboard_name(name) == shown


def _values(workdir: Path) -> list:
    return [v for e in _events(workdir / "tensorboard") for v in e.summary.value]


def test_images_and_hyperparameters_are_of_the_same_run_while_it_trains_and_after(tmp_path):
    """All within one second, whose files are not to replace each other."""
    recorder = Recorder(tmp_path)
    recorder.begin(0)
    recorder.write({"step": 1, "loss": 0.5})
    recorder.image("pictures/pairs", np.full((4, 6, 3), 255, np.uint8), 1)
    recorder.close()
    recorder.image("pictures/map", np.zeros((5, 7)), 2)
    recorder.hyperparameters({"lr": 0.1, "widths": (4, 8), "loss": "mine"}, {"knn": 0.75})
    values = {v.tag: v for v in _values(tmp_path)}
    assert set(values) == {
        "train/loss",
        "pictures/pairs",
        "pictures/map",
        "final/knn",
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    }
    assert values["final/knn"].simple_value == 0.75
    sizes = {n: (values[n].image.height, values[n].image.width) for n in values if "pict" in n}
    assert sizes == {"pictures/pairs": (4, 6), "pictures/map": (5, 7)}
    data = HParamsPluginData.FromString(
        values["_hparams_/session_start_info"].metadata.plugin_data.content
    )
    found = data.session_start_info.hparams
    assert found["lr"].number_value == 0.1
    assert found["widths"].string_value == "(4, 8)"
    assert found["loss"].string_value == "mine"
    assert all(path.is_file() for path in (tmp_path / "tensorboard").iterdir())


def test_tensorboard_is_told_from_where_a_run_goes_on(tmp_path):
    _write(tmp_path, 2, [3])
    starts = [
        e.step
        for e in _events(tmp_path / "tensorboard")
        if e.session_log.status == SessionLog.START
    ]
    assert starts == [3]


def _fill_the_disk(monkeypatch, after):
    """Has the next events after so many be ones that there is no room for."""
    written = []

    def write(self, data):
        written.append(data)
        if len(written) > after:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", write)


@pytest.mark.parametrize("after", [1, 3])
def test_events_that_cannot_be_written_cost_one_warning_and_nothing_else(
    tmp_path, monkeypatch, caplog, after
):
    _fill_the_disk(monkeypatch, after)
    _write(tmp_path, 0, range(1, 41))  # more than a queue would hold
    assert [r["step"] for r in read_records(tmp_path / "metrics.jsonl")] == list(range(1, 41))
    (record,) = caplog.records
    assert f"events cannot be written in {tmp_path}/tensorboard (" in record.getMessage()
    assert "No space left on device" in record.getMessage()


def test_a_folder_for_events_that_cannot_be_made(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("in the way")
    _write(tmp_path, 0, [1, 2])
    recorder = Recorder(tmp_path)
    recorder.image("pictures/map", np.zeros((5, 7)), 2)
    recorder.hyperparameters({"lr": 0.1}, {"knn": 0.75})
    assert len(read_records(tmp_path / "metrics.jsonl")) == 2
    (record,) = caplog.records  # of the records, and of what came after them
    assert "all goes on without them" in record.getMessage()
    _write(tmp_path, 2, [3])
    assert len(caplog.records) == 2  # of a run that was started again


def test_what_cannot_be_made_for_tensorboard_costs_one_warning(tmp_path, monkeypatch, caplog):
    def fails(*arguments, **options):
        raise TypeError("no curve of this")

    for kind in ("scalar", "image", "hparams"):
        monkeypatch.setattr(summary, kind, fails)
    recorder = Recorder(tmp_path)
    recorder.image("pictures/map", np.zeros((5, 7)), 2)
    recorder.hyperparameters({"lr": 0.1}, {"knn": 0.75})
    assert len(caplog.records) == 1
    _write(tmp_path, 0, [1, 2])
    assert len(read_records(tmp_path / "metrics.jsonl")) == 2
    assert len(caplog.records) == 2
    assert all("(no curve of this); all goes on" in r.getMessage() for r in caplog.records)


def test_records_start_no_thread_that_could_die(tmp_path):
    before = threading.active_count()
    recorder = Recorder(tmp_path)
    recorder.begin(0)
    recorder.write({"step": 1, "loss": 0.5})
    assert threading.active_count() == before
    recorder.close()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set."""
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def _progress(total, first, per_step, stream, shown=()):
    progress = Progress(total, "images", per_step, shown, stream)
    progress.begin(first)
    return progress


def test_a_pipe_gets_a_line_now_and_then_and_the_last(clock):
    stream = io.StringIO()
    progress = _progress(100, 0, 32, stream, ("energy",))
    for step in range(10, 101, 10):
        clock[0] += 4.0
        progress.update(step, {"loss": 0.25, "energy": 12.5})
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


def test_what_is_shown_is_asked_for_and_resumed(clock):
    stream = io.StringIO()
    progress = _progress(100, 60, 10, stream)
    clock[0] += 2.0
    progress.update(80, {"loss": 1.0, "energy": 3.0})
    assert progress.per_second == 100.0
    assert stream.getvalue().splitlines() == [
        "resuming at step 60 of 100",
        "step 80/100, loss 1.0000, 100 images/s, 2 s left",
    ]


def test_of_several_runs_the_mean_is_shown_and_small_values_keep_their_digits(clock):
    stream = io.StringIO()
    progress = Progress(10, "windows", 1, ("spread", "energy"), stream)
    progress.begin(0)
    clock[0] += 2.0
    progress.update(10, {"loss": [1.0, 2.0], "spread": [0.01, 0.04], "energy": [-30.0, -20.0]})
    assert stream.getvalue() == (
        "step 10/10, loss 1.5000, spread 0.025, energy -25.0, 5 windows/s, 0 s left\n"
    )


def test_compiling_does_not_count(clock):
    stream = io.StringIO()
    progress = _progress(30, 0, 10, stream)
    clock[0] += 60.0
    progress.started(1)
    progress.update(1, {"loss": 1.0})
    clock[0] += 19.0
    progress.update(20, {"loss": 1.0})
    assert progress.per_second == 10.0
    assert stream.getvalue().splitlines() == [
        "step 1/30, loss 1.0000",
        "step 20/30, loss 1.0000, 10 images/s, 10 s left",
    ]


def test_a_terminal_gets_a_bar():
    stream = _Terminal()
    progress = _progress(100, 20, 10, stream, ("energy",))
    progress.update(40, {"loss": 0.125, "energy": 3.0})
    progress.update(100, {"loss": 0.0625, "energy": 3.0})
    progress.close()
    text = stream.getvalue()
    assert "\r 20%|" in text
    assert "100/100 steps" in text
    assert "loss 0.0625, energy 3.0" in text
    assert text.endswith("\n")


@pytest.mark.parametrize("members", [1, 2])
def test_a_record_has_the_speed_of_one_run_in_the_unit_of_the_method(clock, tmp_path, members):
    folders = [tmp_path / str(i) for i in range(members)]
    for folder in folders:
        folder.mkdir()
    recorder = Recorder(folders[0]) if members == 1 else SeedsRecorder(folders)
    stream = io.StringIO()
    records = RunRecords(recorder, Progress(40, "windows", 10 * members, stream=stream))
    records.begin(0)
    records.started(0)
    clock[0] += 7.0
    values = {"loss": 1.0} if members == 1 else {"loss": [1.0, 2.0]}
    records.write({"step": 20, **values}, aside=2.0)
    records.close()
    for i, folder in enumerate(folders):
        (record,) = read_records(folder / "metrics.jsonl")
        assert record == {"step": 20, "loss": 1.0 + i, "windows_per_second": 40.0}
    assert f"{40 * members} windows/s" in stream.getvalue()


def test_what_a_record_warns_of_is_said_once(tmp_path):
    folders = [tmp_path / str(i) for i in range(2)]
    for folder in folders:
        folder.mkdir()
    stream = io.StringIO()
    records = RunRecords(
        SeedsRecorder(folders),
        Progress(40, "images", 8, stream=stream),
        lambda record: "it shrinks" if record["std"] < 0.5 else "",
    )
    records.begin(0)
    for step, std in ((10, [0.9, 0.8]), (20, [0.9, 0.4]), (30, [0.1, 0.1])):
        records.write({"step": step, "loss": [1.0, 1.0], "std": std})
    records.close()
    warned = [line for line in stream.getvalue().splitlines() if "it shrinks" in line]
    assert warned == ["warning: step 20: it shrinks"]
