"""What is said of a process that ended without a word of its own: how it ended decides."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from alphacl_jax.training import last_words
from alphacl_jax.training.last_words import Words, sentence

ROOT = Path(__file__).parents[2]
WORDS = Words(aborted="process 0 was lost", killed="this one was killed", resume="Go on")
ABORTED = ["Fatal Python error: Aborted\n", "\n", "Thread 0x1:\n", "Extension modules: a, b\n"]
CRASHED = ["Fatal Python error: Segmentation fault\n", "  File x\n", "Extension modules: a, b\n"]

# A process with faulthandler as absl's `app.run` leaves it.
PROGRAM = """
import faulthandler, os, signal, sys
faulthandler.enable()
from alphacl_jax.training.last_words import LastWords, Words
words = LastWords()
words.say(Words("first", "first", "first"))
words.say(Words(aborted="process 0 was lost", killed="this one was killed", resume="Go on"))
"""


def _end_of(how: str) -> tuple[int, str]:
    """Exit code and what is on standard error, which the child holds open until it has spoken."""
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM + how], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    return process.returncode, process.stderr


def test_of_a_process_that_its_own_code_aborts_nothing_but_what_was_lost_is_said():
    assert _end_of("os.abort()") == (-6, "error: process 0 was lost. Go on\n")


def test_of_a_process_that_is_killed():
    assert _end_of("os.kill(os.getpid(), 9)") == (-9, "error: this one was killed. Go on\n")


def test_of_a_process_that_crashes_the_stacks_are_shown_without_the_modules():
    code, said = _end_of("faulthandler._sigsegv()")
    assert code == -11
    assert said.startswith("Fatal Python error: Segmentation fault\n")
    assert "Extension modules" not in said
    assert said.endswith("\nerror: this process crashed (Segmentation fault). Go on\n")


def test_once_it_is_released_nothing_is_said_and_faults_are_shown_as_before():
    assert _end_of("words.release()") == (0, "")
    code, said = _end_of("words.release(); os.abort()")
    assert code == -6
    assert said.startswith("Fatal Python error: Aborted\n")
    assert "Go on" not in said


# A run of one process that its own signal ends: between two steps, and in a library for long.
TWICE = """
from alphacl_jax.training.signals import stop_requests
with joined(cluster), stop_requests():
    for number in (signal.SIGTERM, signal.SIGTERM):
        os.kill(os.getpid(), number)
        time.sleep(0.2)
    time.sleep(60)
"""
IN_C = """
from alphacl_jax.cli import interrupt
interrupt._SECONDS_TO_END = 0.2
with interrupt.plain_interrupts(["again"]), joined(cluster):
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        time.sleep(60)
"""
JOINED = """
import os, signal, time
from alphacl_jax.training.hosts import Cluster, joined
cluster = Cluster("127.0.0.1:{port}", 1, 0, 60, 60)
"""


@pytest.mark.parametrize("how", [TWICE, IN_C], ids=["a second signal", "in a library"])
def test_a_process_that_its_own_signal_ends_was_not_killed_from_outside(how):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        program = JOINED.format(port=probe.getsockname()[1]) + how
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 143
    assert "SIGTERM came" in process.stderr
    assert "killed" not in process.stderr


def test_the_sentence_tells_a_lost_coordinator_from_one_that_hangs_or_answers(monkeypatch):
    monkeypatch.setattr(last_words, "_SECONDS_TO_ANSWER", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        place = listener.getsockname()
        words = Words("it was lost", "killed", "Go on", place, "it hangs", "it is there")
        assert sentence(words, ABORTED) == "error: it hangs. Go on"
        listener.accept()[0].close()  # of that try

        def answer():
            with listener.accept()[0] as connection:
                connection.sendall(b"\0")

        thread = threading.Thread(target=answer)
        thread.start()
        assert sentence(words, ABORTED) == "error: it is there. Go on"
        thread.join()
    assert sentence(words, ABORTED) == "error: it was lost. Go on"


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ([], "error: this one was killed. Go on"),
        (ABORTED, "error: process 0 was lost. Go on"),
        (
            CRASHED,
            "Fatal Python error: Segmentation fault\n  File x\n"
            "error: this process crashed (Segmentation fault). Go on",
        ),
    ],
)
def test_the_sentence(trace, said):
    assert sentence(WORDS, trace) == said
