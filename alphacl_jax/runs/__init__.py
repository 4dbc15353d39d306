"""A run, from the settings that made it to the encoder that it holds.

from alphacl_jax.runs import RunSettings, load_encoder, pretrain
from alphacl_jax.runs import CPCRunSettings, load_recording_encoder, pretrain_recordings
"""

from typing import TYPE_CHECKING

from alphacl_jax.lazy import attributes_of
from alphacl_jax.runs.finetune_settings import FinetuneSettings
from alphacl_jax.runs.recording_settings import (
    CEBRAOptimizerSettings,
    CEBRARunSettings,
    CEBRASettings,
    CPCOptimizerSettings,
    CPCRunSettings,
    CPCSettings,
    RecordingDataSettings,
)
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
    from alphacl_jax.runs.recording_encoder import RecordingEncoder, load_recording_encoder
    from alphacl_jax.runs.recording_pretraining import pretrain_recordings

__all__ = [
    "AugmentationSettings",
    "CEBRAOptimizerSettings",
    "CEBRARunSettings",
    "CEBRASettings",
    "CPCOptimizerSettings",
    "CPCRunSettings",
    "CPCSettings",
    "ContrastiveSettings",
    "DataSettings",
    "DirectCLRSettings",
    "Encoder",
    "EvaluationSettings",
    "FinetuneSettings",
    "ModelSettings",
    "OptimizerSettings",
    "QueueSettings",
    "RecordingDataSettings",
    "RecordingEncoder",
    "RunSettings",
    "SiameseSettings",
    "SupervisedSettings",
    "finetune",
    "load_encoder",
    "load_recording_encoder",
    "pretrain",
    "pretrain_recordings",
]

_HOMES = {
    "Encoder": "encoder",
    "finetune": "finetuning",
    "RecordingEncoder": "recording_encoder",
    "load_encoder": "encoder",
    "load_recording_encoder": "recording_encoder",
    "pretrain": "pretraining",
    "pretrain_recordings": "recording_pretraining",
}

if not TYPE_CHECKING:  # or every name would pass a type check
    # The trainer: who reads settings alone need not wait for it.
    __getattr__ = attributes_of(__name__, _HOMES)
