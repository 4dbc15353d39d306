"""Set once for every test: eight CPU devices, no silent rank promotion, float64 on request."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# A shell has what it starts in the background ignore it, and so would every program of the tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_ROOT = Path(__file__).parent


@pytest.fixture(autouse=True, scope="session")
def own_cache_untouched() -> Iterator[None]:
    """Keeps commands that tests start from the developer's own cache of compiled programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "JAX_COMPILATION_CACHE_DIR", "")
        yield


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compiles with few optimisations where mathematics is tested: most of such a test's time.

    Rounding is looked at in programs as users compile them (`AS_USERS_COMPILE = True` in a test's
    module), and what trains needs speed.
    """
    folders = {_ROOT / "theory", _ROOT / "objectives"}
    mathematics = request.path.parent == _ROOT or not folders.isdisjoint(request.path.parents)
    quick = mathematics and not getattr(request.module, "AS_USERS_COMPILE", False)
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def x64() -> Iterator[None]:
    """Runs one test with float64 enabled."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
