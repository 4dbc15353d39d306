"""A slowly moving copy of a network: an exponential moving average of its parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

# The momentum m of each step, from the count of steps before it.
Momentum = Callable[[Array], Array]


def unmoved(online: Any) -> Any:
    """A target before the first step, which takes the online parameters in its place."""
    return jax.tree.map(jnp.zeros_like, online)


def moved(target: Any, online: Any, count: Array, momentum: Momentum) -> Any:
    """`target ← m·target + (1 − m)·online`, from what the last step made of the online parameters.

    Called at the beginning of a step, this is the update after each step of the papers.

    Args:
      target: parameters; before the first step they are not read, and the online ones stand in.
      online: parameters alike.
      count: how many steps were made.
      momentum: see `cosine_momentum`.
    """
    m = jnp.where(count == 0, 0.0, momentum(count))
    # Written so that equal values stay what they are.
    return jax.tree.map(
        lambda t, o: o + m.astype(o.dtype) * (t - o),
        target,
        jax.lax.stop_gradient(online),
    )


def cosine_momentum(start: float, total_steps: int) -> Momentum:
    """`1 − (1 − start)·(cos(π k/K) + 1)/2`: from `start` to 1 over the run's K steps.

    References:
      Grill et al., "Bootstrap Your Own Latent", 2020, section 3.2.
    """

    def momentum(count: Array) -> Array:
        progress = jnp.minimum(count / total_steps, 1.0)
        return 1.0 - (1.0 - start) * (jnp.cos(jnp.pi * progress) + 1.0) / 2.0

    return momentum


def constant_momentum(value: float) -> Momentum:
    """The same at every step."""
    return lambda count: jnp.asarray(value)
