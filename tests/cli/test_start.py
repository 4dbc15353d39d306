"""How commands start and end: warnings, errors of flags and files."""

import logging
import os
from pathlib import Path

import pytest
from absl import flags

from alphacl_jax.cli.data_flags import data_settings_of, define_data_flags
from alphacl_jax.cli.start import _as_sentence, _PlainFormatter, plain_errors
from alphacl_jax.errors import RunError
from alphacl_jax.runs.settings import DataSettings
from tests.tiny_runs import make_settings


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


def test_a_switch_is_no_word(monkeypatch):
    values = flags.FlagValues()
    flags.DEFINE_bool("show", False, "", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    with pytest.raises(flags.IllegalFlagValueError) as error:
        values(["script", "--show=maybe"])
    assert _as_sentence(error.value) == "--show=maybe must be true or false: --show or --noshow"


def test_paths_mean_the_same_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make_settings("--data_dir=gs://bucket/sets").data.data_dir == "gs://bucket/sets"
    settings = make_settings("--dataset=folder", "--data_dir=photos", "--init_from=../run")
    assert settings.data.data_dir == str(tmp_path / "photos")
    assert settings.model.init_from == str(tmp_path.parent / "run")
    assert make_settings("--data_dir=~").data.data_dir == str(Path.home())
    # The folder above the one that a link leads to, not the link's.
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/deep")
    found = make_settings("--dataset=folder", "--data_dir=link/../data").data.data_dir
    assert os.path.isabs(found)
    assert os.path.realpath(found) == str((tmp_path / "far" / "data").resolve())


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
