"""A run, from the settings that made it to the encoder that it holds.

from alphacl_jax.runs import RunSettings, load_encoder, pretrain
"""

from typing import TYPE_CHECKING

from alphacl_jax.lazy import attributes_of
from alphacl_jax.runs.finetune_settings import FinetuneSettings
from alphacl_jax.runs.settings import (
    AugmentationSettings,
    ContrastiveSettings,
    DataSettings,
    DirectCLRSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    QueueSettings,
    RunSettings,
    SiameseSettings,
    SupervisedSettings,
)

if TYPE_CHECKING:
    from alphacl_jax.runs.encoder import Encoder, load_encoder
    from alphacl_jax.runs.finetuning import finetune
    from alphacl_jax.runs.pretraining import pretrain

__all__ = [
    "AugmentationSettings",
    "ContrastiveSettings",
    "DataSettings",
    "DirectCLRSettings",
    "Encoder",
    "EvaluationSettings",
    "FinetuneSettings",
    "ModelSettings",
    "OptimizerSettings",
    "QueueSettings",
    "RunSettings",
    "SiameseSettings",
    "SupervisedSettings",
    "finetune",
    "load_encoder",
    "pretrain",
]

_HOMES = {
    "Encoder": "encoder",
    "finetune": "finetuning",
    "load_encoder": "encoder",
    "pretrain": "pretraining",
}

if not TYPE_CHECKING:  # or every name would pass a type check
    # The trainer: who reads settings alone need not wait for it.
    __getattr__ = attributes_of(__name__, _HOMES)
