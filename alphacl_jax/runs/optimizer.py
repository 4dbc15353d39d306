"""The optimiser that a run's settings describe."""

from collections.abc import Mapping

import optax

from alphacl_jax.runs.common_settings import AnyOptimizerSettings
from alphacl_jax.training.optim import Part, make_optimizer, warmup_cosine


def optimizer_of(
    settings: AnyOptimizerSettings, steps_per_epoch: int, parts: Mapping[str, Part] | None = None
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimiser, and its learning rate by step; `parts` as in `make_optimizer`."""
    total = settings.epochs * steps_per_epoch
    warmup_epochs = settings.warmup_epochs
    if warmup_epochs is None and settings.epochs >= 10:
        warmup_epochs = min(5, settings.epochs // 10)
    warmup_steps = total // 10 if warmup_epochs is None else warmup_epochs * steps_per_epoch
    learning_rate = warmup_cosine(settings.learning_rate, total, warmup_steps)
    optimizer = make_optimizer(
        settings.optimizer,
        learning_rate,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        clip_norm=settings.clip_norm,
        parts=parts,
    )
    return optimizer, learning_rate
