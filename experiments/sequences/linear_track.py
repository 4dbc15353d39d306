"""Spikes and positions of an animal on a linear track, as recordings; and what counts alone tell.

  python -m experiments.sequences.linear_track --data=linear_track.npz

prints what the file holds, and decodes position and direction of the last runs from the counts
themselves and from their principal components: what an embedding has to be better than.
"""

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from absl import flags
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from sklearn.decomposition import PCA

from alphacl_jax.cli.start import plain_errors, run_main
from alphacl_jax.data.sequences import Recordings, recordings_from_arrays
from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.decoding import decode_class, decode_position
from alphacl_jax.evaluation.held_out import time_split
from alphacl_jax.tables import align

KEYS = ("spike_time", "spike_unit", "position_time", "position")
DIRECTIONS = ("down", "up")
_LONGEST_GAP = 0.25  # seconds between positions that are still filled in
_MEAN_OF = 10  # bins, as long as the receptive field that is usual for such data


def read_track(
    data: str,
    *,
    bin_seconds: float = 0.025,
    smoothing: float = 0.25,
    min_speed: float = 0.05,
    min_span: float = 0.3,
) -> Recordings:
    """The runs along a track of a file of spikes and positions, each a recording of its own.

    Time is cut into bins. A bin's position is interpolated at its middle, and projected on the
    track: the principal axis of where the animal moved, by the way it went there, so that no rest
    counts, however long. The velocity is that of the smoothed position. A run is as many bins as
    follow each other with a velocity of one sign above `min_speed`, and leads over `min_span` of
    the track at least; all else, rests and turns among it, is left out.

    Args:
      data: the path of an .npz file of `spike_time` `[spikes]` in seconds, `spike_unit` `[spikes]`,
        whole numbers, `position_time` `[samples]` in seconds, not falling, and `position`
        `[samples]` or `[samples, dims]`, in any unit.
      bin_seconds: of a bin.
      smoothing: seconds, the standard deviation of a Gaussian.
      min_speed: in lengths of the track per second.
      min_span: in lengths of the track. Its length is from the 1st to the 99th hundredth of the way
        that the animal went.

    Returns:
      `signal` holds counts `[time, units]`, in the order of the units' numbers, `context` the
      position `[time, 1]` along the track, from 0 at its lower end, in the file's unit, and labels
      of runs and of moments are the direction, "up" to higher positions.

    Raises:
      ArgumentError: for a file that is not there or holds something else, values out of range, and
        where nothing runs.
    """
    for name, value in (("bin_seconds", bin_seconds), ("smoothing", smoothing)):
        if not (np.isfinite(value) and value > 0):
            raise ArgumentError(name, value, "must be a number of seconds above 0")
    for name, value in (("min_speed", min_speed), ("min_span", min_span)):
        if not (np.isfinite(value) and value >= 0):
            raise ArgumentError(name, value, "must be a number of lengths of the track, 0 or more")
    spikes, units, times, positions = _read(data)
    starts = np.arange(times[0], times[-1] - bin_seconds, bin_seconds)
    if len(starts) < 2:
        problem = f"must fit in the {times[-1] - times[0]:g} s of {data} at least twice"
        raise ArgumentError("bin_seconds", bin_seconds, problem)
    middle = starts + bin_seconds / 2
    at = np.column_stack([np.interp(middle, times, column) for column in positions.T])
    smooth = gaussian_filter1d(at, smoothing / bin_seconds, axis=0)
    along, length = _along_track(at, smooth, data)
    velocity = np.gradient(gaussian_filter1d(along, smoothing / bin_seconds)) / bin_seconds
    heading = np.sign(velocity) * (np.abs(velocity) > min_speed * length)
    heading[~_is_sampled(middle, times)] = 0
    runs = _runs(heading, along, min_span * length)
    if not runs:
        problem = f"holds no run that is faster than {min_speed:g} lengths of the track per second "
        raise ArgumentError("data", data, problem + f"and leads over {min_span:g} of it")
    names, numbers = np.unique(units, return_inverse=True)
    counts = _counts(spikes, numbers, len(names), starts[0], bin_seconds, len(starts))
    up = [bool(heading[first] > 0) for first, _ in runs]
    return recordings_from_arrays(
        [counts[first:last] for first, last in runs],
        names=[f"{starts[i]:.3f} to {starts[j - 1] + bin_seconds:.3f} s" for i, j in runs],
        labels=[DIRECTIONS[is_up] for is_up in up],
        moment_labels=[
            np.full(last - first, DIRECTIONS[is_up])
            for (first, last), is_up in zip(runs, up, strict=True)
        ],
        context=[along[first:last] for first, last in runs],
        rate=1 / bin_seconds,
    )


