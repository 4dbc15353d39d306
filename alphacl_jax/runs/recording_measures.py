"""What features of recordings are looked at by: probes of classes, decoding, held-out windows."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.decomposition import PCA

from alphacl_jax.data.sequences import Recordings, with_borders
from alphacl_jax.evaluation.decoding import decode_class, decode_position
from alphacl_jax.evaluation.linear import fit_probe
from alphacl_jax.methods.method import Method
from alphacl_jax.runs.recording_encoder import RecordingEncoder, compiled_of, on_one_device
from alphacl_jax.runs.recording_methods import make_batch_of
from alphacl_jax.runs.recording_probes import evenly

# Features over time `[steps, width]` of each of some signals.
OverTime = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

_TOGETHER = 64  # recordings whose features over time are in memory at once
_FRAME = 400  # moments of a spectrum
_MOST_DECODED = 20_000


class Seen(NamedTuple):
    """Features of recordings.

    Attributes:
      means: `[recordings, width]`, of each over its time.
      steps: `[m, width]`, of some of the steps, in no order.
      labels: int32 `[m]`, the class of the moment in the middle of each; -1 where unknown.
      recordings: `[m]`, the number of the recording that each is of.
    """

    means: np.ndarray
    steps: np.ndarray
    labels: np.ndarray
    recordings: np.ndarray


def seen(over_time: OverTime, recordings: Recordings, stride: int, most: int) -> Seen:
    """Features of recordings: the means of all, and at most so many steps, drawn at random.

    The same steps for any features of as many steps. Where some moments have a label, those are
    drawn.

    Args:
      over_time: makes the features of some signals.
      recordings: what is looked at.
      stride: moments from one step to the next.
      most: how many steps.
    """
    counts = [-(-int(length) // stride) for length in recordings.lengths]
    chosen = _drawn_steps(recordings, counts, stride, most)
    means, steps, labels, of = [], [], [], []
    starts = recordings.starts
    for first in range(0, len(recordings), _TOGETHER):
        numbers = range(first, min(first + _TOGETHER, len(recordings)))
        found = over_time([recordings.of(i) for i in numbers])
        for number, features in zip(numbers, found, strict=True):
            means.append(features.mean(axis=0))
            own = chosen[number][chosen[number] < len(features)]
            steps.append(features[own])
            labels.append(recordings.moment_labels[starts[number] + _middle(own, stride)])
            of.append(np.full(len(own), number))
    return Seen(np.stack(means), *map(np.concatenate, (steps, labels, of)))


def _middle(steps: np.ndarray, stride: int) -> np.ndarray:
    return steps * stride + stride // 2


def _drawn_steps(
    recordings: Recordings, counts: Sequence[int], stride: int, most: int
) -> list[np.ndarray]:
    """Which steps of each recording are kept."""
    of = np.repeat(np.arange(len(counts)), counts)
    step = np.concatenate([np.arange(count) for count in counts])
    moment = _middle(step, stride)
    inside = moment < recordings.lengths[of]
    labels = np.where(
        inside, recordings.moment_labels[recordings.starts[of] + np.where(inside, moment, 0)], -1
    )
    usable = np.flatnonzero(labels >= 0 if (labels >= 0).any() else inside)
    kept = np.random.default_rng(0).permutation(usable)[:most]
    return [step[kept[of[kept] == number]] for number in range(len(counts))]


def raw_over_time(encoder: RecordingEncoder) -> tuple[str, OverTime]:
    """What the table calls the features of no network, and what makes them.

    The signal itself, normalised as the encoder's is; of waves, of which a step has many moments,
    the logarithm of the spectrum around each.
    """

    def signal(signals: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [encoder.description.normalised(each) for each in signals]

    def spectra(signals: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [log_spectra(each, encoder.stride) for each in signal(signals)]

    return ("raw features", signal) if encoder.stride == 1 else ("log spectrum", spectra)


def log_spectra(signal: np.ndarray, stride: int) -> np.ndarray:
    """log(1e-6 + |DFT|²) of a Hann-windowed frame around every step, `[steps, channels · bins]`."""
    frames = with_borders(signal, _FRAME // 2, _FRAME - _FRAME // 2)
    at = _middle(np.arange(-(-len(signal) // stride)), stride) + np.arange(_FRAME)[:, None]
    windowed = frames[np.minimum(at, len(frames) - 1)] * np.hanning(_FRAME)[:, None, None]
    power = np.abs(np.fft.rfft(windowed, axis=0)) ** 2 / _FRAME
    return np.log(1e-6 + power).transpose(1, 2, 0).reshape(at.shape[1], -1).astype(np.float32)


def moments_probed(train: Seen, test: Seen, num_classes: int) -> float:
    """Accuracy of a linear probe of the class of held-out moments.

    Moments of one recording look alike, so the penalty is chosen where whole recordings are left
    out.
    """
    known = train.labels >= 0
    split = (
        *(train.steps[known], train.labels[known]),
        *(test.steps[test.labels >= 0], test.labels[test.labels >= 0]),
    )
    return float(fit_probe(*split, num_classes, groups=train.recordings[known]).correct.mean())


def decoded(
    train_z: np.ndarray, train: Recordings, test_z: np.ndarray, test: Recordings, metric: str
) -> dict[str, float]:
    """What nearest neighbours among embeddings tell of held-out moments.

    Returns:
      Of recordings with a context "context_r2" and "context_error", the median distance; of those
      with labels of moments "moments", the accuracy, and "most_frequent", that of the class that is
      most frequent in training.
    """
    found: dict[str, float] = {}
    if train.context.shape[1]:
        a, b = (evenly(np.arange(len(z)), _MOST_DECODED) for z in (train_z, test_z))
        position = decode_position(
            train_z[a], train.context[a], test_z[b], test.context[b], metric=metric
        )
        found |= {"context_r2": position.r2, "context_error": position.median_error}
    if has_classes(train.moment_labels, test.moment_labels):
        a, b = (
            evenly(np.flatnonzero(of.moment_labels >= 0), _MOST_DECODED) for of in (train, test)
        )
        classes = decode_class(
            *(train_z[a], train.moment_labels[a], test_z[b], test.moment_labels[b]), metric=metric
        )
        found |= {"moments": classes.accuracy, "most_frequent": classes.most_frequent}
    return found


def has_classes(train: np.ndarray, test: np.ndarray) -> bool:
    """Whether two classes or more are known to train on, and some labels to test on."""
    return len(np.unique(train[train >= 0])) > 1 and bool((test >= 0).any())


def components_of_means(
    train: Recordings, test: Recordings, before: int, after: int, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the mean signal over each moment's window, of training's axes."""

    def means(recordings: Recordings) -> np.ndarray:
        return np.concatenate(
            [_window_means(recordings.of(i), before, after) for i in range(len(recordings))]
        )

    x, at = means(train), means(test)
    pca = PCA(min(dim, *x.shape), random_state=0).fit(x)
    return pca.transform(x), pca.transform(at)


