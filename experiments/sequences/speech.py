"""Who speaks and which phone sounds, from raw waves by contrastive predictive coding.

    pip install -e '.[sequences,speech]'
    python -m experiments.sequences.make_speech --output=runs/speech
    python -m experiments.sequences.speech --data_dir=runs/speech

The speech is synthetic: a synthesiser says sentences in voices that differ, and tells which phone
sounds when; what is measured says something about it, and less about people. CPC is trained on raw
waves without labels. Probes then read the speaker and the phone from the contexts of single
moments, 10 ms apart, silences left out; and the speaker from the mean over a recording. Beside them
stand the same network untrained, mel-frequency cepstral coefficients with their slopes, and the
network trained end to end, on speakers and on phones; what it was trained for is what its own last
layer says, where the probe is linear. Penalties and learning rates are chosen on training
recordings that are held out.

An accuracy is the mean over recordings of the share of their moments that are right. Prints the
probes and what the figures say to the published order, untrained < coefficients < CPC < end to end.
Draws speech.png. The published figures are of LibriSpeech, 100 hours of 251 people, and of networks
of width 512 that were trained for long: van den Oord, Li and Vinyals, "Representation Learning with
Contrastive Predictive Coding", 2018, Tbl. 1.
"""

import dataclasses

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
from experiments.sequences.phones import SILENCE
from experiments.sequences.probes import Fitted, Samples
from experiments.sequences.supervised import at_steps
from experiments.sequences.training import Trained
from experiments.sequences.waves import CPC, HOP, OF_SPEAKERS, SPEAKER, SPEAKER_HIDDEN, WaveSettings
from experiments.studies import draw
from experiments.studies.claims import Claim
from experiments.studies.own_flags import Own
from experiments.studies.report import Column, Rows, table_of

OF_PHONES = "supervised, phones"

PHONE = Column("phone", "phone, %", 100, 1)
PHONE_HIDDEN = Column("phone_hidden", "hidden layer, %", 100, 1)
WHOLE = Column("speaker_whole", "speaker of a recording, %", 100, 1)

_PENALTIES = (1e2, 1.0, 0.01)  # there are many moments
_EPOCHS = 20
_PENALTY = 10.0  # of the probe by which a rate is chosen


@dataclasses.dataclass(frozen=True)
class SpeechSettings(WaveSettings):
    """The data, networks and training, and how many moments are probed."""

    probe_moments: int = setting(
        10_000, "Moments of the training recordings that probes of moments are fitted to.", lower=1
    )


def load_speech(own: SpeechSettings) -> Parts:
    """Both parts, one loudness in all; a silence is a moment whose phone is not known.

    Raises:
      ArgumentError: for a folder without phones or a test part.
    """
    parts = [waves.load_waves(own.data_dir, part=part) for part in ("train", "test")]
    if SILENCE not in parts[0].moment_names:
        problem = "says of no moment which phone sounds: name a folder that make_speech made"
        raise ArgumentError("data_dir", own.data_dir, problem)
    silence = parts[0].moment_names.index(SILENCE)
    return Parts(
        *(
            dataclasses.replace(
                of, moment_labels=np.where(of.moment_labels == silence, -1, of.moment_labels)
            )
            for of in parts
        )
    ).standardised()


