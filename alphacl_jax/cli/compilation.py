"""Compiled programs are kept for the next process: in which folder, which, and how many.

JAX keeps them where it is told to, and finds one by the program, the version of jaxlib, the devices
and XLA's options. What is added here is a place, which of them are worth keeping, a bound, and that
no trouble with the folder ends a run.
"""

import glob
import hashlib
import importlib.metadata
import os
import platform
import re
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from absl import flags, logging

from alphacl_jax.errors import RunError
from alphacl_jax.files import in_words, name_file

CACHE = "compilation_cache"

_NONE = "none"
_DIR = "jax_compilation_cache_dir"
_MIN_SECONDS = "jax_persistent_cache_min_compile_time_secs"
# Nearly all that a command compiles for, in about half of its programs:
# `python -m experiments.benchmarks.startup` prints both.
_WORTH_KEEPING_SECONDS = 0.1
_MAX_BYTES = 10**9
# Before this one, two lines about the processor are printed for each program that is found, on x86
# with AVX-512.
_QUIET_JAXLIB = (0, 10, 2)
# Lines of /proc/cpuinfo that say for which processor code is made.
_OF_THE_CODE = (
    "vendor_id", "cpu family", "model", "flags",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features",
)  # fmt: skip
_TROUBLE = re.compile(r"Error (\w+) persistent compilation cache entry for '(.*?)': (.*)", re.S)


def define_cache_flag(values: flags.FlagValues) -> None:
    """Defines the flag that says where compiled programs are kept."""
    flags.DEFINE_string(
        CACHE,
        None,
        "Folder for compiled programs, so that the next process need not compile them again, or "
        "none. Default: alphacl_jax/compiled in the user's cache folder, unless "
        "JAX_COMPILATION_CACHE_DIR is set.",
        flag_values=values,
    )


def keep_programs(values: flags.FlagValues) -> None:
    """Has this process, and those that it starts, keep compiled programs and find kept ones.

    The flag counts first, then what the environment has for JAX, then the default. Loads no JAX.

    Args:
      values: with the flag of `define_cache_flag`.

    Raises:
      RunError: for a flag that is empty.
    """
    given = values[CACHE].value
    if given == "":
        raise RunError(f"--{CACHE} is empty. Give a folder, or {_NONE}")
    if given is None and (_DIR.upper() in os.environ or not _is_quiet()):
        return
    folder = None if given == _NONE else _prepared(given)
    # JAX takes the empty name for none.
    _configure(_DIR, "" if folder is None else str(folder))
    if folder is None:
        return
    if _MIN_SECONDS.upper() not in os.environ:
        _configure(_MIN_SECONDS, _WORTH_KEEPING_SECONDS)
    _tell_of_trouble_once(folder)


def _is_quiet() -> bool:
    version = importlib.metadata.version("jaxlib")
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3]) >= _QUIET_JAXLIB


def _configure(name: str, value: Any) -> None:
    """Sets an option of JAX, which reads the environment when it is loaded: mostly, that is later.

    Processes that are started inherit it.
    """
    os.environ[name.upper()] = str(value)
    if jax := sys.modules.get("jax"):
        jax.config.update(name, value)


def _prepared(given: str | None) -> Path | None:
    """The folder for programs of this machine, made and not too large; None where it is of no use.

    Args:
      given: the folder for all machines; None for the default.
    """
    try:
        root = default_folder() if given is None else Path(given).expanduser()
        folder = root.absolute() / machine()
        # Others are not to write what this user runs.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryFile(dir=folder) as trial:
                trial.write(bytes(2**16))
        except OSError as error:
            name_file(error, folder)
            raise
        remove_oldest(folder, _MAX_BYTES)
    except (OSError, RuntimeError) as error:  # the latter where a user has no home
        problem = in_words(error) if isinstance(error, OSError) else str(error)
        logging.warning(
            "compiled programs are not kept: %s (--%s=FOLDER keeps them elsewhere)", problem, CACHE
        )
        return None
    return folder


def default_folder() -> Path:
    """`alphacl_jax/compiled` in the user's cache folder, as the platform has it.

    Raises:
      RuntimeError: where there is no home folder.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(root):  # by the XDG specification, a relative one is to be ignored
        root = str(Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache"))
    return Path(root) / "alphacl_jax" / "compiled"


def machine() -> str:
    """A name for machines that run the same code, since a home folder may serve several kinds.

    Not every version of JAX tells programs apart by the processor that they were compiled for, and
    one for another may be an illegal instruction here.
    """
    digest = hashlib.sha256(processor().encode()).hexdigest()
    return f"{sys.platform}-{platform.machine()}-{digest[:8]}"


def processor() -> str:
    """What is known of the processor: its model and the instructions that it has."""
    listing = Path("/proc/cpuinfo")
    if not listing.exists():
        return platform.processor()
    first = listing.read_text().strip().partition("\n\n")[0]
    return "\n".join(
        line for line in first.splitlines() if line.partition(":")[0].strip() in _OF_THE_CODE
    )


def remove_oldest(folder: Path, max_bytes: int) -> None:
    """Deletes the programs that were not used for longest, until the rest is small enough.

    Args:
      folder: of programs as JAX keeps them.
      max_bytes: that they may take together.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith("-cache"):
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    used = max(status.st_atime, status.st_mtime)
                    found.append((used, status.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= max_bytes:
            break
        with suppress(FileNotFoundError):  # another process was quicker
            os.unlink(path)
        total -= size


def _tell_of_trouble_once(folder: Path) -> None:
    """Has JAX's warnings of its cache, one for each program, end in one line.

    Programs that cannot be read (a process was killed or a disk was full while one was written) are
    deleted, so that they are compiled and kept again: JAX does not replace a file that is there.

    Args:
      folder: of the programs.
    """
    shown, told = warnings.showwarning, False

    def show(message: Any, *rest: Any, **more: Any) -> None:
        nonlocal told
        trouble = _TROUBLE.match(str(message))
        if trouble is None:
            shown(message, *rest, **more)
            return
        doing, name, problem = trouble.groups()
        if doing == "reading":
            for path in folder.glob(f"{glob.escape(name)}-*-cache"):
                with suppress(OSError):
                    path.unlink()
        elif not told:
            told = True
            logging.warning("compiled programs cannot be kept in %s: %s", folder, problem)

    warnings.showwarning = show