def _window_means(signal: np.ndarray, before: int, after: int) -> np.ndarray:
    sums = np.cumsum(with_borders(signal, before, after).astype(np.float64), axis=0)
    sums = np.concatenate([np.zeros((1, signal.shape[1])), sums])
    width = before + after
    return (sums[width:] - sums[:-width]) / width


def of_held_out_windows(
    encoders: Mapping[str, RecordingEncoder], recordings: Recordings, batches: int
) -> dict[str, dict[str, float]]:
    """The metrics of the method on batches of held-out windows, the mean over them.

    Args:
      encoders: of one run, by name.
      recordings: of no part in training.
      batches: how many; the same ones for each encoder, of the run's size. Of CPC each has one
        window of a recording at most, and so fewer where there are fewer recordings.

    Raises:
      ArgumentError: where the recordings are too short, or lack what the batches are drawn by.
    """
    first = next(iter(encoders.values()))
    made, _ = compiled_of(first)
    drawn = made.held_out_batches(
        recordings, first.settings.optimizer.batch_size, on_one_device(), first.settings.seed
    )
    make_batch = make_batch_of(first.description.mean, first.description.std)
    measure = jax.jit(functools.partial(_metrics, made.method, make_batch))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in encoders}
    for _ in range(batches):
        raw = next(drawn)
        for name, encoder in encoders.items():
            found[name].append(measure(encoder.params, encoder.state, raw))
    return {
        name: {key: float(np.mean([one[key] for one in of])) for key in of[0]}
        for name, of in found.items()
    }


def _metrics(method: Method, make_batch: Any, params: Any, state: Any, raw: Any) -> Any:
    key = jax.random.key(0)
    batch = {**make_batch(key, raw), "recorded": jnp.array(True)}
    loss, (_, metrics) = method.loss(params, state, batch, key)
    return {**metrics, "loss": loss}
