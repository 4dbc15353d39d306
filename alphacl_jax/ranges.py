"""Which numbers a parameter may be, and a temperature that is learned within its range."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.errors import ArgumentError, shown

Scalar = float | Array


class Range(NamedTuple):
    """The finite numbers above a bound, or from it on, that a parameter may be."""

    above: float = -math.inf
    inclusive: bool = False


FINITE, POSITIVE, NOT_NEGATIVE = Range(), Range(0.0), Range(0.0, inclusive=True)


def unwrapped(value: Any) -> Any:
    """A value, or the array that it stands for and is not, as a variable of Flax NNX does."""
    stands_for = hasattr(value, "__jax_array__") and not isinstance(value, jax.Array)
    return jnp.asarray(value) if stands_for else value


def check_scalar(name: str, value: Any, allowed: Range) -> None:
    """Raises ValueError unless `value` is a number that is allowed; traced values pass."""
    if isinstance(value, str) or not (isinstance(value, int | float) or hasattr(value, "dtype")):
        raise ArgumentError(name, shown(value), "must be a number")
    if jnp.ndim(value) != 0:
        raise ValueError(f"{name} must be a scalar, but has shape {jnp.shape(value)}")
    kinds, dtype = (jnp.floating, jnp.integer), getattr(value, "dtype", None) or type(value)
    if not any(jnp.issubdtype(dtype, kind) for kind in kinds):
        raise ArgumentError(name, shown(value), "must be a number")
    if isinstance(value, jax.core.Tracer):
        return
    number, above = float(value), allowed.above
    on_bound = allowed.inclusive and number == above
    if not math.isfinite(number) or not (number > above or on_bound):
        sign = ">=" if allowed.inclusive else ">"
        bound = f" {sign} {above:g}" if math.isfinite(above) else ""
        problem = f"is out of range; it must be a finite number{bound}"
        raise ArgumentError(name, f"{number:g}", problem)


def in_its_range(name: str, value: Any, allowed: Range) -> Any:
    """A parameter for use; NaN, in value and gradient, where it is traced and left its range.

    Raises:
      ValueError: for a value out of range, where it is not traced.
    """
    check_scalar(name, value, allowed)
    if not isinstance(value, jax.core.Tracer):
        return value
    number = as_floating(value)
    within = number >= allowed.above if allowed.inclusive else number > allowed.above
    return number * jnp.where(within & jnp.isfinite(number), 1.0, jnp.nan)


def as_floating(value: Scalar) -> Array:
    """A number as an array, whose type is kept where it is floating."""
    array = jnp.asarray(value)
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return array if floating else array.astype(jnp.result_type(float))


def learned_temperature(
    log_value: Scalar, minimum: Scalar, *, stop_at_minimum: bool = False
) -> Array:
    """A temperature that is learned by its logarithm s: `τ = max(e^s, minimum)`.

    An exponential keeps τ above 0, where a step of an optimiser on τ itself may not; the floor
    keeps gradients, of size 1/τ, in bounds. Published code clamps, and a clamp has gradient 0: the
    first time that τ meets the floor it stays there. Here `dτ/ds = τ` at the floor as well, so τ
    rises again when the loss wants it to. Meanwhile a loss that pulls downwards goes on moving s;
    where τ is to leave the floor at once, also keep s at `log(minimum)` or above after each update.

    Learn it with `contrastive_loss`, or with `alpha_cl_loss(stop_gradient=False)`: while α is held
    fixed, the default there, no gradient reaches the temperature of a rule.

    Args:
      log_value: s, a scalar; of whatever float type the parameter has.
      minimum: the floor of τ, > 0: 0.01 where logits are not to be scaled by more than 100.
      stop_at_minimum: whether `dτ/ds = 0` below the floor, as of a clamp: for comparison with
        published runs. Code that learns the logarithm of 1/τ, `1/τ = min(e^u, 1/minimum)`, has
        s = −u.

    Returns:
      τ, a scalar of the type of s. It is not finite where s is not.

    Raises:
      ValueError: for an s that is not finite or a minimum that is not above 0, where not traced.

    Example:
      >>> import alphacl_jax as acl
      >>> float(acl.learned_temperature(-9.0, minimum=0.25))
      0.25

    References:
      Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021
      (logits scaled by at most 100); Schneider, Lee and Mathis, "Learnable latent embeddings for
      joint behavioural and neural analysis", 2023 (a least temperature, by clamping).
    """
    log_value, minimum = unwrapped(log_value), unwrapped(minimum)
    check_scalar("log_value", log_value, FINITE)
    s = as_floating(log_value)
    least = jnp.asarray(in_its_range("minimum", minimum, POSITIVE), s.dtype)
    temperature = jax.lax.stop_gradient(jnp.maximum(jnp.exp(s), least))
    # 1, whose derivative by s is 1.
    growth = jnp.exp(s - jax.lax.stop_gradient(s))
    if stop_at_minimum:
        growth = jnp.where(jnp.exp(s) < least, jax.lax.stop_gradient(growth), growth)
    return temperature * growth
