"""Set once for every test: eight CPU devices, no silent rank promotion, float64 on request."""

from collections.abc import Iterator

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64() -> Iterator[None]:
    """Runs one test with float64 enabled."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
