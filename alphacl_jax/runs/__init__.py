"""A run, from the settings that made it to the encoder that it holds.

from alphacl_jax.runs import RunSettings, load_encoder, pretrain
"""

import importlib
from typing import TYPE_CHECKING, Any

from alphacl_jax.runs.settings import (
    AugmentationSettings,
    ContrastiveSettings,
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    RunSettings,
)

if TYPE_CHECKING:
    from alphacl_jax.runs.encoder import Encoder, load_encoder
    from alphacl_jax.runs.pretraining import pretrain

__all__ = [
    "AugmentationSettings",
    "ContrastiveSettings",
    "DataSettings",
    "Encoder",
    "EvaluationSettings",
    "ModelSettings",
    "OptimizerSettings",
    "RunSettings",
    "load_encoder",
    "pretrain",
]

_HOMES = {"Encoder": "encoder", "load_encoder": "encoder", "pretrain": "pretraining"}


if not TYPE_CHECKING:  # or every name would pass a type check

    def __getattr__(name: str) -> Any:
        """Loads the trainer where it is asked for: who reads settings alone need not wait."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
