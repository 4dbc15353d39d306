"""What the training step is compiled with.

XLA's CPU backend has two libraries for a convolution, and hands most of them to YNNPACK, which is
up to three times slower than its other, Eigen. The options here keep convolutions to Eigen.
"""

from functools import cache

import jax
import jax.numpy as jnp

# YNNPACK for matrix products and sums, and so not for convolutions.
_YNNPACK: dict[str, str | bool] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
}


def compiler_options() -> dict[str, str | bool] | None:
    """What `jax.jit` compiles a program of convolutions with; None where nothing helps."""
    return _YNNPACK if jax.default_backend() == "cpu" and _is_known_to_xla() else None


@cache
def _is_known_to_xla() -> bool:
    """Whether the option, which XLA calls experimental, is one of the XLA in use."""
    try:
        jax.jit(jnp.negative, compiler_options=_YNNPACK).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
