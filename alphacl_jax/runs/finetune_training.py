"""Which labels fine-tuning uses, and the training of an encoder and a classifier on them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh
from scipy.special import log_softmax

from alphacl_jax.data import policies
from alphacl_jax.data.batches import open_batches, raw_shapes
from alphacl_jax.data.reading import Split, labels_of, subset_of
from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.linear import draw_labels
from alphacl_jax.methods.classifier import classifier_method
from alphacl_jax.runs.baselines import one_view_of
from alphacl_jax.runs.encoder import Encoder
from alphacl_jax.runs.evaluation import features_of
from alphacl_jax.runs.finetune_settings import FinetuneSettings
from alphacl_jax.runs.start import encoder_variables, with_encoder
from alphacl_jax.training.loop import TrainStep
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.optim import make_optimizer, warmup_cosine
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import make_init, make_train_step

_HELD_OUT = 5  # one in so many labels, where the rate of the encoder is chosen


def per_class(labels: np.ndarray, num_classes: int, fraction: float) -> int | None:
    """How many images of each class are drawn for a share of the labels; None where all are used.

        k = fraction · n / num_classes, rounded

    Args:
      labels: `[n]` in [0, num_classes), of all training images.
      num_classes: of the data.
      fraction: in (0, 1].

    Raises:
      ArgumentError: where that is less than one image, or more than a class has.
    """
    if fraction == 1:
        return None
    share = len(labels) / num_classes
    wanted = round(fraction * share)
    if wanted < 1:
        raise ArgumentError(
            "label_fraction",
            f"{fraction:g}",
            f"leaves no image of a class: of {len(labels)} in {num_classes} classes it is "
            f"{fraction * share:.2g} of each. Give at least {1 / share:.2g}",
        )
    counts = np.bincount(labels, minlength=num_classes)
    rarest = int(np.argmin(counts))
    if counts[rarest] < wanted:
        most = f"at most {counts[rarest] / share:.4g}, or " if counts[rarest] else ""
        raise ArgumentError(
            "label_fraction",
            f"{fraction:g}",
            f"asks for {wanted} images of each class, and class {rarest} has {counts[rarest]}. "
            f"Give {most}1 for all labels as they are",
        )
    return wanted


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images whose labels are used.

    Attributes:
      split: that they are part of, where each image has a label.
      max_bytes: what images may take.
      positions: `[n]` of these in it.
      labels: `[n]`.
    """

    split: Split
    max_bytes: int
    positions: np.ndarray
    labels: np.ndarray

    @classmethod
    def all_of(cls, split: Split, max_bytes: int) -> "Labelled":
        """All images of a split that can be read."""
        labels, positions = labels_of(split, max_bytes)
        return cls(split, max_bytes, positions, labels)

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: np.ndarray) -> "Labelled":
        """Some of them, by their numbers or a mask `[n]`."""
        return dataclasses.replace(self, positions=self.positions[rows], labels=self.labels[rows])

    def images(self) -> Split:
        """The images themselves."""
        return subset_of(self.split, self.positions, self.max_bytes)


def draw(everything: Labelled, num_classes: int, fraction: float, seed: int) -> Labelled:
    """The labelled images of one seed: a share of all, of each class as many.

    Those of `fit_probe(labels_per_class=per_class(...), draws=1, seed=seed)`.

    Args:
      everything: all training images.
      num_classes: of the data.
      fraction: in (0, 1]; 1 draws nothing.
      seed: of the draw.

    Raises:
      ArgumentError: as `per_class`.
    """
    wanted = per_class(everything.labels, num_classes, fraction)
    if wanted is None:
        return everything
    (rows,) = draw_labels(everything.labels, num_classes, wanted, 1, seed)
    return everything.part(np.sort(rows))


