"""What CEBRA finds in neurons of an animal that moves: position and direction of held-out time.

    python -m experiments.sequences.neurons --data=linear_track.npz
    python -m experiments.sequences.neurons --data=box

The data are spikes and positions of an animal on a linear track, see
`experiments.sequences.linear_track`; or `box`: place cells, simulated on the way of a real rat
through a box, of which the package ratinabox is needed. The last part of the time is held out.
Embeddings are trained on the time before it: by time alone, by behaviour (position, and direction
where there is one), by both, and by behaviour shuffled over moments, which tells nothing. From
training embeddings a decoder by nearest neighbours is made, whose number of neighbours is chosen on
the last part of the training time, and position and direction of the held-out time are decoded.
Beside them stand the counts, averaged over as many bins as the encoder sees, and their principal
components; with --package, CEBRA of the authors' package (`pip install -e '.[bench]'`), which knows
of no borders between runs, and so ours without them.

Prints the errors and the goodness of fit, and what the figures say to each claim. Draws
embeddings.png, of the first seed, and training.png.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d
from sklearn.decomposition import PCA

from alphacl_jax.data.sequences import Recordings
from alphacl_jax.evaluation.decoding import decode_class, decode_position
from alphacl_jax.evaluation.embedding_pictures import plot_embeddings, plot_training
from alphacl_jax.evaluation.held_out import TimeSplit, time_split
from alphacl_jax.evaluation.pictures import warned_of
from alphacl_jax.runs.agreement import digest_of_arrays
from alphacl_jax.runs.cells import Cell
from alphacl_jax.runs.fields import check_settings, setting
from experiments.benchmarks.benchmarking import require_installed
from experiments.benchmarks.cebra_sides import FITS, OURS, PACKAGE, Fitted, Session, Setup
from experiments.sequences.experiment import Experiment, experiment_main
from experiments.sequences.linear_track import read_track
from experiments.sequences.rat_in_a_box import place_cells
from experiments.studies.claims import Claim, interval_of
from experiments.studies.own_flags import Own
from experiments.studies.report import Column, Rows, table_of

BOX = "box"
COUNTS, COMPONENTS = "counts", "principal components"
TIME, BEHAVIOUR, BOTH, SHUFFLED = "time", "behaviour", "both", "behaviour, shuffled"
GLUED_TIME, GLUED_BEHAVIOUR = f"{TIME}, no borders", f"{BEHAVIOUR}, no borders"
PACKAGE_TIME, PACKAGE_BEHAVIOUR = f"{TIME}, package", f"{BEHAVIOUR}, package"
ERROR, R2, DIRECTION, GOODNESS = "position_error", "position_r2", "direction", "goodness"
COLUMNS = (
    Column(ERROR, "position: median error", digits=3),
    Column(R2, "R²", digits=3),
    Column(DIRECTION, "direction, %", 100, 1),
    Column(GOODNESS, "goodness of fit, bits"),
)
_SHUFFLE = 0x7368  # keeps the order of shuffled contexts apart from the draws of training


@dataclasses.dataclass(frozen=True)
class NeuronSettings:
    """Data, networks and training."""

    data: str = setting(BOX, "An .npz of spikes and positions on a track, or 'box'.")
    held_out: float = setting(
        0.2, "The part of the time that is decoded: the last.", above=0, below=1
    )
    package: bool = setting(False, "Train the authors' package as well.")
    receptive_field: int = setting(10, "Bins that the encoder sees: 1, 5, 10 or 36.", lower=1)
    dimensions: int = setting(3, "Of embeddings and principal components.", lower=2)
    time_offset: int = setting(10, "Bins between a moment and its positive in time.", lower=1)
    batch_size: int = setting(512, "References of a batch, and as many negatives.", lower=2)
    iterations: int = setting(2000, "Of each training.", lower=1)

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def setup(self) -> Setup:
        return Setup(
            self.receptive_field,
            self.dimensions,
            self.time_offset,
            self.batch_size,
            self.iterations,
        )


class Neurons(NamedTuple):
    """Recordings, parted in time.

    Attributes:
      recordings: all of them.
      split: into moments to train on and to test on.
    """

    recordings: Recordings
    split: TimeSplit

    @property
    def has_direction(self) -> bool:
        return bool(self.recordings.moment_names)

    def session(self, moments: np.ndarray, contexts: Sequence[np.ndarray] = ()) -> Session:
        """Some moments, with contexts `[time, ...]` of all."""
        of = self.recordings
        own = tuple(each[moments] for each in contexts)
        return Session(of.signal[moments], own, of.recording[moments])

    @property
    def behaviour(self) -> tuple[np.ndarray, ...]:
        """Position, and direction where there is one."""
        of = self.recordings
        if not self.has_direction:
            return (of.context,)
        return of.context, of.moment_labels.astype(np.int64)


def read(own: NeuronSettings) -> Neurons:
    """The data, and what of it is held out."""
    found = place_cells(0).recordings if own.data == BOX else read_track(own.data)
    split = time_split(found.lengths, own.held_out, gap=own.receptive_field)
    return Neurons(found, split)


def decoded(data: Neurons, z: np.ndarray, at: np.ndarray, metric: str) -> Cell:
    """How well embeddings `[time, dim]` of the test moments tell position and direction.

    Args:
      data: the recordings.
      z: of the training moments.
      at: of the test moments.
      metric: of the neighbours.
    """
    of, (train, test, _, _) = data.recordings, data.split
    position = decode_position(z, of.context[train], at, of.context[test], metric=metric)
    found: Cell = {ERROR: position.median_error, R2: position.r2}
    if data.has_direction:
        labels = of.moment_labels
        direction = decode_class(z, labels[train], at, labels[test], metric=metric)
        found |= {DIRECTION: direction.accuracy}
    return found


def counts(data: Neurons, bins: int) -> np.ndarray:
    """Means of the counts over so many bins of a recording around each moment."""
    of = data.recordings
    return np.concatenate([uniform_filter1d(of.of(i), bins, axis=0) for i in range(len(of))])


def fit(data: Neurons, own: NeuronSettings, row: str, seed: int) -> Fitted:
    """The model of a row, trained on the training moments."""
    train, setup, contexts = data.split.train, own.setup, data.behaviour
    if row in (TIME, GLUED_TIME, PACKAGE_TIME):
        contexts = ()
    if row == SHUFFLED:
        order = np.random.default_rng([seed, _SHUFFLE]).permutation(len(train))
        contexts = tuple(_with(each, train, each[train][order]) for each in contexts)
    if row == BOTH:
        setup = setup._replace(hybrid=True)
    side = PACKAGE if row in (PACKAGE_TIME, PACKAGE_BEHAVIOUR) else OURS
    return FITS[side](setup, [_session(data, row, train, contexts)], seed)


def _session(
    data: Neurons, row: str, moments: np.ndarray, contexts: Sequence[np.ndarray] = ()
) -> Session:
    """Some moments, with the borders that the row knows of."""
    found = data.session(moments, contexts)
    return found._replace(groups=None) if row in (GLUED_TIME, GLUED_BEHAVIOUR) else found


def _with(array: np.ndarray, moments: np.ndarray, values: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed[moments] = values
    return changed


def cell_of(data: Neurons, own: NeuronSettings, row: str, seed: int) -> Cell:
    """The figures of one row and seed."""
    train, test = data.split.train, data.split.test
    if row in (COUNTS, COMPONENTS):
        z = counts(data, own.receptive_field)
        if row == COMPONENTS:
            z = PCA(min(own.dimensions, z.shape[1]), random_state=seed).fit(z[train]).transform(z)
        return decoded(data, z[train], z[test], "euclidean")
    fitted = fit(data, own, row, seed)
    (z,), (at,) = (fitted.embed([_session(data, row, moments)]) for moments in (train, test))
    return {**decoded(data, z, at, "cosine"), GOODNESS: fitted.goodness}


def is_nearer(text: str, rows: Rows, better: str, worse: str) -> Claim:
    """The claim that one row has the smaller error of position: its mean difference over seeds is
    below 0 by more than half its 95 % interval. The test moments are the same for all seeds."""
    errors = [np.array([cell[ERROR] for cell in rows[name]]) for name in (better, worse)]
    mean, width = interval_of(errors[0] - errors[1])
    verdict = "not settled"
    if abs(mean) > width:
        verdict = "holds" if mean < 0 else "does not hold"
    return Claim(text, f"{mean:+.3f} ± {width:.3f}", verdict)


def claims(rows: Rows) -> list[Claim]:
    """What is claimed of the errors of position."""
    wanted = [
        ("behaviour tells the position better than the components do", BEHAVIOUR, COMPONENTS),
        ("behaviour tells it better than the counts do", BEHAVIOUR, COUNTS),
        ("behaviour tells it better than shuffled behaviour does", BEHAVIOUR, SHUFFLED),
        ("time tells it better than the components do", TIME, COMPONENTS),
        ("ours tells it better than the package, behaviour", GLUED_BEHAVIOUR, PACKAGE_BEHAVIOUR),
        ("ours tells it better than the package, time", GLUED_TIME, PACKAGE_TIME),
        ("borders make it better, behaviour", BEHAVIOUR, GLUED_BEHAVIOUR),
        ("borders make it better, time", TIME, GLUED_TIME),
    ]
    return [is_nearer(text, rows, *pair) for text, *pair in wanted if set(pair) <= set(rows)]


def pictures(data: Neurons, own: NeuronSettings, seed: int) -> dict[str, Callable]:
    """What draws the embeddings of all moments, trained once more, and their trainings."""
    fits = {row: fit(data, own, row, seed) for row in (TIME, BEHAVIOUR, SHUFFLED)}
    every = np.arange(len(data.recordings.signal))
    position = data.recordings.context[:, 0]
    embeddings = {row: (of.embed([data.session(every)])[0], position) for row, of in fits.items()}
    losses = {row: {"loss": of.loss} for row, of in fits.items()}
    return {
        "embeddings.png": lambda path: plot_embeddings(path, embeddings, label="position"),
        "training.png": lambda path: plot_training(path, losses),
    }


def run(experiment: Experiment) -> None:
    """Trains all, and shows what came of it."""
    own: NeuronSettings = experiment.own
    if own.package:
        require_installed(["torch", "cebra"], otherwise=", or leave --package out")
    data = read(own)
    of = data.recordings
    experiment.depends_on({"data": digest_of_arrays((of.signal, of.context))}, ("package",))
    names = [COUNTS, COMPONENTS, TIME, BEHAVIOUR, BOTH, SHUFFLED]
    if own.package:
        names += [GLUED_TIME, GLUED_BEHAVIOUR, PACKAGE_TIME, PACKAGE_BEHAVIOUR]
    rows = experiment.rows(names, lambda row, seed: cell_of(data, own, row, seed))
    title = (
        f"{of.signal.shape[1]} neurons, {len(data.split.train):,} moments to train on and "
        f"{len(data.split.test):,} to test on, the position from {of.context.min():.3g} to "
        f"{of.context.max():.3g}"
    )
    experiment.finish(f"{title}\n\n{table_of(rows, COLUMNS)}", claims(rows), {})
    for name, draw in pictures(data, own, experiment.seeds[0]).items():
        path = experiment.output / name
        with warned_of(str(path)):
            draw(path)
            print(f"picture: {path}", flush=True)


OWN = Own(NeuronSettings, {"iterations": 20, "batch_size": 64})

if __name__ == "__main__":
    experiment_main("neurons", __doc__, run, OWN)