def _read(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    if not Path(path).is_file():
        raise ArgumentError("data", path, "is no file: name an .npz of spikes and positions")
    try:
        with np.load(path) as file:
            missing = [key for key in KEYS if key not in file]
            found = {key: file[key] for key in KEYS if key in file}
    except (ValueError, BadZipFile, EOFError, TypeError) as error:
        raise ArgumentError("data", path, f"is no .npz file of arrays: {error}") from error
    if missing:
        raise ArgumentError("data", path, f"has no {', '.join(missing)}; needed: {', '.join(KEYS)}")
    for key, array in found.items():
        if array.dtype.kind not in ("iu" if key == "spike_unit" else "iuf") or not len(array):
            raise ArgumentError("data", path, f"has no numbers in {key}, or of another type")
        if not np.isfinite(array).all():
            raise ArgumentError("data", path, f"has NaN or infinite values in {key}")
    spikes, units, times, positions = found.values()
    if spikes.ndim != 1 or spikes.shape != units.shape:
        problem = f"has spike_time of shape {spikes.shape} and spike_unit of shape {units.shape}"
        raise ArgumentError("data", path, f"{problem}: both must be [spikes]")
    if times.ndim != 1 or positions.ndim > 2 or len(positions) != len(times):
        problem = f"has position_time of shape {times.shape} and position of {positions.shape}"
        raise ArgumentError("data", path, f"{problem}: they must be [samples], [samples, dims]")
    if (np.diff(times) < 0).any():
        moment = int(np.argmax(np.diff(times) < 0)) + 1
        raise ArgumentError("data", path, f"goes back in position_time at sample {moment}: sort it")
    times, first = np.unique(times, return_index=True)  # a camera may repeat a stamp
    return spikes, units, times, positions.reshape(len(positions), -1)[first].astype(np.float64)


def _along_track(at: np.ndarray, smooth: np.ndarray, path: str) -> tuple[np.ndarray, float]:
    """Where along the track each bin is, from 0, and how long the track is."""
    way = np.linalg.norm(np.gradient(smooth, axis=0), axis=1)
    if not way.sum() > 0:
        raise ArgumentError("data", path, "holds an animal that never moves")
    centred = at - np.average(at, axis=0, weights=way)
    axis = np.linalg.eigh(centred.T @ (centred * way[:, None]))[1][:, -1]
    axis *= np.sign(axis[np.argmax(np.abs(axis))])
    along = centred @ axis
    order = np.argsort(along)
    share = np.cumsum(way[order]) / way.sum()
    low, high = (along[order[np.searchsorted(share, part)]] for part in (0.01, 0.99))
    return along - low, float(high - low)


def _is_sampled(middle: np.ndarray, times: np.ndarray) -> np.ndarray:
    after = np.clip(np.searchsorted(times, middle), 1, len(times) - 1)
    return times[after] - times[after - 1] <= _LONGEST_GAP


def _runs(heading: np.ndarray, along: np.ndarray, span: float) -> list[tuple[int, int]]:
    """The first bin of each run, and the one after its last."""
    borders = np.flatnonzero(np.diff(heading)) + 1
    pieces = zip([0, *borders], [*borders, len(heading)], strict=True)
    return [
        (int(first), int(last))
        for first, last in pieces
        if heading[first] and abs(along[last - 1] - along[first]) >= span
    ]


def _counts(
    spikes: np.ndarray, units: np.ndarray, num_units: int, start: float, width: float, bins: int
) -> np.ndarray:
    number = np.floor((spikes - start) / width).astype(np.int64)
    inside = (number >= 0) & (number < bins)
    flat = number[inside] * num_units + units[inside]
    return np.bincount(flat, minlength=bins * num_units).reshape(bins, num_units)


def baselines(recordings: Recordings, fraction: float) -> str:
    """A table of what counts and their principal components tell of the last runs."""
    split = time_split(recordings.lengths, fraction, gap=_MEAN_OF)
    smooth = np.concatenate(
        [uniform_filter1d(recordings.of(i), _MEAN_OF, axis=0) for i in range(len(recordings))]
    )
    pca = PCA(min(3, smooth.shape[1]), random_state=0).fit(smooth[split.train])
    rows = [["from", "position: median error", "R²", "direction, %", "always the commoner, %"]]
    for name, x in (
        ("counts of one bin", recordings.signal),
        (f"mean of {_MEAN_OF} bins", smooth),
        (f"their first {pca.n_components_} components", pca.transform(smooth)),
    ):
        train, test = x[split.train], x[split.test]
        position, direction = recordings.context, recordings.moment_labels
        at = decode_position(
            train, position[split.train], test, position[split.test], metric="euclidean"
        )
        of = decode_class(
            train, direction[split.train], test, direction[split.test], metric="euclidean"
        )
        shares = f"{100 * of.accuracy:.1f}", f"{100 * of.most_frequent:.1f}"
        rows.append([name, f"{at.median_error:.1f}", f"{at.r2:.3f}", *shares])
    return align(rows)


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    flags.DEFINE_string("data", None, "The .npz file.", flag_values=values)
    flags.mark_flag_as_required("data", flag_values=values)
    for name, default, least, most, text in (
        ("bin_seconds", 0.025, 0.001, 10.0, "Of a bin."),
        ("smoothing", 0.25, 0.001, 10.0, "Seconds, of the position whose velocity is taken."),
        ("min_speed", 0.05, 0.0, None, "Of a run, in lengths of the track per second."),
        ("min_span", 0.3, 0.0, 1.0, "Of a run, in lengths of the track."),
        ("held_out", 0.2, 0.01, 0.9, "The part of the time that is decoded: the last."),
    ):
        flags.DEFINE_float(name, default, text, least, most, flag_values=values)


def run(values: flags.FlagValues) -> None:
    settings = ("bin_seconds", "smoothing", "min_speed", "min_span")
    recordings = read_track(values.data, **{name: getattr(values, name) for name in settings})
    ups = int((recordings.labels == recordings.class_names.index("up")).sum())
    seconds = recordings.lengths.sum() * values.bin_seconds
    print(
        f"{len(recordings)} runs ({ups} up) of {recordings.signal.shape[1]} units, "
        f"{recordings.lengths.min()} to {recordings.lengths.max()} bins each, {seconds:.0f} s in "
        f"all; {recordings.signal.mean() / values.bin_seconds:.2f} spikes per second and unit; "
        f"positions from {recordings.context.min():.0f} to {recordings.context.max():.0f}\n"
    )
    print(baselines(recordings, values.held_out))


def main(argv: Sequence[str]) -> None:
    del argv
    with plain_errors(flags.FLAGS):
        run(flags.FLAGS)


if __name__ == "__main__":
    define_flags()
    run_main(main, __doc__)
