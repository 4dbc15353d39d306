"""Signals: the first is answered at once and waits for the loop, the second ends the process."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from alphacl_jax.training.signals import stop_requests

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def ctrl_c():
    """As in a terminal: what is started in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_answered_and_told(number, capfd):
    before = signal.getsignal(number)
    with stop_requests() as stop_requested:
        assert stop_requested() is None
        os.kill(os.getpid(), number)
        assert stop_requested() is number
    assert signal.getsignal(number) is before
    assert signal.set_wakeup_fd(-1) == -1
    assert capfd.readouterr().err == (
        f"{number.name} came: saving after this step; once more to leave at once\n"
    )


def test_other_signals_are_not_answered(capfd):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        with stop_requests() as stop_requested:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop_requested() is None
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]
    assert capfd.readouterr().err == ""


def test_a_signal_that_is_ignored_stays_so(capfd):
    """As Ctrl-C in a program that was started in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_requests() as stop_requested:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop_requested() is None
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert capfd.readouterr().err == ""


def test_outside_the_main_thread_nothing_is_asked():
    answers = []

    def body():
        with stop_requests() as stop_requested:
            answers.append(stop_requested())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert answers == [None]


def test_the_second_signal_leaves_in_the_middle_of_a_step(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.training.stubborn_process", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "stepping\n"
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        assert process.stderr.readline() == (
            "SIGINT came: saving after this step; once more to leave at once\n"
        )
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline() == "SIGTERM came again: leaving at once\n"
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        assert time.monotonic() - start < 60  # the step takes five minutes
    finally:
        process.kill()
        process.communicate()
