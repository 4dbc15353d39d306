"""Checks that the settings of this folder's trainings share."""

import math
from typing import Any

from alphacl_jax.errors import ArgumentError


def require_at_least(settings: Any, **least: float) -> None:
    """Raises ArgumentError where an attribute is below its bound, NaN or infinite."""
    for name, bound in least.items():
        value = getattr(settings, name)
        if not bound <= value < math.inf:
            raise ArgumentError(name, value, f"must be at least {bound}, and finite")


def require_positive(settings: Any, *names: str) -> None:
    """Raises ArgumentError where an attribute is not above 0, or infinite."""
    for name in names:
        value = getattr(settings, name)
        if not 0 < value < math.inf:
            raise ArgumentError(name, value, "must be positive and finite")


def require_whole_looks(settings: Any) -> None:
    """Raises ArgumentError where the attribute `every` does not divide `steps`."""
    if settings.steps % settings.every:
        raise ArgumentError(
            "steps", settings.steps, f"must be a multiple of every={settings.every}"
        )
