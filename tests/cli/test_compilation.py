"""Compiled programs that are kept: where, whose word counts, and what trouble with them does."""

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest
from absl import flags

from alphacl_jax.cli import compilation
from alphacl_jax.errors import RunError
from tests.tiny_runs import ROOT, TINY, assert_same_end

_DIR, _SECONDS = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"


def _values(*arguments: str) -> flags.FlagValues:
    values = flags.FlagValues()
    compilation.define_cache_flag(values)
    values(["script", *arguments])
    return values


@pytest.fixture
def configured(monkeypatch, tmp_path) -> dict[str, object]:
    """What is set of JAX, which is not set in this process; no variables but a cache folder."""
    found: dict[str, object] = {}
    monkeypatch.setattr(compilation, "_configure", found.__setitem__)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    for name in (_DIR, _SECONDS):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


@pytest.fixture
def warned(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(compilation.logging, "warning", lambda text, *of: lines.append(text % of))
    return lines


@pytest.mark.parametrize(
    ("root", "platform", "expected"),
    [
        ("/caches", "linux", "/caches/alphacl_jax/compiled"),
        (None, "linux", "/home/me/.cache/alphacl_jax/compiled"),
        ("relative", "linux", "/home/me/.cache/alphacl_jax/compiled"),
        (None, "darwin", "/home/me/Library/Caches/alphacl_jax/compiled"),
    ],
)
def test_the_default_is_in_the_users_cache_folder(monkeypatch, root, platform, expected):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if root is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", root)
    monkeypatch.setattr(compilation.sys, "platform", platform)
    assert compilation.default_folder() == Path(expected)


def test_the_default_is_for_this_machine_and_keeps_what_takes_a_while(configured, tmp_path):
    compilation.keep_programs(_values())
    folder = tmp_path / "cache/alphacl_jax/compiled" / compilation.machine()
    assert configured == {_DIR: str(folder), _SECONDS: 0.1}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(folder.iterdir())  # the trial is gone


def test_the_environment_is_before_the_default_and_the_flag_before_both(
    configured, monkeypatch, tmp_path
):
    monkeypatch.setenv(_DIR.upper(), "/mine")
    monkeypatch.setenv(_SECONDS.upper(), "3")
    compilation.keep_programs(_values())
    assert configured == {}
    compilation.keep_programs(_values(f"--compilation_cache={tmp_path}"))
    assert configured == {_DIR: str(tmp_path / compilation.machine())}
    compilation.keep_programs(_values("--compilation_cache=none"))
    assert configured == {_DIR: ""}


def test_a_folder_needs_a_name(configured):
    with pytest.raises(RunError, match=r"--compilation_cache is empty\. Give a folder, or none"):
        compilation.keep_programs(_values("--compilation_cache="))
    assert configured == {}


def test_a_jaxlib_that_prints_lines_for_what_it_finds_keeps_none_by_itself(
    configured, monkeypatch, tmp_path
):
    monkeypatch.setattr(compilation.importlib.metadata, "version", lambda name: "0.10.1.dev3")
    compilation.keep_programs(_values())
    assert configured == {}
    compilation.keep_programs(_values(f"--compilation_cache={tmp_path}"))
    assert configured[_DIR] == str(tmp_path / compilation.machine())


def test_no_home_is_one_warning(configured, monkeypatch, warned):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(compilation.Path, "home", no_home)
    compilation.keep_programs(_values())
    assert configured == {_DIR: ""}
    assert len(warned) == 1
    assert "Could not determine home directory" in warned[0]


def test_a_full_disk_is_one_warning_that_names_the_folder(
    configured, monkeypatch, warned, tmp_path
):
    monkeypatch.setattr(
        compilation.tempfile, "TemporaryFile", lambda dir: io.FileIO("/dev/full", "w")
    )
    compilation.keep_programs(_values(f"--compilation_cache={tmp_path}"))
    assert configured == {_DIR: ""}
    assert len(warned) == 1
    assert f"{tmp_path / compilation.machine()}: No space left on device" in warned[0]


def test_another_processor_has_another_folder(monkeypatch):
    listing = "processor : 0\nmodel : 17\nflags : sse avx2\ncpu MHz : 1000\n\nprocessor : 1\n"
    names = []
    for text in (listing, listing.replace("1000", "2000"), listing.replace("avx2", "avx2 avx512f")):
        monkeypatch.setattr(compilation.Path, "read_text", lambda path, text=text: text)
        names.append(compilation.machine())
    assert names[0] == names[1] != names[2]


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    for i, name in enumerate(["new-cache", "old-cache", "older-cache", "oldest-but-foreign"]):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (10**9 - i, 10**9 - i))
    os.utime(tmp_path / "older-cache", (2 * 10**9, 10**9 - 2))  # written long ago, and read since
    compilation.remove_oldest(tmp_path, 250)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"new-cache", "older-cache", "oldest-but-foreign"}


