"""Who speaks and which digit is said, from raw waves by contrastive predictive coding.

    pip install -e '.[sequences]'
    python -m experiments.sequences.spoken_digits --data_dir=spoken_digits

reads people's recordings of single digits, at 8,000 samples per second, that lie as
SPEAKER/DIGIT_INDEX.wav, those of indices 0 to 4 to test. The Free Spoken Digit Dataset (CC BY-SA
4.0) is such: six speakers, ten digits, fifty times each. They are all men, in rooms of their own,
so that an untrained network tells many apart: it always stands beside.

CPC is trained on raw waves without labels. Probes read speaker and digit from the means and
standard deviations of contexts over a recording, and of mel-frequency cepstral coefficients with
their slopes, and of the same network trained end to end, on speakers and on digits; what it was
trained for is what its own last layer says of the mean, where the probe is linear. Penalties and
learning rates are chosen on training recordings that are held out. Prints the probes and what the
figures say to the order untrained < coefficients < CPC < end to end, which was published of longer
trainings of larger networks on more speech (see `experiments.sequences.speech`). Draws digits.png.
"""

import dataclasses
import re

import numpy as np

from alphacl_jax.data.sequences import Recordings
from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.linear import fit_probe
from alphacl_jax.runs.fields import setting
from alphacl_jax.training.mesh import data_mesh
from experiments.sequences import probes, waves
from experiments.sequences.cpc_rows import (
    RATES,
    Probes,
    Steps,
    last_layer,
    pooled,
    table_by_k,
)
from experiments.sequences.experiment import Experiment, experiment_main
from experiments.sequences.parts import Parts
from experiments.sequences.probes import Fitted, Samples
from experiments.sequences.training import Trained
from experiments.sequences.waves import CPC, OF_SPEAKERS, SPEAKER, SPEAKER_HIDDEN, WaveSettings
from experiments.studies import draw
from experiments.studies.claims import Claim
from experiments.studies.own_flags import Own
from experiments.studies.report import Column, Rows, table_of

OF_DIGITS = "supervised, digits"

DIGIT = Column("digit", "digit, %", 100, 1)
DIGIT_HIDDEN = Column("digit_hidden", "hidden layer, %", 100, 1)
DIGITS = 10

_NAME = re.compile(r"(?:.*/)?(\d)_(\d+)\.\w+")
_TESTED = 5  # the indices below it
_EPOCHS = 50


@dataclasses.dataclass(frozen=True)
class DigitSettings(WaveSettings):
    """Those of waves; words are short."""

    data_dir: str = setting("spoken_digits", "The folder of the speakers' folders.")
    predicted_steps: int = setting(4, "K: how many steps ahead CPC predicts.", lower=1)
    window: int = setting(
        2560, "Moments of a window; shorter recordings are not trained on.", lower=2 * waves.HOP
    )
    batch_size: int = setting(32, "Windows per step.", lower=2)


def load_digits(data_dir: str) -> Parts:
    """Both parts; each moment's label is the digit of its recording.

    Raises:
      ArgumentError: for files of other names, or none to train on or to test.
    """
    found = waves.load_waves(data_dir)
    matches = [_NAME.fullmatch(name) for name in found.names]
    if None in matches:
        problem = f"has {found.names[matches.index(None)]}, whose name is no DIGIT_INDEX.wav"
        raise ArgumentError("data_dir", data_dir, problem)
    digit, index = (np.array([int(match[i]) for match in matches if match]) for i in (1, 2))
    labelled = dataclasses.replace(
        found,
        moment_labels=np.repeat(digit.astype(np.int32), found.lengths),
        moment_names=tuple(map(str, range(DIGITS))),
    )
    tested = index < _TESTED
    if tested.all() or not tested.any():
        problem = f"must have files of indices below {_TESTED}, to test, and of others, to train on"
        raise ArgumentError("data_dir", data_dir, problem)
    parts = (labelled.select(np.flatnonzero(chosen)) for chosen in (~tested, tested))
    return Parts(*parts).standardised()


