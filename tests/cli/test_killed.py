"""Killed and started again, a run ends bitwise where an uninterrupted one does; and its output."""

import fcntl
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_runs import TINY, assert_same_end, start

# 1,297 digits: 20 steps of 64 per epoch. Saved so often that many kills fall into a save.
DIGITS = [
    "--widths=4",
    "--projector_hidden=8",
    "--projector_dim=4",
    "--batch_size=64",
    "--epochs=3",
    "--warmup_epochs=1",
    "--save_every=3",
    "--log_every=4",
]


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"it ended with {process.returncode}: {out}{err}")
        time.sleep(0.005)


def _newest(workdir: Path) -> int:
    """The step of the newest checkpoint, 0 where there is none."""
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdigit()), default=0)


def _kill_at_random(arguments: list[str], workdir: Path, seconds: float) -> float:
    """Starts the run and kills it up to `seconds` after its next checkpoint."""
    process = start("pretrain", *arguments, f"--workdir={workdir}")
    before = _newest(workdir)
    _wait_for(lambda: _newest(workdir) > before, process)
    delay = random.uniform(0, seconds)
    time.sleep(delay)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return delay


def _train_to_the_end(arguments: list[str], workdir: Path, steps: int) -> None:
    """Runs the command until its last step is saved; the evaluation is cut short."""
    process = start("pretrain", *arguments, f"--workdir={workdir}")
    _wait_for(lambda: _newest(workdir) == steps, process)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_killed_at_a_random_moment_digits_end_bitwise_the_same(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    delay = _kill_at_random(DIGITS, killed, 0.7)
    stopped_at = _newest(killed)
    print(f"killed {delay:.3f} s after the first checkpoint, at step {stopped_at}")
    assert 0 < stopped_at < 60
    for workdir in (whole, killed):
        _train_to_the_end(DIGITS, workdir, 60)
    assert_same_end(whole, killed)
    lines = [(workdir / "metrics.jsonl").read_text().splitlines() for workdir in (whole, killed)]
    steps = [[json.loads(line)["step"] for line in part] for part in lines]
    assert steps[0] == steps[1]


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True])
def test_killed_again_and_again_a_run_ends_bitwise_the_same(flat_folder, tmp_path, streamed):
    """The whole command each time, the last one to its end."""
    arguments = DIGITS
    if streamed:
        folder = ["--dataset=folder", f"--data_dir={flat_folder}", "--memory_limit_mb=0"]
        arguments = [*TINY, *folder, "--epochs=30", "--save_every=2", "--warmup_epochs=1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for _ in range(5):
        _kill_at_random(arguments, killed, 0.4)
    for workdir in (whole, killed):
        process = start("pretrain", *arguments, f"--workdir={workdir}")
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "pictures and figures" in out
    assert_same_end(whole, killed)


def _end_by_sigterm(arguments: list[str], workdir: Path) -> str:
    """Starts a run, has SIGTERM end it after its first checkpoint; what it said."""
    process = start("pretrain", *arguments, f"--workdir={workdir}")
    _wait_for(lambda: _newest(workdir) > 0, process)
    process.terminate()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert out == ""
    return err


def _streamed(folder: Path) -> list[str]:
    data = ["--dataset=folder", f"--data_dir={folder}", "--memory_limit_mb=0"]
    return [*TINY, *data, "--epochs=20", "--log_every=2", "--save_every=7"]


def test_sigterm_saves_and_says_so(flat_folder, tmp_path):
    """Streamed; through a pipe, where what is shown is lines."""
    err = _end_by_sigterm(_streamed(flat_folder), tmp_path)
    lines = err.splitlines()
    said = re.fullmatch(
        r"SIGTERM came: step (\d+) of 60 is saved; the same command resumes there", lines[-1]
    )
    assert said, err
    assert _newest(tmp_path) == int(said[1])
    assert re.fullmatch(
        r"alpha_direct on flat\d*: 24 images of 8x8x3, [\d,]+ parameters, 60 steps on 1 cpu "
        rf"device, run folder {tmp_path}",
        lines[0],
    )
    assert re.fullmatch(r"augmentation: simclr\b.*", lines[1])
    assert re.fullmatch(r"step \d+/60, loss -?\d+\.\d{4}, energy -?\d+\.\d.*", lines[2])
    assert "SIGTERM came: saving after this step; once more to leave at once" in lines
    assert "\r" not in err
    assert "\x1b" not in err


@pytest.mark.slow
def test_what_sigterm_ended_is_resumed(flat_folder, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    arguments = _streamed(flat_folder)
    _end_by_sigterm(arguments, stopped)
    for workdir in (whole, stopped):
        _train_to_the_end(arguments, workdir, 60)
    assert_same_end(whole, stopped)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_after_training_says_what_is_saved(flat_folder, tmp_path, number, status):
    folder = ["--dataset=folder", f"--data_dir={flat_folder}"]
    workdir = tmp_path / "run"
    process = start("pretrain", *TINY, *folder, f"--workdir={workdir}")
    _wait_for(lambda: _newest(workdir) == 6, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (status, ""), err
    said = err.splitlines()[-1]
    assert said.split(". ")[1].startswith(f"Saved is step 6 of 6 of the run in {workdir}; give")
    words = [*TINY, *folder, f"--workdir={workdir}"]
    assert said.endswith(f" -m experiments.pretrain {' '.join(words)}")
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.5, 2.0, 4.0])
def test_a_signal_while_a_program_starts_is_not_lost(flat_folder, tmp_path, seconds):
    folder = ["--dataset=folder", f"--data_dir={flat_folder}"]
    process = start("pretrain", *TINY, *folder, "--epochs=9999", f"--workdir={tmp_path}/run")
    time.sleep(seconds)
    process.terminate()
    _, err = process.communicate(timeout=240)
    # Before Python has loaded our first lines, the system ends it.
    assert process.returncode in (-15, 143), err
    assert ("SIGTERM came" in err) == (process.returncode == 143)
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_terminal_is_shown_a_bar(flat_folder, tmp_path):
    terminal, other_end = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    folder = ["--dataset=folder", f"--data_dir={flat_folder}"]
    arguments = [*TINY, *folder, "--log_every=1", f"--workdir={tmp_path}/run"]
    process = start("pretrain", *arguments, stderr=other_end)
    os.close(other_end)
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # what Linux says where the other end is closed
        pass
    os.close(terminal)
    out, _ = process.communicate(timeout=120)
    text = shown.decode()
    assert process.returncode == 0, text
    assert re.search(r"\r *\d+%\|.*\| [3-6]/6 steps, .* left, loss -?\d\.\d{4}, energy ", text), (
        text
    )
    assert "6/6 steps" in text
    assert "images/s" in text
    assert "There are no labels, so no probe was run" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("argument", "status", "message"),
    [
        ("--temperature=0", 1, "error: --temperature=0 is out of range; it must be a finite "),
        ("--epochs=-1", 1, "error: --epochs=-1 is out of range; it must be a finite number >= 1"),
        ("--epochs=ten", 2, "error: --epochs=ten must be a whole number (--help lists the flags)"),
        ("--epoch=3", 2, "error: unknown flag --epoch. Did you mean --epochs?"),
        ("--lr=3", 2, "error: unknown flag --lr. Did you mean --learning_rate?"),
        ("--loss=simclr", 1, "error: --loss=simclr is unknown. Did you mean info_nce? It must be "),
        ("--flagfile=none", 2, "error: Unable to open flagfile: "),
    ],
)
def test_the_script_ends_with_one_line(argument, status, message):
    process = start("pretrain", argument)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (status, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
