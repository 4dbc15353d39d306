"""Optimisers of the field, from optax: schedule, weight decay on weights alone, clipping."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

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


class Part(NamedTuple):
    """What a part of the parameters has of its own.

    Attributes:
      rate: what its learning rate is multiplied by, ≥ 0; 0 freezes the part.
      schedule: its learning rate by step, before that; None for the common one.
      weight_decay: ≥ 0; None for the common one.
    """

    rate: float = 1.0
    schedule: optax.Schedule | None = None
    weight_decay: float | None = None


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    clip_norm: float | None = None,
    parts: Mapping[str, Part] | None = None,
) -> optax.GradientTransformation:
    """An optimiser whose weight decay spares norms and biases.

    Args:
      name: "sgd" (with momentum) or "adam", whose weight decay is added to the gradient, "adamw",
        whose weight decay is decoupled, or "lars" (norms and biases are not rescaled by trust).
      schedule: learning rate by step.
      weight_decay: ≥ 0.
      momentum: of sgd and lars, in [0, 1).
      clip_norm: the global gradient norm to clip at, > 0, or None.
      parts: what differs in a part of the parameters, by its name at the top level, such as
        {"predictor": Part(rate=10)}. Clipping looks at the gradients of all parts.

    Raises:
      ArgumentError: for an unknown name or a value out of range; from the optimiser's `init` for
        parts that the parameters do not have.
    """
    if name not in OPTIMIZERS:
        raise ArgumentError("optimizer", name, f"is unknown; use one of {', '.join(OPTIMIZERS)}")
    if not 0 <= momentum < 1:
        raise ArgumentError("momentum", momentum, "must be in [0, 1)")
    if clip_norm is not None and not clip_norm > 0:
        raise ArgumentError("clip_norm", clip_norm, "must be > 0; leave it out for no clipping")
    steps = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    common = _of_part(name, Part(), schedule, weight_decay, momentum)
    if not parts:
        return optax.chain(*steps, *common)
    own = {
        part: optax.chain(*_of_part(name, values, schedule, weight_decay, momentum))
        for part, values in parts.items()
    }
    others = ""  # no part of the parameters is called so

    def part_of(params: Mapping[str, Any]) -> dict[str, str]:
        for part, values in parts.items():
            if part not in params:
                known = ", ".join(sorted(params))
                problem = f"names no part of the parameters; they have {known}"
                raise ArgumentError("parts", {part: values}, problem)
        return {part: part if part in parts else others for part in params}

    each = optax.partition({others: optax.chain(*common), **own}, part_of)
    return optax.chain(*steps, each)


def _of_part(
    name: str, part: Part, schedule: optax.Schedule, weight_decay: float, momentum: float
) -> list[optax.GradientTransformation]:
    """The optimiser of one part of the parameters, without clipping."""
    if not 0 <= part.rate < math.inf:
        raise ArgumentError("rate", part.rate, "must be finite and >= 0")
    if part.weight_decay is not None:
        weight_decay = part.weight_decay
    if not 0 <= weight_decay < math.inf:
        raise ArgumentError("weight_decay", weight_decay, "must be finite and >= 0")
    if part.rate == 0:
        # 0 times an update that is not finite would not be 0.
        return [optax.set_to_zero()]
    rate = schedule if part.schedule is None else part.schedule
    if part.rate != 1:
        unscaled, by = rate, part.rate
        rate = lambda step: by * unscaled(step)  # noqa: E731
    steps = []
    if name in ("sgd", "adam") and weight_decay:
        steps.append(optax.add_decayed_weights(weight_decay, mask=weights_only))
    if name == "sgd":
        steps.append(optax.sgd(rate, momentum=momentum))
    elif name == "adam":
        steps.append(optax.adam(rate))
    elif name == "adamw":
        steps.append(optax.adamw(rate, weight_decay=weight_decay, mask=weights_only))
    else:
        steps.append(
            optax.lars(
                rate,
                weight_decay=weight_decay,
                weight_decay_mask=weights_only,
                trust_ratio_mask=weights_only,
                momentum=momentum,
            )
        )
    return steps