def digits_of(recordings: Recordings) -> np.ndarray:
    """The digit `[recordings]` of each."""
    found: np.ndarray = recordings.moment_labels[recordings.starts]
    return found


def _labels(recordings: Recordings) -> dict[str, np.ndarray]:
    return {SPEAKER.key: recordings.labels, DIGIT.key: digits_of(recordings)}


def figures(data: Parts, train: Steps, test: Steps, seed: int) -> dict[str, Fitted]:
    """The probes of recordings, by column."""
    found = {}
    kept, out = (pooled(steps, spread=True) for steps in (train, test))
    classes = {SPEAKER.key: len(data.train.class_names), DIGIT.key: DIGITS}
    for linear, hidden in ((SPEAKER, SPEAKER_HIDDEN), (DIGIT, DIGIT_HIDDEN)):
        split = (
            Samples(kept, _labels(data.train)[linear.key], np.arange(len(data.train))),
            Samples(out, _labels(data.test)[linear.key], np.arange(len(data.test))),
        )
        found[linear.key] = probes.of_recordings(*split, classes[linear.key])
        found[hidden.key] = probes.one_hidden_layer(*split, seed, epochs=_EPOCHS)
    return found


def own_layer(row: str, trained: Trained, data: Parts, test: Steps) -> dict[str, Fitted]:
    """The figure that a supervised network's own last layer gives, of the mean over a recording."""
    key = {OF_SPEAKERS: SPEAKER.key, OF_DIGITS: DIGIT.key}.get(row)
    if key is None:
        return {}
    right = last_layer(trained, pooled(test)) == _labels(data.test)[key]
    return {key: Fitted(right, np.arange(len(right)))}


def score(row: str, trained: Trained, data: Parts, train: Steps, test: Steps) -> np.ndarray:
    """The accuracies by which a rate is chosen: of what it is trained for, or of both."""
    if last := own_layer(row, trained, data, test):
        return np.array([of.right.mean() for of in last.values()])
    kept, out = (pooled(steps, spread=True) for steps in (train, test))
    return np.array(
        [
            fit_probe(kept, y, out, _labels(data.test)[key], int(y.max()) + 1).correct.mean()
            for key, y in _labels(data.train).items()
        ]
    )


def claims(rows: Rows) -> list[Claim]:
    """What was published of the order of these rows, on other speech."""
    return waves.order_claims(rows, {SPEAKER: OF_SPEAKERS, DIGIT: OF_DIGITS})


def run(experiment: Experiment) -> None:
    """Trains all, and shows what came of it."""
    own, mesh = experiment.own, data_mesh()
    data = load_digits(own.data_dir)
    experiment.depends_on(data.digests, changing_nothing=("data_dir",))
    methods = {
        CPC: waves.cpc_of(own, mesh),
        OF_SPEAKERS: waves.supervised_of(own, len(data.train.class_names), "recordings"),
        OF_DIGITS: waves.supervised_of(own, DIGITS, "windows"),
    }
    asked = Probes(figures, score, own_layer, 1)
    rows = waves.rows_of(experiment, data, methods, asked)
    speakers = len(data.train.class_names)
    experiment.finish(
        f"Digits that {speakers} people said, {len(data.train):,} recordings to train on and "
        f"{len(data.test)} to test\n\n"
        f"{table_of(rows, (SPEAKER, SPEAKER_HIDDEN, DIGIT, DIGIT_HIDDEN, *RATES))}\n\n"
        f"CPC: {table_by_k(rows[CPC])}",
        claims(rows),
        {
            "digits.png": lambda: draw.grouped_bars(
                rows,
                {SPEAKER.key: "speaker", DIGIT.key: "digit"},
                {SPEAKER.key: 1 / speakers, DIGIT.key: 1 / DIGITS},
                title="Linear probes of spoken digits",
                ylabel="accuracy, %", level="by chance", factor=100,
            ),
        },
    )  # fmt: skip


OWN = Own(DigitSettings, waves.QUICK)

if __name__ == "__main__":
    experiment_main("spoken_digits", __doc__, run, OWN)
