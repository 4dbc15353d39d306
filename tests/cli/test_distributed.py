"""A run of two processes is the run of one; signals, lost processes, and flags that are wrong."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from alphacl_jax.cli.launch import cluster_of
from alphacl_jax.cli.pretrain import pretrain
from alphacl_jax.cli.run_flags import settings_of
from alphacl_jax.data.recordings import save_recordings
from alphacl_jax.errors import RunError
from alphacl_jax.runs import load_recording_encoder, pretraining
from alphacl_jax.runs.flag_file import to_text
from alphacl_jax.training.records import read_records
from tests.tiny_recordings import TINY_CPC, turning
from tests.tiny_runs import (
    TINY,
    TRAIN_IMAGES,
    last_state,
    make_settings,
    make_values,
    start,
    tiny_settings,
)

HEARTBEAT = 6  # seconds, of the runs whose processes are killed
# Compiling is most of such a short run: a third of the time where XLA does not optimise.
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start_two(*arguments: str) -> list[subprocess.Popen]:
    """Two processes of four devices each, as on two hosts."""
    cluster = [f"--coordinator_address=127.0.0.1:{_free_port()}", "--num_processes=2"]
    environment = os.environ | QUICK | {"JAX_NUM_CPU_DEVICES": "4"}
    return [
        start(
            "pretrain",
            *arguments,
            "--distributed",
            *cluster,
            f"--process_id={i}",
            env=environment,
        )
        for i in range(2)
    ]


def _ends(processes: list[subprocess.Popen], seconds: float = 240) -> list[tuple[int, str, str]]:
    """Exit code, standard output and error of each process."""
    try:
        ends = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *end) for p, end in zip(processes, ends, strict=True)]


def _saved(workdir: Path) -> int:
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdigit()), default=0)


def _wait_for(condition: Callable[[], bool], processes: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        if any(p.poll() is not None for p in processes) or time.monotonic() > deadline:
            for process in processes:
                process.kill()
            raise AssertionError([process.communicate() for process in processes])
        time.sleep(0.02)


def _assert_the_same_run(one: Path, two: Path) -> None:
    """The records and the last states of two runs, to the precision of float32 sums."""
    records = [read_records(workdir / "metrics.jsonl") for workdir in (one, two)]
    assert [r["step"] for r in records[0]] == [r["step"] for r in records[1]]
    for a, b in zip(*records, strict=True):
        for name in set(a) - {"images_per_second"}:
            np.testing.assert_allclose(a[name], b[name], rtol=2e-3, atol=2e-4, err_msg=name)
    states = [last_state(workdir) for workdir in (one, two)]
    assert int(states[0].step) == int(states[1].step)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4),
        (states[0].params, states[0].method_state),
        (states[1].params, states[1].method_state),
    )


# What rounding leaves where a gradient is 0, Adam would make whole steps of.
SGD = ["--optimizer=sgd", "--learning_rate=0.05"]
METHODS = {
    "alpha_direct": [],
    "supcon_out": ["--method=supervised"],
    "directpred": ["--method=siamese", "--predictor=directpred", *SGD],
    "info_nce": [  # in chunks
        "--loss=info_nce",
        "--micro_batch=64",
        "--encoder_norm=group",
        "--projector_norm=none",
        *SGD,
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_of_four_devices_are_one_of_eight(tmp_path, name):
    """On digits, 5 steps; only the first process shows and writes anything."""
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = [*TINY, "--batch_size=256", "--epochs=1", "--log_every=1", "--save_every=3"]
    arguments += METHODS[name]
    processes = _start_two(*arguments, f"--workdir={two}")
    # The probes are another test's; they come after the processes have parted.
    _wait_for(lambda: processes[1].poll() is not None, [])
    ((code, out, err),) = _ends(processes[1:])
    processes[0].kill()
    shown = processes[0].communicate(timeout=60)[1]
    assert (code, out, err) == (0, "", "")
    steps = r"5 steps on 8 cpu devices of 2 processes, "
    assert re.match(f"{name} on digits: .* {steps}", shown)
    environment = os.environ | QUICK | {"JAX_NUM_CPU_DEVICES": "8"}
    alone = start("pretrain", *arguments, f"--workdir={one}", env=environment)
    _wait_for(lambda: _saved(one) == 5, [alone])
    alone.kill()
    alone.communicate()
    _assert_the_same_run(one, two)
    assert (one / "flags.txt").read_text() == (two / "flags.txt").read_text()


def _streamed(flat_folder: Path, workdir: Path, epochs: int) -> list[str]:
    data = ["--dataset=folder", f"--data_dir={flat_folder}", "--memory_limit_mb=0"]
    how = [f"--epochs={epochs}", "--save_every=2", "--log_every=1", f"--workdir={workdir}"]
    return [*TINY, *data, *how]


@pytest.mark.slow
def test_two_processes_train_on_recordings_as_one(tmp_path):
    """The first evaluates alone, without what would need the other."""
    save_recordings(tmp_path / "turns.npz", turning(30))
    arguments = [*TINY_CPC, "--dataset=npz", f"--data_dir={tmp_path}/turns.npz", *SGD]
    arguments += ["--evaluate=quick"]
    processes = _start_two(*arguments, f"--workdir={tmp_path}/two")
    (code, out, err), other = _ends(processes)
    assert code == 0, err
    assert other == (0, "", "")
    assert "8 cpu devices of 2 processes" in err
    assert "held-out windows are not looked at: the run was one of several processes" in out
    assert "raw features" in out
    environment = os.environ | QUICK | {"JAX_NUM_CPU_DEVICES": "1"}
    ((code, out, err),) = _ends(
        [start("pretrain", *arguments, f"--workdir={tmp_path}/one", env=environment)]
    )
    assert code == 0, err
    one, two = (load_recording_encoder(tmp_path / name) for name in ("one", "two"))
    assert one.step == two.step
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), one.params, two.params
    )


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_after_the_same_step(flat_folder, tmp_path):
    processes = _start_two(*_streamed(flat_folder, tmp_path, 100))
    _wait_for(lambda: _saved(tmp_path) > 0, processes)
    processes[1].terminate()
    for code, out, err in _ends(processes):
        assert (code, out) == (128 + signal.SIGTERM, ""), err
        said = re.search(r"^SIGTERM came: step (\d+) of 300 is saved; ", err, re.MULTILINE)
        assert said, err
        assert _saved(tmp_path) == int(said[1])


@pytest.mark.slow
def test_after_a_lost_process_the_other_stops_and_the_run_goes_on(
    flat_folder, tmp_path, monkeypatch
):
    """Streamed; the second process is killed, and both are started again."""
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = _streamed(flat_folder, two, 10)
    processes = _start_two(*arguments, f"--heartbeat_timeout={HEARTBEAT}")
    _wait_for(lambda: _saved(two) > 0, processes)
    processes[1].kill()
    killed = time.monotonic()
    (code, out, err), _ = _ends(processes)
    assert time.monotonic() - killed < HEARTBEAT + 5 + 5  # and what a busy machine takes
    # gloo may end the process before the watch does: the message is then the child process's.
    assert code != 0
    assert out == ""
    assert re.search("error: process [01] was lost", err), err
    assert err.endswith("resumes the run, from its last checkpoint if there is one\n")

    before = _saved(two)
    assert 0 < before < 30
    (code, out, err), other = _ends(_start_two(*arguments))
    assert code == 0, err
    assert f"resuming at step {before} of 30" in err
    assert "There are no labels, so no probe was run" in out
    assert other == (0, "", "")
    assert _saved(two) == 30
    monkeypatch.setattr(pretraining, "evaluate_run", lambda *parts: "")
    pretrain(make_values(*_streamed(flat_folder, one, 10)))
    states = [last_state(workdir) for workdir in (one, two)]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-2, atol=5e-3),
        states[0].params,
        states[1].params,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "number"), [(0, "SIGKILL"), (0, "SIGSTOP"), (1, "SIGSTOP")])
def test_a_lost_process_ends_the_others(flat_folder, tmp_path, victim, number):
    """Where the first one is lost, JAX ends the second in C++; it has the last words, though."""
    workdir = tmp_path / "run"
    arguments = _streamed(flat_folder, workdir, 400)
    processes = _start_two(*arguments, f"--heartbeat_timeout={HEARTBEAT}")
    _wait_for(lambda: _saved(workdir) > 0, processes)
    processes[victim].send_signal(signal.Signals[number])
    survivor = processes[1 - victim]
    err = survivor.communicate(timeout=4 * HEARTBEAT + 10)[1]
    processes[victim].kill()
    processes[victim].communicate()
    assert survivor.returncode != 0
    assert "on all hosts resumes the run, from its last checkpoint if there is one" in err
    assert re.search(f"error: process {victim}(, which coordinates the others,)? ", err), err
    assert "was lost" in err
    assert "Extension modules" not in err


@pytest.mark.slow
def test_an_error_of_one_process_ends_the_other(flat_folder, tmp_path):
    """The second host does not see the data; the folder of the first holds another run."""
    workdir = tmp_path / "run"
    for bad, message in ((0, "holds a run with other flags: --seed is 0"), (1, "does not exist")):
        arguments = _streamed(flat_folder, workdir, 2)
        extra = [f"--data_dir={tmp_path}/none"] if bad else ["--seed=1"]
        if not bad:
            tiny = tiny_settings(*arguments)
            workdir.mkdir(exist_ok=True)
            (workdir / "flags.txt").write_text(to_text(tiny))
        cluster = [f"--coordinator_address=127.0.0.1:{_free_port()}", "--num_processes=2"]
        processes = [
            start(
                "pretrain",
                *arguments,
                # The same settings on both, or they would not agree.
                *(extra if i == bad or not bad else []),
                "--distributed",
                *cluster,
                f"--process_id={i}",
                env=os.environ | QUICK | {"JAX_NUM_CPU_DEVICES": "4"},
            )
            for i in range(2)
        ]
        ends = _ends(processes)
        assert [code for code, _, _ in ends] == [1, 1], ends
        assert re.search(f"^error: .*{message}", ends[bad][2], re.MULTILINE), ends
        assert f"error: process {bad} stopped: " in ends[1 - bad][2]
        assert message in ends[1 - bad][2]


def _start_each(*own: list[str]) -> list[subprocess.Popen]:
    """Processes of one device each, with arguments of their own."""
    cluster = [f"--coordinator_address=127.0.0.1:{_free_port()}", f"--num_processes={len(own)}"]
    environment = os.environ | QUICK | {"JAX_NUM_CPU_DEVICES": "1"}
    return [
        start("pretrain", "--distributed", *cluster, f"--process_id={i}", *own[i], env=environment)
        for i in range(len(own))
    ]


@pytest.mark.slow
def test_hosts_with_other_settings_do_not_train(tmp_path):
    """Each of these trained something wrong, or hung, or ended in an abort."""
    same = [*TINY, f"--workdir={tmp_path}/run"]
    other = ["--learning_rate=0.5", "--seed=3", "--epochs=7", "--loss=mine", "--batch_size=16"]
    for code, out, err in _ends(_start_each(same, [*same, *other])):
        assert (code, out) == (1, "")
        (said,) = [line for line in err.splitlines() if line.startswith("error: ")]
        for flag in other:
            name, _, value = flag.partition("=")
            assert re.search(f"{name} is .* in process 0 and '?{value}'? in process 1", said), said
        assert "; and " not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_hosts_with_other_numbers_of_processes_do_not_train(tmp_path):
    """JAX joins a process that waits for a third one with another that does not."""
    same = [*TINY, f"--workdir={tmp_path}/run"]
    for code, out, err in _ends(_start_each(same, [*same, "--num_processes=3"])):
        assert (code, out) == (1, "")
        assert "--num_processes is 2 in process 0 and 3 in process 1" in err


@pytest.mark.slow
def test_hosts_with_other_images_do_not_train(tmp_path):
    """The same names and sizes; one pixel of one image differs."""
    each = []
    for changed in (0, 1):
        folder = tmp_path / str(changed)
        folder.mkdir()
        for i, pixels in enumerate(TRAIN_IMAGES):
            own = pixels.copy()
            own[0, 0, 0] ^= changed * (i == 3)
            Image.fromarray(own).save(folder / f"{i:02}.bmp")
        data = ["--dataset=folder", f"--data_dir={folder}", f"--workdir={tmp_path}/run"]
        each.append([*TINY, *data])
    for code, out, err in _ends(_start_each(*each)):
        assert (code, out) == (1, "")
        assert re.search(
            r"image 3 is '03.bmp, contents \w+' in process 0 and '03.bmp, contents", err
        ), err


@pytest.mark.slow
def test_hosts_that_see_folders_of_one_name_that_are_not_one(tmp_path):
    """Each has a run in a folder of its own, as two machines may have under the same path."""
    each = []
    for i in range(2):
        folder = tmp_path / str(i)
        folder.mkdir()
        each.append([*TINY, f"--workdir={folder}"])
    (tmp_path / "1" / "flags.txt").write_text(to_text(tiny_settings()))
    first, second = _ends(_start_each(*each))
    assert first[0] == second[0] == 1
    assert "process 1 stopped: this host does not see the run folder" in first[2]
    assert "that process 0 made, or sees another one of that name" in second[2]


@pytest.mark.slow
def test_processes_that_do_not_come(tmp_path):
    address = f"127.0.0.1:{_free_port()}"
    arguments = ["--num_processes=2", "--process_id=0", "--join_timeout=3"]
    process = start("pretrain", "--distributed", f"--coordinator_address={address}", *arguments)
    ((code, out, err),) = _ends([process], 60)
    assert (code != 0, out) == (True, "")
    assert f"error: not all 2 processes of the run came together within 3 s at {address}" in err


def test_no_cluster_to_detect():
    ((code, out, err),) = _ends([start("pretrain", "--distributed")])
    assert (code, out) == (1, "")
    assert err.startswith("error: --distributed: no cluster that JAX knows was found (")
    assert err.endswith("Give --coordinator_address, --num_processes and --process_id\n")
    assert err.count("\n") == 1


ALL = "--distributed --coordinator_address=h:1 --num_processes=2 --process_id=1"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--process_id=1", "--process_id is set, and only --distributed reads it"),
        ("--heartbeat_timeout=9", "--heartbeat_timeout is set, and only --distributed reads it"),
        ("--distributed --process_id=1", "needs --coordinator_address, --num_processes too: give"),
        ("--distributed --coordinator_address=h:1 --process_id=0", "needs --num_processes too"),
        (f"{ALL} --process_id=2", "--process_id=2 must be less than --num_processes=2"),
        (f"{ALL} --num_seeds=3", "--num_seeds=3 is for one process. .* a run for each --seed"),
    ],
)
def test_flags_that_do_not_fit(flags, message):
    with pytest.raises(RunError, match=message):
        cluster_of(make_values(*flags.split()))


def test_the_cluster_of_the_flags_is_no_part_of_the_run():
    assert cluster_of(make_values()) is None
    values = make_values(*ALL.split())
    cluster = cluster_of(values)
    assert cluster is not None
    assert (cluster.coordinator_address, cluster.num_processes, cluster.process_id) == ("h:1", 2, 1)
    assert settings_of(values) == make_settings()
    detected = cluster_of(make_values("--distributed"))
    assert detected is not None
    assert detected.process_id is None
