"""The settings that every run has, whatever it is trained on: optimiser, evaluation, seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.fields import check_settings, require_default, setting
from alphacl_jax.runs.method_settings import MethodSettings

LARGEST_SEED = 2**31 - 1


def check_last_seed(seed: int, num_seeds: int) -> None:
    """Refuses more seeds than there are from the first one on.

    Raises:
      ArgumentError: naming `num_seeds`.
    """
    if seed + num_seeds - 1 > LARGEST_SEED:
        raise ArgumentError(
            "num_seeds",
            num_seeds,
            f"goes beyond the largest seed, {LARGEST_SEED}, from seed {seed} on",
        )


@dataclass(frozen=True)
class AnyOptimizerSettings:
    """How it is trained."""

    batch_size: int = setting(128, "Samples per step, over all devices.", lower=2, basic=True)
    epochs: int = setting(60, "Passes over the data.", lower=1, basic=True)
    optimizer: str = setting(
        "adamw", "From optax.", choices=("sgd", "adam", "adamw", "lars"), basic=True
    )
    learning_rate: float = setting(
        2e-3, "The peak, after warm-up and before the cosine.", above=0, basic=True
    )
    warmup_epochs: int | None = setting(
        None,
        "Of linear warm-up, part of the epochs. Default: a tenth of them, at most 5; below ten "
        "epochs that is part of an epoch.",
        lower=0,
    )
    weight_decay: float = setting(1e-4, "On weights alone: norms and biases are spared.", lower=0)
    momentum: float = setting(0.9, "Of sgd and lars.", lower=0, below=1)
    clip_norm: float | None = setting(
        None, "Clip the gradient at this global norm. Default: no clipping.", above=0
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise ArgumentError(
                "warmup_epochs",
                self.warmup_epochs,
                f"is part of the {self.epochs} epochs and must be less than that",
            )
        if self.optimizer not in ("sgd", "lars"):
            require_default(self, "momentum", "the optimizers sgd and lars")


@dataclass(frozen=True)
class AnyEvaluationSettings:
    """What is looked at while training and after it; it changes nothing that is trained."""

    evaluate: str = setting(
        "full",
        "After training: none, quick (a linear probe and kNN), or full (few-label probes, and a "
        "map of the features, too).",
        choices=("none", "quick", "full"),
        basic=True,
    )
    probe_every: int = setting(
        0,
        "Epochs between probes while training (kNN, a quick linear probe, effective rank) on "
        "held-out data; 0 for none.",
        lower=0,
    )
    log_every: int = setting(10, "Steps between records in metrics.jsonl and TensorBoard.", lower=1)
    save_every: int = setting(100, "Steps between checkpoints.", lower=1)
    save_minutes: float | None = setting(
        None, "Save a checkpoint also when this many minutes have passed since the last.", above=0
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class AnyRunSettings:
    """What the settings of all runs have in common, whatever they are trained on.

    Attributes:
      seed: of the initial weights, the order of the data and the augmentation.
      num_seeds: how many runs, of `seed` and the seeds after it, are trained.
      data, method, optimizer, evaluation: the settings by subject; which method is trained follows
        from the class of `method`.
    """

    # The settings of each method that can be trained on such data, by its name.
    methods: ClassVar[Mapping[str, type[MethodSettings]]] = {}

    seed: int = setting(
        0,
        "Of the initial weights, the order of the data and the augmentation.",
        lower=0,
        upper=LARGEST_SEED,
        basic=True,
    )
    num_seeds: int = setting(
        1,
        "Train this many runs, of the seed and the seeds after it, each in a folder seed-K of the "
        "run folder, and report the mean and standard deviation over them.",
        lower=1,
    )
    data: Any = None  # of a class with `dataset` and `data_dir`
    method: MethodSettings = MethodSettings()  # noqa: RUF009 - frozen
    optimizer: AnyOptimizerSettings = AnyOptimizerSettings()
    evaluation: AnyEvaluationSettings = AnyEvaluationSettings()

    def __post_init__(self) -> None:
        check_settings(self)
        self._check_groups()
        check_last_seed(self.seed, self.num_seeds)

    def _check_groups(self) -> None:
        for field in fields(self):
            if field.metadata:
                continue
            value = getattr(self, field.name)
            owners = (
                tuple(self.methods.values()) if field.name == "method" else (type(field.default),)
            )
            if type(value) not in owners:
                raise ArgumentError(
                    field.name,
                    repr(value),
                    f"must be of type {' or '.join(owner.__name__ for owner in owners)}",
                )

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.num_seeds)