def hold_out(labelled: Labelled, seed: int) -> tuple[Labelled, Labelled] | None:
    """A fifth of each class, at least one image where it has two, apart from the rest.

    Returns:
      The rest and what is held out; None where no class has two images.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labelled), bool)
    for c in np.unique(labelled.labels):
        members = rng.permutation(np.flatnonzero(labelled.labels == c))
        held[members[: max(len(members) // _HELD_OUT, int(len(members) > 1))]] = True
    return (labelled.part(~held), labelled.part(held)) if held.any() else None


class Network(NamedTuple):
    """An encoder and the classifier on it, `logits = h W + b`."""

    encoder: Encoder
    weights: np.ndarray
    bias: np.ndarray

    def correct_and_loss(self, split: Split, max_bytes: int) -> tuple[np.ndarray, float]:
        """Which images `[m]` are classified rightly, and the mean of −log softmax."""
        features, labels = features_of(self.encoder, split, max_bytes)
        scores = log_softmax((features @ self.weights + self.bias).astype(np.float64), axis=1)
        loss = -float(np.mean(np.take_along_axis(scores, labels[:, None], axis=1)))
        return np.argmax(scores, axis=1) == labels, loss


class Budget(NamedTuple):
    """What is spent on training: images per step, and steps."""

    batch_size: int
    steps: int


class _Program(NamedTuple):
    init: Callable[[int], TrainState]
    step: TrainStep


class Trainer:
    """Trains an encoder with a classifier on it, by cross-entropy on one augmented view.

    The programs of one budget are compiled once, whatever the learning rates.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        settings: FinetuneSettings,
        mesh: Mesh,
    ):
        """What all trainings share.

        Args:
          encoder: of which training starts, or whose network is trained from scratch.
          num_classes: of the labels.
          settings: of the optimiser, the batches and the augmentation.
          mesh: the devices that may be used.

        Raises:
          ArgumentError: for an augmentation that there is not.
        """
        self._encoder, self._settings = encoder, settings
        self._devices = list(mesh.devices.flat)
        self._method = classifier_method(encoder.module, num_classes)
        self.policy = policy_of(encoder, settings)
        self._program = functools.cache(self._compile)

    def budget(self, images: int, fewest: int) -> Budget:
        """What one row may spend on so many labelled images.

        Args:
          images: that it is trained on.
          fewest: as many as a batch may have, fewer where some are held out at first: a learning
            rate is chosen for one size of batch.
        """
        own = self._settings
        batch_size = min(own.batch_size, fewest)
        return Budget(batch_size, max(own.epochs * (images // batch_size), own.min_steps))

    def train(
        self, labelled: Labelled, budget: Budget, rate: float, seed: int, *, pretrained: bool
    ) -> Network | None:
        """Trains on labelled images.

        Args:
          labelled: the images.
          budget: of steps and images per step.
          rate: the encoder's learning rate.
          seed: of weights, order and augmentation.
          pretrained: whether it starts from the encoder, or from scratch; the classifier starts
            from the same weights either way.

        Returns:
          The network after the last step; None where training diverged.
        """
        batch_size, steps = budget
        mesh = self._mesh(batch_size)
        batches = open_batches(labelled.images(), batch_size, mesh, seed, labelled.max_bytes)
        program = self._program(budget)
        state = program.init(seed)
        if pretrained:
            state = with_encoder(state, self._encoder)
        rates = {"encoder": rate, "classifier": self._settings.classifier_learning_rate}
        state = state._replace(opt_state=_with_rates(state.opt_state, rates))
        for _ in range(steps):
            state, metrics = program.step(state, next(batches), False)
        # What is not finite once stays so in the parameters.
        if not np.all(np.isfinite([metrics["loss"], metrics["parameter_norm"]])):
            return None
        variables, classifier = jax.device_get(
            (encoder_variables(state), state.params["classifier"])
        )
        encoder = self._encoder.with_variables(variables, steps)
        return Network(encoder, classifier["kernel"], classifier["bias"])

    def _mesh(self, batch_size: int) -> Mesh:
        """As many of the devices as divide a batch evenly."""
        most = min(len(self._devices), batch_size)
        count = next(n for n in range(most, 0, -1) if batch_size % n == 0)
        return data_mesh(self._devices[:count])

    def _compile(self, budget: Budget) -> _Program:
        mesh, preprocessing = self._mesh(budget.batch_size), self._encoder.preprocessing
        make_batch = one_view_of(self.policy, preprocessing)
        optimizer, schedule = _optimizer(self._settings, budget.steps)
        shapes = raw_shapes(preprocessing.image_shape, 2)
        return _Program(
            make_init(self._method, optimizer, make_batch, shapes, mesh),
            make_train_step(self._method, optimizer, make_batch, schedule, mesh),
        )


def policy_of(encoder: Encoder, settings: FinetuneSettings) -> policies.Policy:
    """The augmentation: the one that is named, else that of the encoder's run."""
    if settings.augmentation is None:
        return encoder.description.policy
    return policies.named_policy(settings.augmentation, encoder.preprocessing.image_shape)


def _optimizer(
    settings: FinetuneSettings, steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """An optimiser whose state holds the learning rates, and the schedule that multiplies them."""
    schedule = warmup_cosine(1.0, steps, steps // 10)

    def with_rates(encoder_rate: Array, classifier_rate: Array) -> optax.GradientTransformation:
        rates = {"encoder": encoder_rate, "classifier": classifier_rate}

        def scale(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
            del params
            return {part: optax.tree.scale(rates[part], of) for part, of in updates.items()}

        own = make_optimizer(settings.optimizer, schedule, weight_decay=settings.weight_decay)
        return optax.chain(own, optax.stateless(scale))

    # In the state, and not in the program, so that one program serves all rates.
    return optax.inject_hyperparams(with_rates)(encoder_rate=1.0, classifier_rate=1.0), schedule


def _with_rates(opt_state: optax.OptState, rates: Mapping[str, float]) -> optax.OptState:
    """The state of the optimiser with the learning rate of each part."""
    named = {f"{part}_rate": jnp.float32(rate) for part, rate in rates.items()}
    return optax.tree.set(opt_state, **named)
