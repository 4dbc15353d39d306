"""How commands start and end: interruptions, warnings, errors of flags and files."""

import logging
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from absl import flags

from alphacl_jax.cli.data_flags import data_settings_of, define_data_flags
from alphacl_jax.cli.interrupt import plain_interrupts
from alphacl_jax.cli.start import _as_sentence, _PlainFormatter, plain_errors
from alphacl_jax.errors import RunError
from alphacl_jax.runs.settings import DataSettings
from tests.tiny_runs import make_settings


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


def test_other_errors_pass():
    with pytest.raises(ImportError, match="other"), plain_interrupts():
        raise ImportError("other")


def test_a_warning_is_a_sentence():
    record = logging.LogRecord("absl", logging.WARNING, "x.py", 1, "%d of 2 gone", (1,), None)
    assert _PlainFormatter().format(record) == "warning: 1 of 2 gone"


def test_an_error_of_the_system_names_the_file(tmp_path):
    with pytest.raises(RunError, match=r"/gone: No such file or directory$"), plain_errors():
        (tmp_path / "gone").read_text()


def test_a_number_out_of_a_flags_range(monkeypatch):
    values = flags.FlagValues()
    flags.DEFINE_integer("k", 10, "", 1, flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    with pytest.raises(flags.IllegalFlagValueError) as error:
        values(["script", "--k=0"])
    assert _as_sentence(error.value) == "--k=0 must be a whole number >= 1"


def test_paths_mean_the_same_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make_settings("--data_dir=gs://bucket/sets").data.data_dir == "gs://bucket/sets"
    settings = make_settings("--dataset=folder", "--data_dir=photos", "--init_from=../run")
    assert settings.data.data_dir == str(tmp_path / "photos")
    assert settings.model.init_from == str(tmp_path.parent / "run")


def test_a_run_on_arrays_is_looked_at_on_other_data():
    def asked(*arguments: str) -> DataSettings:
        values = flags.FlagValues()
        define_data_flags(values)
        values(["script", *arguments])
        return data_settings_of(values, DataSettings(dataset="arrays"))

    with pytest.raises(RunError, match=r"in memory, .* by --dataset=folder --data_dir=PATH"):
        asked()
    assert asked("--data_dir=photos") == DataSettings(dataset="folder", data_dir="photos")
    assert asked("--dataset=digits").dataset == "digits"
