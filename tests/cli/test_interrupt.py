"""Ctrl-C and SIGTERM where no training loop answers: a sentence, a status, and no waiting."""

import contextlib
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from alphacl_jax.cli.interrupt import own_command, plain_interrupts, tell_kept


@pytest.fixture
def ctrl_c():
    """As in a terminal: what is started in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_who_starts_a_program_in_the_background_keeps_ctrl_c_from_it(ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with plain_interrupts():
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("swallowed", [False, True], ids=["plain", "as an ImportError"])
def test_ctrl_c_ends_in_a_sentence(capsys, swallowed, monkeypatch, ctrl_c):
    monkeypatch.setattr(threading, "Timer", lambda *_: SimpleNamespace(start=lambda: None))
    before = signal.getsignal(signal.SIGINT)

    def interrupted() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            if swallowed:
                raise ImportError("cannot import name x") from error
            raise

    with pytest.raises(SystemExit) as end, plain_interrupts():
        interrupted()
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == (
        "interrupted. What was finished is kept; give the same command again to go on"
    )
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_that_a_library_drops_ends_the_program_all_the_same():
    program = (
        "import signal, time\n"
        "from alphacl_jax.cli import interrupt\n"
        "interrupt._SECONDS_TO_END = 0.2\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with interrupt.plain_interrupts():\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n"
        "        time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.startswith("interrupted. ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "status", "start"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "SIGTERM came")],
)
def test_what_is_kept_and_the_command_that_goes_on_are_said(
    capsys, monkeypatch, ctrl_c, number, status, start
):
    monkeypatch.setattr(threading, "Timer", lambda *_: SimpleNamespace(start=lambda: None))
    command = ["alphacl", "pretrain", "--data_dir=/my photos"]

    def interrupted():
        tell_kept(lambda: "Saved is step 3 of 9")
        signal.raise_signal(number)

    # Two, as `alphacl` has one around its imports, too.
    with pytest.raises(SystemExit) as end, plain_interrupts(command), plain_interrupts(command):
        interrupted()
    assert end.value.code == status
    assert capsys.readouterr().err.strip() == (
        f"{start}. Saved is step 3 of 9; give the same command again to go on: "
        "alphacl pretrain '--data_dir=/my photos'"
    )


def test_a_signal_that_everybody_drops_has_its_status_all_the_same(monkeypatch, ctrl_c):
    monkeypatch.setattr(threading, "Timer", lambda *_: SimpleNamespace(start=lambda: None))

    def dropped():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as end, plain_interrupts():
        dropped()
    assert end.value.code == 143


_IN_C = """
import ctypes, signal, threading
from alphacl_jax.cli import interrupt
interrupt._SECONDS_TO_END = {seconds}
signal.signal(signal.SIGINT, signal.default_int_handler)
with interrupt.plain_interrupts(["again"]):
    threading.Timer(1.0, print, ["in C"], {{"flush": True}}).start()
    # As a library that compiles: Python's handlers wait until it returns, and this one never does.
    mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    for _ in range(2):
        library.pthread_mutex_lock(mutex)
"""


@pytest.mark.parametrize("second", [False, True])
def test_a_library_that_does_not_return_keeps_nobody_waiting(second):
    program = _IN_C.format(seconds=60 if second else 0.2)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        assert process.stdout.readline() == "in C\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline().startswith("SIGTERM came. What was finished is kept; ")
        if second:
            process.send_signal(signal.SIGINT)
            assert process.stderr.readline() == "SIGINT came again: leaving at once\n"
        assert process.wait(40) == (130 if second else 143)


def test_a_library_is_not_interrupted_while_it_is_loaded(tmp_path):
    """It may end the process by `abort`, or make other errors of it."""
    (tmp_path / "library.py").write_text(
        "import signal\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "except KeyboardInterrupt:\n"
        "    signal.raise_signal(signal.SIGABRT)\n"
    )
    program = (
        "from alphacl_jax.cli.interrupt import plain_interrupts\n"
        "import sys\n"
        f"sys.path.append({str(tmp_path)!r})\n"
        "with plain_interrupts(['again']):\n"
        "    import library\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 143
    assert done.stderr == (
        "SIGTERM came. What was finished is kept; give the same command again to go on: again\n"
    )


def test_the_command_is_shown_as_it_was_typed(monkeypatch):
    typed = ["/usr/bin/python", "/home/me/.venv/bin/alphacl", "pretrain", "--seed=1"]
    monkeypatch.setattr(sys, "orig_argv", typed)
    assert own_command() == ["alphacl", "pretrain", "--seed=1"]
    typed = ["python", "-m", "experiments.pretrain", "--seed=1"]
    monkeypatch.setattr(sys, "orig_argv", typed)
    assert own_command() == typed


def test_other_errors_pass():
    with pytest.raises(ImportError, match="other"), plain_interrupts():
        raise ImportError("other")
