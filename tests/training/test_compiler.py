"""What programs are compiled with: options that compile, or none."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest

from alphacl_jax.training import compiler


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """Without what earlier calls found out, and leaving nothing behind."""
    compiler._is_known_to_xla.cache_clear()
    yield
    compiler._is_known_to_xla.cache_clear()


def _negate_sum(x: jax.Array) -> jax.Array:
    return -x.sum()


def test_options_are_such_as_compile() -> None:
    compiled = jax.jit(_negate_sum, compiler_options=compiler.compiler_options())
    assert compiled(jnp.ones(3)) == -3


@pytest.mark.parametrize(
    "unknown",
    [{"xla_no_such_option": "1"}, {"xla_cpu_experimental_ynn_fusion_type": "NO_SUCH_TYPE"}],
    ids=["name", "value"],
)
def test_an_xla_that_lacks_the_option_goes_without(
    monkeypatch: pytest.MonkeyPatch, asked_anew: None, unknown: dict[str, str]
) -> None:
    known = {"xla_backend_optimization_level": "1"}
    monkeypatch.setattr(compiler, "_YNNPACK", known)
    assert compiler.compiler_options() == known
    compiler._is_known_to_xla.cache_clear()
    monkeypatch.setattr(compiler, "_YNNPACK", unknown)
    assert compiler.compiler_options() is None


def test_other_backends_have_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler.compiler_options() is None
