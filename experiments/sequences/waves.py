"""CPC on raw waves: the networks, how they are trained, and cepstral coefficients beside them."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jax.sharding import Mesh

from alphacl_jax.data.recordings import load_recordings
from alphacl_jax.data.sequences import Recordings
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.cpc import cpc_method
from alphacl_jax.methods.method import Method
from alphacl_jax.models.speech import GRUContext, wave_encoder
from alphacl_jax.runs.cells import Cell
from alphacl_jax.runs.fields import check_settings, setting
from alphacl_jax.training.mesh import data_mesh
from experiments.sequences.cpc_rows import CPCRows, Networks, Probes, Steps, cell_of
from experiments.sequences.experiment import Experiment
from experiments.sequences.mfcc import mfcc, with_slopes
from experiments.sequences.parts import Parts
from experiments.sequences.supervised import supervised_method
from experiments.sequences.training import Recipe
from experiments.studies.claims import Claim, is_higher
from experiments.studies.report import Column, Rows

HOP = 160  # moments of a step of `wave_encoder`
UNTRAINED, MFCC, CPC = "untrained network", "MFCC", "CPC"
OF_SPEAKERS = "supervised, speakers"
SPEAKER = Column("speaker", "speaker, %", 100, 1)
SPEAKER_HIDDEN = Column("speaker_hidden", "hidden layer, %", 100, 1)


@dataclasses.dataclass(frozen=True)
class WaveSettings:
    """The data, the networks and how they are trained."""

    data_dir: str = setting("runs/speech", "The folder of the recordings.")
    width: int = setting(64, "Channels of the encoder.", lower=1)
    context_width: int = setting(64, "Numbers of a context.", lower=1)
    predicted_steps: int = setting(12, "K: how many steps ahead CPC predicts.", lower=1)
    window: int = setting(
        10_240, "Moments of a window; shorter recordings are not trained on.", lower=2 * HOP
    )
    batch_size: int = setting(8, "Windows per step.", lower=2)
    training_steps: int = setting(1000, "Steps of a training.", lower=1)
    learning_rates: tuple[float, ...] = setting(
        (0.002, 0.005),
        "Learning rates: one for all rows, or several, of which each row has the one that is best "
        "on training recordings that are held out.",
        above=0,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.window // HOP <= self.predicted_steps:
            problem = (
                f"makes {self.window // HOP} steps of {HOP} moments, and predicted_steps="
                f"{self.predicted_steps} are to come after one of them: use longer windows"
            )
            raise ArgumentError("window", self.window, problem)


QUICK = {
    "width": 4, "context_width": 4, "predicted_steps": 2, "window": 800, "training_steps": 2,
    "learning_rates": (0.001,),
}  # fmt: skip


def load_waves(data_dir: str, **options: str) -> Recordings:
    """Recordings of a folder; see `load_wave_folder`."""
    return load_recordings("wav", data_dir, **options)


def networks_of(own: WaveSettings) -> Networks:
    """Five convolutions of strides 5, 4, 2, 2, 2, and a GRU."""
    return Networks(wave_encoder(own.width), GRUContext(own.context_width), HOP)


def cpc_of(own: WaveSettings, mesh: Mesh) -> Method:
    """CPC with negatives from all of the batch."""
    encoder, context, _ = networks_of(own)
    return cpc_method(encoder, context, mesh, steps=own.predicted_steps)


def supervised_of(own: WaveSettings, num_classes: int, of: str) -> Method:
    """The same networks, trained end to end; see `supervised_method`."""
    encoder, context, hop = networks_of(own)
    return supervised_method(encoder, context, num_classes, of=of, hop=hop)


def recipe_of(own: WaveSettings) -> Recipe:
    """How they are trained, at the first of the learning rates."""
    return Recipe(own.window, own.batch_size, own.training_steps, own.learning_rates[0])


def rows_of(
    experiment: Experiment, data: Parts, methods: Mapping[str, Method], asked: Probes
) -> dict[str, list[Cell]]:
    """The cells of all methods, beside the untrained network and the cepstral coefficients.

    Args:
      experiment: with `WaveSettings`.
      data: to train on and to test.
      methods: by row, `CPC` among them.
      asked: of each of them.
    """
    own = experiment.own
    networks, recipe = networks_of(own), recipe_of(own)
    trained = CPCRows(experiment, data, networks, methods, recipe, asked, data_mesh())

    def cell(row: str, seed: int) -> Cell:
        if row == MFCC:
            return cell_of(asked.figures(data, cepstra(data.train), cepstra(data.test), seed))
        return trained.untrained(CPC, seed) if row == UNTRAINED else trained.cell(row, seed)

    return experiment.rows((UNTRAINED, MFCC, *methods), cell)


def order_claims(rows: Rows, best: Mapping[Column, str]) -> list[Claim]:
    """What was published of the order of these rows.

    Args:
      rows: of all methods.
      best: target → the network that is trained for it.
    """
    return [
        is_higher(f"{of.key}, linear: {better} is better than {worse}", rows, better, worse, of.key)
        for of, supervised in best.items()
        for better, worse in ((MFCC, UNTRAINED), (CPC, UNTRAINED), (CPC, MFCC), (supervised, CPC))
    ]


def cepstra(recordings: Recordings) -> Steps:
    """Of each recording 13 coefficients, their slopes and the slopes of these: `[steps, 39]`."""
    assert recordings.rate is not None, "a sound has a rate"
    return [
        with_slopes(mfcc(_at_least_a_step(recordings.of(number)[:, 0]), recordings.rate, HOP))
        for number in range(len(recordings))
    ]


def _at_least_a_step(signal: np.ndarray) -> np.ndarray:
    return np.pad(signal, (0, max(0, HOP - len(signal))))
