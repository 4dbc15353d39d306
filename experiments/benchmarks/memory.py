"""How much memory a call takes: the process's, or an accelerator's as its library counts it."""

import ctypes
import gc
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Call = Callable[[], Any]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class OnAccelerator:
    """A call whose memory is an accelerator's.

    Attributes:
      call: the work; it returns when the device is done.
      held: the bytes that its library has allocated now, and at most so far; None where it does
        not tell.
    """

    call: Call
    held: Callable[[], tuple[int, int] | None]

    def __call__(self) -> Any:
        return self.call()


def of_jax(call: Call) -> Call:
    """A call of JAX's, which counts the memory of its device where that is an accelerator."""
    import jax

    if jax.default_backend() == "cpu":
        return call
    return OnAccelerator(call, _held_by_jax)


def _held_by_jax() -> tuple[int, int] | None:
    import jax

    counted = jax.local_devices()[0].memory_stats() or {}
    if not {"bytes_in_use", "peak_bytes_in_use"} <= counted.keys():
        return None
    return counted["bytes_in_use"], counted["peak_bytes_in_use"]


def of_torch(call: Call, device: str) -> Call:
    """A call of PyTorch's on "cpu" or "cuda"; on the latter it waits for the device."""
    if device == "cpu":
        return call
    from torch import cuda

    def finished() -> Any:
        result = call()
        cuda.synchronize()
        return result

    return OnAccelerator(finished, lambda: (cuda.memory_allocated(), cuda.max_memory_allocated()))


def peak_bytes(call: Call) -> int | None:
    """The most memory held during a call, above what was held before; None where nothing tells.

    On an accelerator it is what the library has allocated, by a high-water mark that is never
    started anew: an earlier call, or compilation, that took more is what is seen.

    Otherwise it is the memory resident, on Linux. The kernel's high-water mark of the process
    counts each page in memory, whoever asked for it: XLA's and torch's allocators, libraries, the
    result. What the allocator kept of earlier work is given back first, so that it does not hide
    new allocations.
    """
    gc.collect()
    if isinstance(call, OnAccelerator):
        before = call.held()
        call()
        after = call.held()
        return None if before is None or after is None else after[1] - before[0]
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")  # resets the high-water mark
        before_call = _status("VmRSS")
    except (OSError, AttributeError):
        call()
        return None
    call()
    return max(0, _status("VmHWM") - before_call)


def peak_resident_bytes() -> int | None:
    """The most memory that this process has held so far, all counted; None off Linux."""
    return _status("VmHWM") if _STATUS.exists() else None


def peak_bytes_of_jax() -> int | None:
    """The most that JAX has held so far of its accelerator's memory; on a CPU, see above."""
    import jax

    if jax.default_backend() == "cpu":
        return peak_resident_bytes()
    held = _held_by_jax()
    return None if held is None else held[1]


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"{_STATUS} does not show {name}")
    return 1024 * int(found[1])
