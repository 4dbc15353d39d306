"""What the benchmarks share: the machine, timing in turns, tables, reports as JSON.

Each competitor is timed in a fresh process of its own, so that no library's threads, allocator or
caches help or hinder another; the processes take turns and never work at the same time, so that a
machine that gets slower or faster does so for all of them alike.
"""

import concurrent.futures
import functools
import importlib.metadata
import multiprocessing
import os
import platform
import re
import statistics
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from alphacl_jax.errors import RunError
from experiments.benchmarks.memory import Call, peak_bytes

Result = TypeVar("Result")

_SLOW_SECONDS = 1.0


@dataclass(frozen=True)
class Measurement:
    """What timing one competitor gave.

    Attributes:
      times: seconds of each call, in the order of the calls.
      peak_bytes: see `memory.peak_bytes`.
    """

    times: tuple[float, ...]
    peak_bytes: int | None

    @property
    def seconds(self) -> float:
        return statistics.median(self.times)


def measure_in_turn(
    makers: Mapping[str, Callable[[], Call]],
    *,
    rounds: int,
    seconds: float,
    may_end: Collection[str] = (),
) -> dict[str, Measurement]:
    """Times competitors, each in a fresh process, in turns.

    Args:
      makers: by name; each is picklable, runs in its process, and returns a function without
        arguments that does the work once and returns when it is done. Imports and compilation
        belong into the maker; the first call of the function is measured for memory only.
      rounds: how often each gets its turn; a turn is at least one call, and repeats short ones.
      seconds: a turn's calls take about `seconds / rounds` together; one whose calls took more
        than `seconds` after two turns is done.
      may_end: names of those whose process may be killed by its work: what is returned lacks them
        then, and the others go on.

    Raises:
      RunError: where a competitor fails, with what it said.
    """
    context = multiprocessing.get_context("spawn")
    ends: dict[str, Connection] = {}
    processes = []
    times: dict[str, list[float]] = {name: [] for name in makers}
    try:
        for name, make in makers.items():
            ends[name], end = context.Pipe()
            process = context.Process(target=_serve, args=(end, make), daemon=True)
            process.start()
            processes.append(process)
            end.close()
        answered = functools.partial(_answered, ends=ends, may_end=may_end)
        for name in makers:
            answered(name)  # all have prepared, before any works
        peaks = {}
        for name in list(ends):
            ends[name].send(None)
            peaks[name] = answered(name)
        for turn in range(rounds):
            for name in list(ends):
                if turn < 2 or sum(times[name]) < seconds:
                    ends[name].send(seconds / rounds)
                    times[name] += answered(name) or ()
        return {name: Measurement(tuple(times[name]), peaks[name]) for name in ends}
    finally:
        for end in ends.values():
            end.close()
        for process in processes:
            process.terminate()
            process.join()


def _answered(name: str, ends: dict[str, Connection], may_end: Collection[str]) -> Any:
    """A competitor's answer; where it was killed, and may be, None, and it is taken from `ends`."""
    try:
        answer = ends[name].recv()
    except EOFError as error:
        if name in may_end:
            ends.pop(name).close()
            return None
        raise RunError(
            f"the process of '{name}' was killed; where memory ran out, measure smaller sizes"
        ) from error
    if isinstance(answer, str):
        raise RunError(f"'{name}' failed: {answer}")
    return answer


def _serve(end: Connection, make: Callable[[], Call]) -> None:
    """A competitor's process: asked first for its peak memory, then for the times of calls."""
    end_with_parent()
    try:
        call = make()
        end.send(None)
        end.recv()
        started = time.perf_counter()
        end.send(peak_bytes(call))
        slow = time.perf_counter() - started > _SLOW_SECONDS
        while True:
            seconds = end.recv()
            if not slow:
                call()  # wakes the threads and fills the caches that idling left cold
            end.send(repeat(call, seconds))
    except EOFError:
        return  # no more turns
    except Exception as error:
        end.send(f"{type(error).__name__}: {error}")


def repeat(call: Call, seconds: float) -> list[float]:
    """Seconds of each of the calls, at least one, that take about `seconds` together."""
    times: list[float] = []
    while not times or sum(times) < seconds:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


def end_with_parent() -> None:
    """Ends this process when its parent is killed, so that it does not work on unseen."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def time_in_turn(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of calls within this process, one after the other, `rounds` times; the first of
    each is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - started)
    return times


def alone(function: Callable[..., Result], *arguments: Any) -> Result:
    """Runs a picklable `function` in a fresh process: its core, threads and memory are its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context, end_with_parent) as pool:
        return pool.submit(function, *arguments).result()


def describe(packages: Sequence[str]) -> dict[str, Any]:
    """The machine, and the version of each package (None where it is not installed)."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "machine": {
            "cpu": _cpu_model(),
            "cores": usable_cores(),
            "memory_gb": round(pages / 2**30),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "versions": {name: _version(name) for name in packages},
    }


def heading(description: Mapping[str, Any]) -> str:
    """One line that says where and with what the figures were measured."""
    machine = description["machine"]
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB",
        machine["system"],
        f"Python {machine['python']}",
    ]
    parts += [f"{name} {number}" for name, number in description["versions"].items() if number]
    return ", ".join(parts)


def usable_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_bfloat16() -> bool:
    """Whether the processor has instructions for it, where Linux tells; others emulate it."""
    listing = Path("/proc/cpuinfo")
    names = r"^(flags|Features)\s*:.*\b(avx512_bf16|amx_bf16|bf16)\b"
    return listing.exists() and bool(re.search(names, listing.read_text(), re.MULTILINE))


def dtypes(bfloat16: bool) -> list[str]:
    """The types of number to measure: bfloat16 where it is wanted and fast."""
    return ["float32", "bfloat16"] if bfloat16 and has_bfloat16() else ["float32"]


def _cpu_model() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def require_installed(
    packages: Sequence[str], otherwise: str = ", or measure ours alone with --peers="
) -> None:
    """Refuses a comparison with a library that is not there.

    Args:
      packages: what the comparison needs.
      otherwise: what else can be done, after what to install.

    Raises:
      RunError: naming what is missing and what to do.
    """
    missing = [name for name in packages if _version(name) is None]
    if missing:
        raise RunError(
            f"{', '.join(missing)} not installed, and this benchmark compares with it: "
            f"pip install -e '.[bench]'{otherwise}"
        )


def example_images(count: int, size: int) -> np.ndarray:
    """uint8 `[count, size, size, 3]`: smooth random colours, as work may depend on the values."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((size, size))) for c in coarse])


def megabytes(count: int | None) -> str:
    """For a table: bytes as MB."""
    return "n/a" if count is None else f"{count / 1e6:,.0f}"


@dataclass(frozen=True)
class Aim:
    """A figure and what it should be: at most `limit`, or at least."""

    name: str
    value: float
    limit: float
    at_most: bool = True

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        verdict = "met" if self.met else "NOT met"
        return f"{self.name}: {self.value:.3g} (aim {sign} {self.limit:g}: {verdict})"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "aim": ("<= " if self.at_most else ">= ") + f"{self.limit:g}",
            "met": self.met,
        }


def write_report(path: str, report: Mapping[str, Any]) -> None:
    """Writes a report as JSON, whole or not at all.

    Raises:
      RunError: where the file cannot be written.
    """
    from alphacl_jax.files import write_json_atomically

    try:
        write_json_atomically(Path(path), dict(report))
    except OSError as error:
        raise RunError(f"--json={path} cannot be written: {error}") from error
