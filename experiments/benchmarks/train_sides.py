"""The two sides of the training benchmark: what they train, each in a process of its own."""

from dataclasses import dataclass
from typing import Any

from alphacl_jax.runs.settings import (
    AugmentationSettings,
    ContrastiveSettings,
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    RunSettings,
)
from experiments.benchmarks import memory

# What both sides train with; ours has it as settings.
_HIDDEN, _DIM, _TEMPERATURE = 256, 128, 0.5
_LEARNING_RATE, _MOMENTUM, _WEIGHT_DECAY = 0.05, 0.9, 1e-4


@dataclass(frozen=True)
class Case:
    """A network and batch; ours should be `aim` times as fast as the peer."""

    encoder: str
    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...]
    batch_size: int
    aim: float

    @property
    def name(self) -> str:
        network = "-".join(map(str, self.widths)) if self.encoder == "small" else self.encoder
        return f"{network}, batch {self.batch_size}"

    def settings(self, data_dir: str, log_every: int, dtype: str = "float32") -> RunSettings:
        """Of our run, with `dtype` in the model: network, loss and optimiser are the peer's."""
        widths = self.widths if self.encoder == "small" else ModelSettings().widths
        return run_settings(data_dir, log_every, self.batch_size, self.encoder, widths, dtype)


def run_settings(
    data_dir: str,
    log_every: int,
    batch_size: int,
    encoder: str,
    widths: tuple[int, ...] = ModelSettings().widths,
    dtype: str = "float32",
) -> RunSettings:
    """Of a run on the images of a folder, as both sides train."""
    return RunSettings(
        data=DataSettings(dataset="folder", data_dir=data_dir),
        augmentation=AugmentationSettings(augmentation="simclr"),
        model=ModelSettings(
            encoder=encoder,
            widths=widths,
            projector_hidden=_HIDDEN,
            projector_dim=_DIM,
            projector_norm="none",
            dtype=dtype,
        ),
        method=ContrastiveSettings(loss="info_nce", temperature=_TEMPERATURE),
        optimizer=OptimizerSettings(
            batch_size=batch_size,
            optimizer="sgd",
            learning_rate=_LEARNING_RATE,
            momentum=_MOMENTUM,
            weight_decay=_WEIGHT_DECAY,
            warmup_epochs=0,
        ),
        evaluation=EvaluationSettings(log_every=log_every),
    )


CASES = {
    "small16": Case("small", (1, 1, 1), (16, 32, 64), 256, 1.3),
    "small32": Case("small", (1, 1, 1), (32, 64, 128), 256, 1.2),
    "resnet18": Case("resnet18", (2, 2, 2, 2), (64, 128, 256, 512), 128, 1.1),
}


def train_peer(
    case: Case, data_dir: str, steps: int, log_every: int, dtype: str, workers: int
) -> dict[str, Any]:
    """Images/s of the peer's stretches, without the first."""
    from alphacl_jax.data import sources
    from experiments.benchmarks import torch_simclr

    dataset = sources.load("folder", data_dir, None)
    images, _ = sources.to_arrays(dataset.pretrain, 2**31)
    network = torch_simclr.simclr_network(case.stage_sizes, case.widths, _HIDDEN, _DIM)
    rates = torch_simclr.train(
        images,
        dataset.mean,
        dataset.std,
        network,
        batch_size=case.batch_size,
        temperature=_TEMPERATURE,
        learning_rate=_LEARNING_RATE,
        momentum=_MOMENTUM,
        weight_decay=_WEIGHT_DECAY,
        steps=steps,
        log_every=log_every,
        dtype=dtype,
        workers=workers,
    )
    return {
        "rates": list(rates)[1:],
        "parameters": sum(p.numel() for p in network.parameters()),
        "peak_bytes": memory.peak_resident_bytes(),
    }


def train_ours(case: Case, data_dir: str, steps: int, log_every: int, dtype: str) -> dict[str, Any]:
    """Images/s of our stretches, without the first."""
    from experiments.benchmarks import our_training

    return our_training.speed(case.settings(data_dir, log_every, dtype), steps)


def step_parts(case: Case, data_dir: str, rounds: int) -> dict[str, float]:
    """Milliseconds of the parts of our step."""
    from experiments.benchmarks import our_training

    return our_training.parts(case.settings(data_dir, 1), rounds)


def step_profile(case: Case, data_dir: str) -> list[tuple[str, float, float]]:
    """The longest operations of our step: what, ms per step, share."""
    from experiments.benchmarks import our_training

    return our_training.profile(case.settings(data_dir, 1), steps=3, top=20)
