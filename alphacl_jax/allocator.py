"""What becomes of memory that is freed: kept for the next that asks, or given back."""

import ctypes
import os
import sys

# The parameters' numbers in glibc's <malloc.h>, and what is set.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = -1
_LARGEST = (2**30, 2**25)  # the first that glibc takes: before 2.35 it allows no more than 32 MB


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that it frees, for the next that asks.

    XLA asks for a computation's temporary buffers anew each time that it runs on a CPU. glibc maps
    those above 32 MB afresh and gives the others back, and the system zeroes each page of it at its
    first touch, which took a fifth of the time of steps of small images. Here buffers up to
    1 GiB come from memory that the process has (of an older glibc, up to 32 MB). It then holds
    what it needed at most.

    It is for programs, and is called before they compute: a library does not choose for its host.

    Returns:
      Whether it is so now: not off glibc, nor where the environment says how malloc is to work
      (`MALLOC_...`, `glibc.malloc` in `GLIBC_TUNABLES`).
    """
    set_already = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") for name in os.environ
    )
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_already or mallopt is None:
        return False
    mapped = any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST)
    return bool(mapped and mallopt(_TRIM_THRESHOLD, _NEVER))
