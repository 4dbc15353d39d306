"""Optimisers of the field, from optax: schedule, weight decay on weights alone, clipping."""

import math
from typing import Any

import jax
import optax

OPTIMIZERS = ("sgd", "adam", "adamw", "lars")


def warmup_cosine(learning_rate: float, total_steps: int, warmup_steps: int) -> optax.Schedule:
    """Linear warm-up from 0, then a cosine to 0, over the whole run.

    Args:
      learning_rate: the peak, > 0.
      total_steps: the steps of the run, warm-up included.
      warmup_steps: fewer than `total_steps`.

    Raises:
      ValueError: for numbers that do not fit.
    """
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate={learning_rate} must be finite and > 0")
    if not 0 <= warmup_steps < max(total_steps, 1):
        raise ValueError(
            f"warm-up of {warmup_steps} steps does not fit in a run of {total_steps} steps; "
            "lower the warm-up epochs or train longer"
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
) -> optax.GradientTransformation:
    """An optimiser whose weight decay spares norms and biases.

    Args:
      name: "sgd" (with momentum) or "adam", whose weight decay is added to the gradient, "adamw",
        whose weight decay is decoupled, or "lars" (norms and biases are not rescaled by trust).
      schedule: learning rate by step.
      weight_decay: ≥ 0.
      momentum: of sgd and lars, in [0, 1).
      clip_norm: the global gradient norm to clip at, > 0, or None.

    Raises:
      ValueError: for an unknown name or a value out of range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer {name!r} is unknown; use one of {', '.join(OPTIMIZERS)}")
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay={weight_decay} must be finite and >= 0")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum={momentum} must be in [0, 1)")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm={clip_norm} must be > 0; leave it out for no clipping")
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
    return optax.chain(*steps)
