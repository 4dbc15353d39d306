"""Whether freed memory stays with a process: seen by the pages that it touches for a first time."""

import os
import subprocess
import sys

import pytest


def glibc():
    """The version, (0, 0) where it is another library."""
    named = os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else None
    return tuple(map(int, named.split()[1].split("."))) if named else (0, 0)


pytestmark = pytest.mark.skipif(glibc() < (2, 35), reason="of older ones large buffers are mapped")

ROUNDS, MEGABYTES = 20, 64
# Huge pages, each of which is one fault, are not for this process: PR_SET_THP_DISABLE.
FAULTS = f"""
import ctypes, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({ROUNDS}):
        np.ones({MEGABYTES} << 20, np.uint8)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PLAIN = "faults()"
KEPT = "from alphacl_jax.allocator import keep_freed_memory\nassert keep_freed_memory()\nfaults()"
COMMAND = "from alphacl_jax.cli.start import run_main\nrun_main(lambda argv: faults(), None)"
REFUSED = (
    "from alphacl_jax.allocator import keep_freed_memory\nassert not keep_freed_memory()\nfaults()"
)
PAGES = (MEGABYTES << 20) // os.sysconf("SC_PAGE_SIZE")


def faults(script, **environment):
    """The pages that are new to a process which fills an array and drops it, again and again."""
    cleared = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    environment = cleared | environment
    ran = subprocess.run(
        [sys.executable, "-c", FAULTS + script],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(ran.stdout)


@pytest.mark.parametrize("script", [KEPT, COMMAND])
def test_a_page_is_new_once(script):
    assert faults(PLAIN) > 0.9 * ROUNDS * PAGES
    assert faults(script) < 2 * PAGES


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
)
def test_what_the_environment_says_stands(environment):
    assert faults(REFUSED, **environment) > 0.9 * ROUNDS * PAGES
