"""Runs along a track: a file made here of a known way; what is left out; bad files."""

import re
import subprocess
import sys

import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from experiments.sequences.linear_track import baselines, read_track

AXIS = np.array([0.8, 0.6])


def way(t):
    """Along a track of 100: 10 s of rest at one end, 5 s to the other, eight times; then rest."""
    phase, turn = t % 15, (t // 15).astype(int)
    share = np.clip((phase - 10) / 5, 0, 1)
    at = 100 * np.where(turn % 2 == 0, share, 1 - share)
    return np.where(t < 8 * 15, at, 0.0)


def write(path, seed=0, **changes):
    """Eight runs, cells of both directions; the camera at 60 Hz, with a stamp twice."""
    rng = np.random.default_rng(seed)
    seconds = 8 * 15 + 40
    times = np.arange(0, seconds, 1 / 60)
    times[100] = times[101]
    grid = np.arange(0, seconds, 0.001)
    up = (grid // 15).astype(int) % 2 == 0
    spikes, units = [], []
    for unit in range(6):
        rate = 1 + 40 * np.exp(-(((way(grid) - 20 * unit) / 10) ** 2)) * (up == unit % 2)
        fired = grid[rng.uniform(size=len(grid)) < rate * 0.001]
        spikes.append(fired)
        units.append(np.full(len(fired), 3 * unit))
    arrays = {
        "spike_time": 1000 + np.concatenate(spikes),
        "spike_unit": np.concatenate(units),
        "position_time": 1000 + times,
        "position": 50 + way(times)[:, None] * AXIS + 0.3 * rng.normal(size=(len(times), 2)),
    }
    arrays |= changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return arrays


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "track.npz")


def spans(recordings):
    return [tuple(map(float, re.findall(r"\d+\.\d+", name))) for name in recordings.names]


def test_runs_are_recordings_of_position_and_direction(file):
    write(file)
    found = read_track(file)
    assert len(found) == 8
    assert found.class_names == found.moment_names == ("down", "up")
    np.testing.assert_array_equal(found.labels, [1, 0] * 4)
    np.testing.assert_array_equal(found.moment_labels, np.repeat([1, 0] * 4, found.lengths))
    assert found.rate == 40
    for number, (start, end) in enumerate(spans(found)):
        # Within the run, but for what smoothing makes of its ends; never more than a second of it.
        assert start == pytest.approx(1000 + 15 * number + 10, abs=0.5)
        assert end == pytest.approx(1000 + 15 * number + 15, abs=0.5)
        middle = np.arange(found.lengths[number]) * 0.025 + start + 0.0125 - 1000
        at = found.context[found.starts[number] :][: found.lengths[number], 0]
        error = at - way(middle)
        assert error.std() < 0.5
        assert abs(error.mean()) < 4  # 0 is the first hundredth of the way


def test_counts_are_those_of_every_spike_in_its_bin(file):
    arrays = write(file)
    found = read_track(file, bin_seconds=0.05)
    assert found.signal.shape[1] == 6
    for number, (start, end) in enumerate(spans(found)):
        edges = np.linspace(start, end, found.lengths[number] + 1)
        for column, unit in enumerate(range(0, 18, 3)):
            of_unit = arrays["spike_time"][arrays["spike_unit"] == unit]
            want, _ = np.histogram(of_unit, edges)
            # Starts are rounded to milliseconds in the names.
            assert abs(found.of(number)[:, column].sum() - want.sum()) <= 1
            assert np.abs(found.of(number)[:, column] - want).sum() <= 2


@pytest.mark.parametrize("dims", [0, 1, 2])
def test_positions_along_the_track_alone_are_taken_as_they_are(file, dims):
    positions = write(file)["position"]
    along = (positions - 50) @ AXIS
    write(file, position=along if dims == 0 else along[:, None] if dims == 1 else positions)
    found = read_track(file)
    assert len(found) == 8
    assert found.context.max() == pytest.approx(99, abs=3)
    np.testing.assert_array_equal(found.labels, [1, 0] * 4)


def test_rests_slow_runs_and_short_ways_are_left_out(file):
    write(file)
    assert len(read_track(file, min_speed=0.19)) == 8  # runs have 0.2 lengths per second
    with pytest.raises(ArgumentError, match=r"faster than 0\.3 lengths of the track per"):
        read_track(file, min_speed=0.3)
    with pytest.raises(ArgumentError, match=r"leads over 1\.2 of it"):
        read_track(file, min_span=1.2)
    moving = read_track(file, min_span=0, min_speed=0.1)
    assert moving.lengths.sum() < 8 * 6 / 0.025


def test_a_gap_in_the_camera_parts_a_run(file):
    arrays = write(file)
    times = arrays["position_time"]
    kept = (times < 1012) | (times > 1013)  # in the first run's middle
    write(file, position_time=times[kept], position=arrays["position"][kept])
    found = read_track(file, min_span=0.1)
    assert len(found) == 9
    (_, before), (after, _) = spans(found)[:2]
    assert before <= 1012.05
    assert after >= 1012.95


def test_what_counts_tell_of_held_out_runs(file):
    write(file)
    lines = baselines(read_track(file), 0.25).splitlines()
    assert len(lines) == 4
    assert lines[3].startswith("their first 3 components")
    error, r2, direction, commoner = map(float, re.findall(r"-?\d+\.\d+", lines[2]))
    assert error < 15
    assert r2 > 0.4
    assert direction > commoner + 20


def test_the_script_says_what_it_read(file):
    write(file)
    command = [sys.executable, "-m", "experiments.sequences.linear_track"]
    done = subprocess.run([*command, f"--data={file}"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("8 runs (4 up) of 6 units")
    done = subprocess.run([*command, "--data=none.npz"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "error: --data=none.npz is no file: name an .npz of spikes and positions\n"
    )


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"spike_unit": None}, {}, "has no spike_unit; needed: spike_time, spike_unit, position"),
        ({"spike_unit": np.array([1.5])}, {}, "has no numbers in spike_unit"),
        ({"spike_time": np.array([])}, {}, "has no numbers in spike_time"),
        ({"spike_time": np.array([np.nan])}, {}, "has NaN or infinite values in spike_time"),
        ({"spike_time": np.array([1.0])}, {}, "has spike_time of shape (1,) and spike_unit of"),
        ({"position": np.ones((3, 2))}, {}, "position of (3, 2): they must be [samples]"),
        ({"position_time": -np.arange(9600.0)}, {}, "goes back in position_time at sample 1"),
        ({"position": np.ones((9600, 2))}, {}, "holds an animal that never moves"),
        ({}, {"bin_seconds": 0}, "bin_seconds=0 must be a number of seconds above 0"),
        ({}, {"bin_seconds": 100.0}, "bin_seconds=100.0 must fit in the 159.983 s of"),
        ({}, {"smoothing": np.inf}, "smoothing=inf must be a number of seconds above 0"),
        ({}, {"min_span": -1}, "min_span=-1 must be a number of lengths of the track"),
    ],
)
def test_bad_files_and_settings(file, changes, options, message):
    write(file, **changes)
    with pytest.raises(ArgumentError) as error:
        read_track(file, **options)
    assert message in str(error.value)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "track.npz"
    path.write_text("spikes")
    with pytest.raises(ArgumentError, match=r"is no \.npz file of arrays"):
        read_track(str(path))
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(ArgumentError, match=r"is no \.npz file of arrays"):
        read_track(str(tmp_path / "one.npy"))
