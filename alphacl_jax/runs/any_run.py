"""What every run is, whatever it is trained on, and the parts that train it."""

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jax
import optax
from jax.sharding import Mesh

from alphacl_jax.data.batches import Batches, Shapes
from alphacl_jax.methods.method import Method
from alphacl_jax.runs.common_settings import AnyRunSettings
from alphacl_jax.runs.description import AnyDescription
from alphacl_jax.runs.optimizer import optimizer_of
from alphacl_jax.training.loop import Hook, Schedule, TrainStep
from alphacl_jax.training.optim import Part
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import MakeBatch, make_init, make_train_step


class AnyRun(abc.ABC):
    """What the settings of a run stand for.

    Attributes:
      settings: of the run.
      mesh: the devices.
      method: what is trained.
    """

    settings: AnyRunSettings
    mesh: Mesh
    method: Method

    @abc.abstractmethod
    def as_begun(self, training: "Training", workdir: Path) -> tuple[Self, "Training"]:
        """The same with what the run in the folder, where there is one, measured when it began."""

    @abc.abstractmethod
    def with_settings(self, settings: Any) -> Self:
        """The run with other settings of the same data and method, such as another seed."""

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """What to call the data in a file name or a headline."""

    @property
    @abc.abstractmethod
    def make_batch(self) -> MakeBatch:
        """What makes the method's batch of what the data yields."""

    @abc.abstractmethod
    def raw_shapes(self, batch_size: int) -> Shapes:
        """Shapes and types of what the data yields."""

    @abc.abstractmethod
    def open_batches(self) -> Batches:
        """Batches of the data in the order of the run's seed."""

    @property
    @abc.abstractmethod
    def parts(self) -> Mapping[str, Part]:
        """What the optimiser is to do otherwise in parts of the method's parameters."""

    @abc.abstractmethod
    def describe(self, batches: Any) -> AnyDescription:
        """What the run's encoder needs beside its weights, of the data as it is today."""

    @abc.abstractmethod
    def sample(self) -> dict[str, str]:
        """A look into the data, by which several processes see whether they have the same."""

    @abc.abstractmethod
    def starts_from(self) -> Any:
        """The encoder of another run that this one starts from, with `variables`; else None."""

    @abc.abstractmethod
    def start(self, init: Callable[[int], TrainState]) -> TrainState:
        """The state before the first step, of `init` by seed."""

    @abc.abstractmethod
    def encoder(self, description: Any, state: TrainState) -> Any:
        """The encoder in a state of the run."""

    @abc.abstractmethod
    def hooks(self, training: "Training", untrained: Mapping[str, Any]) -> list[Hook]:
        """What looks at encoders while they train; [] where the settings ask for nothing.

        Args:
          training: the run's.
          untrained: the encoders before the first step, one of each member of several seeds, by
            what lines on the terminal about it begin with.
        """

    @abc.abstractmethod
    def in_words(self, batches: Any) -> tuple[str, str]:
        """What is trained on, for a headline; and lines to stand below it, each with its end."""


@dataclass(frozen=True)
class Training:
    """The parts that the loop is given.

    Attributes:
      optimizer: that `init` and `step` are made with.
      init: the state before the first step, by seed.
      step: compiled.
      batches: in the order of the run's seed.
      schedule: when to record, to save and to stop.
      learning_rate: by step.
    """

    optimizer: optax.GradientTransformation
    init: Callable[[int], TrainState]
    step: TrainStep
    batches: Batches
    schedule: Schedule
    learning_rate: optax.Schedule


def prepare_training(run: AnyRun, batches: Batches | None = None) -> Training:
    """The parts that train a run.

    Args:
      run: of the settings and the data.
      batches: of the data, where they are open already.

    Raises:
      ValueError: where the settings do not fit each other or the data.
    """
    own, looks = run.settings.optimizer, run.settings.evaluation
    if batches is None:
        batches = run.open_batches()
    optimizer, learning_rate = optimizer_of(own, batches.steps_per_epoch, run.parts)
    minutes = looks.save_minutes
    return Training(
        optimizer=optimizer,
        init=init_of(run, optimizer),
        step=make_train_step(run.method, optimizer, run.make_batch, learning_rate, run.mesh),
        batches=batches,
        schedule=Schedule(
            own.epochs * batches.steps_per_epoch,
            looks.log_every,
            looks.save_every,
            None if minutes is None else 60 * minutes,
        ),
        learning_rate=learning_rate,
    )


def init_of(run: AnyRun, optimizer: optax.GradientTransformation) -> Callable[[int], TrainState]:
    """What makes the state before the first step, by seed."""
    # Shapes and random draws are all that initialising reads of a batch: two samples will do.
    return make_init(run.method, optimizer, run.make_batch, run.raw_shapes(2), run.mesh)


def count_parameters(state: TrainState) -> int:
    """How many numbers are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))