class Moments:
    """What is known of the steps of recordings, silences left out."""

    def __init__(self, recordings: Recordings, at_most: int | None = None):
        """Finds them.

        Args:
          recordings: of which each has a step that is no silence.
          at_most: how many are drawn, the same of whatever represents them; None for all.
        """
        starts = recordings.starts
        phones = [
            at_steps(recordings.moment_labels[start : start + length], HOP)[: length // HOP]
            for start, length in zip(starts, recordings.lengths, strict=True)
        ]
        number = np.repeat(np.arange(len(phones)), [len(of) for of in phones])
        phone = np.concatenate(phones)
        chosen = np.flatnonzero(phone >= 0)
        if at_most is not None and at_most < len(chosen):
            rng = np.random.default_rng(0)
            chosen = np.sort(rng.choice(chosen, at_most, replace=False))
        self._chosen = chosen
        self._phone, self._recording = phone[chosen], number[chosen]
        self._speaker = recordings.labels[self._recording]

    def of(self, steps: Steps, label: str) -> Samples:
        """Their features, and their "speaker" or "phone"."""
        y = self._speaker if label == "speaker" else self._phone
        return Samples(np.concatenate(list(steps))[self._chosen], y, self._recording)


def figures(
    own: SpeechSettings, data: Parts, train: Steps, test: Steps, seed: int
) -> dict[str, Fitted]:
    """The probes of moments and of recordings, by column."""
    kept, out = Moments(data.train, own.probe_moments), Moments(data.test)
    found = {}
    for label, linear, hidden, names in (
        ("speaker", SPEAKER, SPEAKER_HIDDEN, data.train.class_names),
        ("phone", PHONE, PHONE_HIDDEN, data.train.moment_names),
    ):
        split = kept.of(train, label), out.of(test, label)
        found[linear.key] = probes.linear(*split, len(names), penalties=_PENALTIES)
        found[hidden.key] = probes.one_hidden_layer(*split, seed, epochs=_EPOCHS)
    return {**found, WHOLE.key: whole(data, train, test)}


def whole(data: Parts, train: Steps, test: Steps) -> Fitted:
    """The linear probe of the speaker from the mean over a recording."""
    kept, out = (
        Samples(pooled(steps), of.labels, np.arange(len(of)))
        for steps, of in zip((train, test), data, strict=True)
    )
    return probes.of_recordings(kept, out, len(data.train.class_names))


def own_layer(row: str, trained: Trained, data: Parts, test: Steps) -> dict[str, Fitted]:
    """The figure that a supervised network's own last layer gives."""
    if row == OF_PHONES:
        samples = Moments(data.test).of(test, "phone")
        right = last_layer(trained, samples.x) == samples.y
        return {PHONE.key: Fitted(right, samples.recording)}
    if row == OF_SPEAKERS:
        right = last_layer(trained, pooled(test)) == data.test.labels
        return {WHOLE.key: Fitted(right, np.arange(len(right)))}
    return {}


def score(
    own: SpeechSettings, row: str, trained: Trained, data: Parts, train: Steps, test: Steps
) -> np.ndarray:
    """The accuracies by which a rate is chosen: of what it is trained for, or of both."""
    if last := own_layer(row, trained, data, test):
        return np.array([of.shares().mean() for of in last.values()])
    kept = Moments(data.train, own.probe_moments).of(train, "phone")
    out = Moments(data.test).of(test, "phone")
    split = kept.x, kept.y, out.x, out.y
    phones = fit_probe(*split, len(data.train.moment_names), l2=_PENALTY).correct.mean()
    return np.array([whole(data, train, test).right.mean(), phones])


def claims(rows: Rows) -> list[Claim]:
    """What was published of the order of these rows, for each target."""
    return waves.order_claims(rows, {SPEAKER: OF_SPEAKERS, PHONE: OF_PHONES})


def run(experiment: Experiment) -> None:
    """Trains all, and shows what came of it."""
    own, mesh = experiment.own, data_mesh()
    data = load_speech(own)
    experiment.depends_on(data.digests, changing_nothing=("data_dir",))
    methods = {
        CPC: waves.cpc_of(own, mesh),
        OF_SPEAKERS: waves.supervised_of(own, len(data.train.class_names), "recordings"),
        OF_PHONES: waves.supervised_of(own, len(data.train.moment_names), "moments"),
    }
    asked = Probes(
        lambda *given: figures(own, *given), lambda *given: score(own, *given), own_layer, 1
    )
    rows = waves.rows_of(experiment, data, methods, asked)
    columns = (SPEAKER, SPEAKER_HIDDEN, PHONE, PHONE_HIDDEN, WHOLE, *RATES)
    speakers, phones = len(data.train.class_names), len(data.train.moment_names) - 1
    minutes = [of.lengths.sum() / of.rate / 60 for of in data if of.rate]
    experiment.finish(
        f"Synthetic speech of {speakers} voices, {minutes[0]:.0f} minutes to train on and "
        f"{minutes[1]:.0f} to test; probes of moments, of {phones} phones\n\n"
        f"{table_of(rows, columns)}\n\nCPC: {table_by_k(rows[CPC])}",
        claims(rows),
        {
            "speech.png": lambda: draw.grouped_bars(
                rows,
                {SPEAKER.key: "speaker of a moment", PHONE.key: "phone"},
                {SPEAKER.key: 1 / speakers, PHONE.key: 1 / phones},
                title="Linear probes of moments of synthetic speech",
                ylabel="accuracy, %", level="by chance", factor=100,
            ),
        },
    )  # fmt: skip


OWN = Own(SpeechSettings, {**waves.QUICK, "probe_moments": 200})

if __name__ == "__main__":
    experiment_main("speech", __doc__, run, OWN)
