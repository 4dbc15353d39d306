"""Nine speakers' vowels: the data, the networks that are trained on them, and what is probed."""

import dataclasses

import numpy as np
from jax.sharding import Mesh

from alphacl_jax.data.recordings import load_recordings
from alphacl_jax.data.sequences import Recordings
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.cpc import cpc_method
from alphacl_jax.methods.method import Method
from alphacl_jax.models.speech import GRUContext, feature_encoder
from alphacl_jax.runs.fields import check_settings, setting
from experiments.sequences import probes
from experiments.sequences.cpc_rows import Networks, Probes, Steps, last_layer, pooled
from experiments.sequences.parts import Parts
from experiments.sequences.probes import FIFTHS, Fitted, Samples
from experiments.sequences.supervised import supervised_method
from experiments.sequences.training import Recipe, Trained
from experiments.studies.report import Column

FEW = (2, 5)  # labels of each speaker, which some probes are given
TWO, FIVE = (Column(f"linear_{k}", f"{k} labels each, %", 100, 1) for k in FEW)
LINEAR = Column("linear", "all labels, %", 100, 1)
HIDDEN = Column("hidden", "hidden layer, %", 100, 1)
COLUMNS = (TWO, FIVE, LINEAR, HIDDEN)
# Added to the key of a figure that is of means and standard deviations over time.
BOTH = "_both"

_EPOCHS = 300  # of the probe with a hidden layer: there are few recordings
_HELD_OUT = 2  # fifths, for its penalty


@dataclasses.dataclass(frozen=True)
class VowelSettings:
    """The networks and how they are trained."""

    width: int = setting(64, "Channels of the encoder.", lower=1)
    context_width: int = setting(64, "Numbers of a context.", lower=1)
    window: int = setting(
        10, "Moments of a window; shorter recordings are not trained on.", lower=2
    )
    batch_size: int = setting(64, "Windows per step.", lower=2)
    training_steps: int = setting(500, "Steps of a training.", lower=1)
    learning_rates: tuple[float, ...] = setting(
        (0.001, 0.002, 0.004),
        "Learning rates: one for all rows, or several, of which each row has the one that is best "
        "on training recordings that are held out.",
        above=0,
    )
    held_out_fifths: int = setting(
        FIFTHS,
        "Of the training recordings, how many fifths are held out, each in its turn, where a rate "
        "is chosen.",
        lower=1,
        upper=FIFTHS,
    )

    def __post_init__(self) -> None:
        check_settings(self)


QUICK = {
    "width": 8, "context_width": 8, "training_steps": 3, "learning_rates": (0.002,),
}  # fmt: skip


def load_vowels() -> Parts:
    """The published parts, their channels standardised.

    Raises:
      ModuleNotFoundError: where aeon is missing.
    """
    parts = (load_recordings("japanese_vowels", part=part) for part in ("train", "test"))
    return Parts(*parts).standardised()


def networks_of(own: VowelSettings) -> Networks:
    """Each moment by itself is a step, and a GRU knows of those before it."""
    return Networks(feature_encoder(own.width), GRUContext(own.context_width), 1)


def cpc_of(own: VowelSettings, mesh: Mesh, *, steps: int, negatives: str = "mixed") -> Method:
    """CPC of these networks.

    Raises:
      ArgumentError: for a window that is too short for the steps.
    """
    if own.window <= steps:
        problem = f"leaves no moment from which {steps} steps are predicted: use more moments"
        raise ArgumentError("window", own.window, problem)
    encoder, context, _ = networks_of(own)
    return cpc_method(encoder, context, mesh, steps=steps, negatives=negatives)


def supervised_of(own: VowelSettings, num_classes: int) -> Method:
    """The same networks, trained on the labels of windows."""
    encoder, context, _ = networks_of(own)
    return supervised_method(encoder, context, num_classes, of="recordings")


def recipe_of(own: VowelSettings) -> Recipe:
    """How they are trained, at the first of the learning rates."""
    return Recipe(own.window, own.batch_size, own.training_steps, own.learning_rates[0])


def probed(data: Parts, train: Steps, test: Steps, seed: int) -> dict[str, Fitted]:
    """The probes of the speaker from what is known of each recording's moments, by key.

    They read means over time, and under keys that end with `BOTH` the standard deviations too.

    Args:
      data: whose labels are read.
      train, test: `[moments, dim]` of each recording.
      seed: of the probe with a hidden layer.
    """
    found = {}
    count = len(data.train.class_names)
    for spread in (False, True):
        split = _samples(train, data.train, spread), _samples(test, data.test, spread)
        ending = BOTH if spread else ""
        for labels, column in zip(FEW, (TWO, FIVE), strict=True):
            few = probes.of_recordings(*split, count, labels_per_class=labels)
            found[column.key + ending] = few
        found[LINEAR.key + ending] = probes.of_recordings(*split, count)
        found[HIDDEN.key + ending] = probes.one_hidden_layer(
            *split, seed, epochs=_EPOCHS, held_out=_HELD_OUT
        )
    return found


def _samples(steps: Steps, of: Recordings, spread: bool) -> Samples:
    return Samples(pooled(steps, spread=spread), of.labels, np.arange(len(of)))


def own_layer(row: str, trained: Trained, data: Parts, test: Steps) -> dict[str, Fitted]:
    """The linear figure of a supervised network: what its last layer finds in mean contexts."""
    del row
    if "classifier" not in trained.params:
        return {}
    right = last_layer(trained, pooled(test)) == data.test.labels
    return {LINEAR.key: Fitted(right, np.arange(len(right)))}


def score(row: str, trained: Trained, data: Parts, train: Steps, test: Steps) -> np.ndarray:
    """How far test recordings are right, as far as a rate is chosen by it.

    Of few labels, since with all of them nearly all is; of a supervised network its own layer's.
    """
    if own := own_layer(row, trained, data, test):
        return own[LINEAR.key].right
    split = _samples(train, data.train, False), _samples(test, data.test, False)
    count = len(data.train.class_names)
    return probes.of_recordings(*split, count, labels_per_class=FEW[-1]).right


def probes_of(own: VowelSettings) -> Probes:
    """What is asked of the networks."""
    return Probes(probed, score, own_layer, own.held_out_fifths)
