"""BatchNorm without affine parameters, over samples or over values that occur with frequencies."""

import jax
import jax.numpy as jnp
from jax import Array

_EPSILON = 1e-5  # added to variances, as is common


def batch_norm(
    h: Array,
    frequency: Array | None = None,
    *,
    axis: int = 0,
    variance_gradient: Array | bool = True,
) -> Array:
    """Mean 0 and variance 1 of each node over the batch.

        (h − mean)/√(var + 1e-5),   mean = Σ_t p_t h_t,   var = Σ_t p_t (h_t − mean)²

    Args:
      h: the nodes' values; along `axis` samples, or the different values that samples can have.
      frequency: p_t, the share of samples with a value, of h's rank, summing to 1 along `axis`;
        None for samples, p_t = 1/n.
      axis: along which the statistics are taken.
      variance_gradient: whether the gradient flows through var (through mean it always does); may
        be traced.

    Returns:
      Of h's shape.
    """

    def mean(values: Array) -> Array:
        if frequency is None:
            return jnp.mean(values, axis, keepdims=True)
        return jnp.sum(frequency * values, axis, keepdims=True)

    centred = h - mean(h)
    variance = mean(jnp.square(centred))
    if variance_gradient is not True:
        variance = jnp.where(variance_gradient, variance, jax.lax.stop_gradient(variance))
    return centred * jax.lax.rsqrt(variance + _EPSILON)