def test_an_option_reaches_a_loaded_jax_and_processes_that_are_started(monkeypatch):
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    monkeypatch.setenv(_SECONDS.upper(), "0")
    try:
        compilation._configure(_SECONDS, 0.5)
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.5
        assert os.environ[_SECONDS.upper()] == "0.5"
    finally:
        jax.config.update(_SECONDS, before)


def test_help_shows_the_flag_also_of_a_command_that_compiles_nothing_itself():
    command = [sys.executable, "-m", "alphacl_jax.cli", "compare", "--help"]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "compiled programs:\n  --compilation_cache=" in shown


# A process that compiles programs, and says how many it found.
_PROGRAM = """
import sys
from pathlib import Path
from absl import flags
from alphacl_jax.cli.compilation import define_cache_flag, keep_programs
define_cache_flag(flags.FLAGS)
flags.FLAGS(sys.argv)
keep_programs(flags.FLAGS)
import jax
import jax.numpy as jnp
assert jax.config.jax_compilation_cache_dir == sys.argv[2]
found = []
jax.monitoring.register_event_listener(
    lambda event, **_: found.append(event) if event.endswith("/cache_hits") else None
)
x = jnp.ones((8, 8))
jax.block_until_ready(jax.jit(lambda x: jnp.tanh(x @ x))(x))
if len(sys.argv) > 3:  # the folder goes away
    for path in Path(sys.argv[2]).iterdir():
        path.unlink()
    Path(sys.argv[2]).rmdir()
jax.block_until_ready(jax.jit(lambda x: jnp.sort(x @ x, axis=0))(x))
jax.block_until_ready(jax.jit(lambda x: jnp.sin(x) @ x)(x))
print(len(found))
"""


def _start(root: Path, *more: str) -> subprocess.Popen:
    folder = root / compilation.machine()
    command = [sys.executable, "-c", _PROGRAM, f"--compilation_cache={root}", str(folder), *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT), _SECONDS.upper(): "0"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def test_processes_share_programs_also_at_once_and_replace_broken_ones(tmp_path):
    both = [_start(tmp_path), _start(tmp_path)]
    for process in both:
        _, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
    kept = sorted((tmp_path / compilation.machine()).iterdir())
    assert len(kept) >= 3

    later = _start(tmp_path)
    found, errors = later.communicate()
    assert (int(found), errors) == (len(kept), "")

    sizes = [path.stat().st_size for path in kept]
    for path in kept:
        path.write_bytes(path.read_bytes()[:20])
    after = _start(tmp_path)
    found, errors = after.communicate()
    assert (int(found), errors, after.returncode) == (0, "", 0)
    assert [path.stat().st_size for path in kept] == pytest.approx(sizes, rel=0.1)


def test_a_folder_that_goes_away_is_one_line(tmp_path):
    process = _start(tmp_path, "remove")
    _, errors = process.communicate()
    assert process.returncode == 0
    lines = [line for line in errors.splitlines() if line]
    assert len(lines) == 1, errors
    assert f"cannot be kept in {tmp_path / compilation.machine()}" in lines[0]


def _pretrain(workdir: Path, cache: Path) -> str:
    """Trains as a person would, and returns what is said to stderr."""
    command = [sys.executable, "-m", "alphacl_jax.cli", "pretrain", *TINY, "--epochs=1"]
    command += [f"--workdir={workdir}", f"--compilation_cache={cache}", "--evaluate=none"]
    command += ["--batch_size=512"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stderr


@pytest.mark.slow  # three runs, two of them compiled
def test_a_run_is_the_same_bit_by_bit_wherever_its_programs_come_from(tmp_path):
    file = tmp_path / "file"
    file.touch()
    errors = _pretrain(tmp_path / "without", file)
    lines = [line for line in errors.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1, errors
    assert f"compiled programs are not kept: {file / compilation.machine()}: Not a direct" in errors

    cache = tmp_path / "cache"
    _pretrain(tmp_path / "first", cache)
    kept = sorted(cache.rglob("*-cache"))
    assert any(path.name.startswith("jit_train_step-") for path in kept)
    _pretrain(tmp_path / "second", cache)
    assert sorted(cache.rglob("*-cache")) == kept  # nothing that is kept was compiled again
    assert_same_end(tmp_path / "without", tmp_path / "first")
    assert_same_end(tmp_path / "first", tmp_path / "second")
