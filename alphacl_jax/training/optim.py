"""Optimisers of the field, from optax: schedule, weight decay on weights alone, clipping."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import optax

from alphacl_jax.errors import ArgumentError

OPTIMIZERS = ("sgd", "adam", "adamw", "lars")


def warmup_cosine(learning_rate: float, total_steps: int, warmup_steps: int) -> optax.Schedule:
    """Linear warm-up from 0, then a cosine to 0, over the whole run.

    Args:
      learning_rate: the peak, > 0.
      total_steps: the steps of the run, warm-up included.
      warmup_steps: fewer than `total_steps`.

    Raises:
      ArgumentError: for numbers that do not fit.
    """
    if not 0 < learning_rate < math.inf:
        raise ArgumentError("learning_rate", learning_rate, "must be finite and > 0")
    if not 0 <= warmup_steps < max(total_steps, 1):
        raise ArgumentError(
            "warmup_steps",
            warmup_steps,
            f"does not fit in a run of {total_steps} steps; warm up for fewer or train for more",
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup_steps else learning_rate,
        peak_value=learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=max(total_steps, 1),
    )


def weights_only(params: Any) -> Any:
    """True at matrices and convolutions, False at norms' scales and at biases."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    clip_norm: float | None = None,
    multipliers: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """An optimiser whose weight decay spares norms and biases.

    Args:
      name: "sgd" (with momentum) or "adam", whose weight decay is added to the gradient, "adamw",
        whose weight decay is decoupled, or "lars" (norms and biases are not rescaled by trust).
      schedule: learning rate by step.
      weight_decay: ≥ 0.
      momentum: of sgd and lars, in [0, 1).
      clip_norm: the global gradient norm to clip at, > 0, or None.
      multipliers: what the learning rate of a part of the parameters is multiplied by, ≥ 0, by the
        part's name at the top level, such as {"predictor": 10}; 0 freezes the part. Its weight
        decay goes with its learning rate. Clipping looks at the gradients of all parts.

    Raises:
      ArgumentError: for an unknown name or a value out of range; from the optimiser's `init` for
        multipliers of parts that the parameters do not have.
    """
    if name not in OPTIMIZERS:
        raise ArgumentError("optimizer", name, f"is unknown; use one of {', '.join(OPTIMIZERS)}")
    if not 0 <= weight_decay < math.inf:
        raise ArgumentError("weight_decay", weight_decay, "must be finite and >= 0")
    if not 0 <= momentum < 1:
        raise ArgumentError("momentum", momentum, "must be in [0, 1)")
    if clip_norm is not None and not clip_norm > 0:
        raise ArgumentError("clip_norm", clip_norm, "must be > 0; leave it out for no clipping")
    steps = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    if name in ("sgd", "adam") and weight_decay:
        steps.append(optax.add_decayed_weights(weight_decay, mask=weights_only))
    if name == "sgd":
        steps.append(optax.sgd(schedule, momentum=momentum))
    elif name == "adam":
        steps.append(optax.adam(schedule))
    elif name == "adamw":
        steps.append(optax.adamw(schedule, weight_decay=weight_decay, mask=weights_only))
    else:
        steps.append(
            optax.lars(
                schedule,
                weight_decay=weight_decay,
                weight_decay_mask=weights_only,
                trust_ratio_mask=weights_only,
                momentum=momentum,
            )
        )
    steps += [_multiplied(part, by) for part, by in (multipliers or {}).items()]
    return optax.chain(*steps)


def _multiplied(part: str, by: float) -> optax.GradientTransformation:
    """Multiplies the updates of one part of the parameters."""
    if not 0 <= by < math.inf:
        raise ArgumentError("multipliers", {part: by}, "must be finite and >= 0")

    def is_part(params: Mapping[str, Any]) -> dict[str, bool]:
        if part not in params:
            raise ArgumentError(
                "multipliers",
                {part: by},
                f"names no part of the parameters; they have {', '.join(sorted(params))}",
            )
        return {name: name == part for name in params}

    # 0 times an update that is not finite would not be 0.
    return optax.masked(optax.scale(by) if by else optax.set_to_zero(), is_part)
