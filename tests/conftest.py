"""Set once for every test: eight CPU devices, no silent rank promotion, float64 on request."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


# Rounding is looked at in programs as users compile them, and what trains needs speed.
_FOLDERS = (Path(__file__).parent, Path(__file__).parent / "theory")
_AS_USERS_COMPILE = ("test_tiles", "test_numerics", "test_fuzz")


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compiles with few optimisations where mathematics is tested: most of such a test's time."""
    quick = request.path.parent in _FOLDERS and request.path.stem not in _AS_USERS_COMPILE
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def x64() -> Iterator[None]:
    """Runs one test with float64 enabled."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
