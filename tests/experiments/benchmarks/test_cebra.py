"""CEBRA beside the package: scores of perfect embeddings, tables, cells; both sides train."""

import json

import jax
import numpy as np
import pytest

from alphacl_jax.errors import RunError
from experiments.benchmarks import benchmarking
from experiments.benchmarks import cebra as benchmark
from experiments.benchmarks.cebra_sides import (
    FITS,
    OURS,
    PACKAGE,
    Fitted,
    Session,
    Setup,
    fit_ours,
    time_fits,
)
from experiments.benchmarks.cebra_tasks import LOWER, TASKS, training_part
from experiments.sequences.simulated import ring, track_sessions, two_way_track
from tests.tiny_runs import script_values

SETUP = Setup(5, 3, 2, batch_size=16, iterations=3, hidden_units=4)


def _unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def _on_circle(found):
    """Of a track: its place on the way there and back, as an angle."""
    along = np.pi * np.where(found.latents[:, 1] > 0, found.latents[:, 0], 2 - found.latents[:, 0])
    return np.column_stack([np.cos(along), np.sin(along)])


def test_an_embedding_that_is_the_latents_has_the_best_scores():
    made = (ring(0, samples=2000, neurons=8),)
    found = TASKS["ring"].score(made, [made[0].latents])
    assert found["R², linear"] == pytest.approx(1)
    assert found["R², held out"] > 0.99
    assert found["error, degrees"] < 1
    made = (two_way_track(0, runs=20, neurons=8),)
    found = TASKS["track"].score(made, [_on_circle(made[0])])
    assert found["error, % of the track"] < 1
    assert found["direction, %"] > 98
    assert set(LOWER) == {"error, degrees", "error, % of the track"}


def test_sessions_that_agree_are_consistent_and_others_are_not():
    made = track_sessions(0, neurons=(8, 9), runs=20)
    embeddings = [_on_circle(each) for each in made]
    assert TASKS["sessions"].score(made, embeddings)["R² between sessions"] > 0.99
    rng = np.random.default_rng(0)
    noise = [_unit(rng.normal(size=z.shape)) for z in embeddings]
    assert TASKS["sessions"].score(made, noise)["R² between sessions"] < 0.2


@pytest.mark.parametrize("name", TASKS)
def test_what_is_trained_on_has_a_context_for_each_moment(name):
    task = TASKS[name]
    made = {"published benchmark": None, "ring": (ring(0, samples=50, neurons=4),)}.get(name)
    if made is None and name != "published benchmark":
        made = track_sessions(0, neurons=(4, 5) if name == "sessions" else (4,), runs=4)
    if made is None:
        made = task.make(0)
    for session, of in zip(task.sessions(made), made, strict=True):
        assert all(len(context) == len(session.X) for context in session.contexts)
        np.testing.assert_array_equal(session.X, of.recordings.signal)
        # The package knows of none.
        assert session.groups is None


def test_the_last_fifth_of_each_session_is_held_out():
    whole = _sessions(2)
    for part, each in zip(training_part(whole), whole, strict=True):
        length = round(0.8 * len(each.X))
        np.testing.assert_array_equal(part.X, each.X[:length])
        np.testing.assert_array_equal(part.contexts[0], each.contexts[0][:length])


def test_encoders_are_trained_without_what_is_held_out(monkeypatch):
    seen = []

    def fit(setup, sessions, seed):
        seen.extend(len(each.X) for each in sessions)
        return Fitted(lambda of: [1 + each.X[:, :3] for each in of], np.zeros(1), 0.5, 1.0)

    monkeypatch.setitem(FITS, OURS, fit)
    made = (ring(0, samples=500, neurons=4),)
    monkeypatch.setitem(TASKS, "ring", TASKS["ring"]._replace(make=lambda seed: made))
    assert benchmark.scores_of("ring", OURS, 0, 3)["goodness, bits"] == 0.5
    assert seen == [400]


def _sessions(count):
    made = track_sessions(0, neurons=(4, 6)[:count], runs=2)
    return TASKS["sessions"].sessions(made)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("side", FITS)
def test_a_side_trains_one_session_and_several(side, count):
    if side == PACKAGE:
        pytest.importorskip("cebra")
    sessions = _sessions(count)
    fitted = FITS[side](SETUP, sessions, 0)
    found = fitted.embed(sessions)
    assert [z.shape for z in found] == [(len(each.X), 3) for each in sessions]
    for z in found:
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-4)
    # Untrained, so that a reference's positive is one of the batch.
    assert abs(fitted.goodness) < 1
    assert fitted.loss.shape == (3,)


def test_the_first_fit_alone_compiles():
    """So that what is timed of the others is training."""
    session, compiled, fits = _sessions(1)[0], [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, _, **__: compiled.append(len(fits)) if "backend_compile" in name else None
    )

    def fit(setup, sessions, seed):
        found = fit_ours(setup, sessions, seed)
        fits.append(found.seconds)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FITS, OURS, fit)
        setup = SETUP._replace(hidden_units=6)  # as no other test has
        found = time_fits(OURS, setup, [Session(session.X)])
    assert set(compiled) == {0}
    again = min(fits[1:])
    assert found["seconds per 1,000"] == pytest.approx(1000 * again / 3)
    assert found["first call"] == pytest.approx(fits[0] - again)


def test_a_difference_has_its_interval_over_seeds():
    compared = benchmark.Compared("ring", "R², linear", [0.9, 0.8, 1.0], [0.8, 0.8, 0.8])
    # The gaps 0.1, 0, 0.2: mean 0.1, standard error 0.1/√3, Student's 97.5 % quantile 4.303.
    assert compared.difference() == "+0.100 ± 0.248"
    row = compared.row()
    assert row[2:4] == ["0.900 ± 0.100", "0.800 ± 0.000"]
    once = benchmark.Compared("ring", "error, degrees", [1.0], [2.0])
    assert once.row() == ["ring", "error, degrees (lower is better)", "1.000", "2.000", ""]


def test_the_table_of_seconds_has_the_ratio():
    timed = {"ring": {OURS: {"seconds per 1,000": 2.0, "first call": 4.0},
                      PACKAGE: {"seconds per 1,000": 9.0, "first call": 1.0}}}  # fmt: skip
    lines = benchmark.speed_table(timed).splitlines()
    assert lines[1].split()[-3:] == ["2.0", "9.0", "4.50"]
    assert lines[2].split()[-1] == "0.25"


def test_cells_are_kept_and_each_task_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmarking, "require_installed", lambda *_, **__: None)
    monkeypatch.setattr(benchmarking, "alone", lambda function, *given: function(*given))
    monkeypatch.setattr(benchmark, "scores_of", lambda *given: {"R²": float(given[1] == OURS)})
    rng = np.random.default_rng(0)
    monkeypatch.setattr(benchmark, "embeddings_of", lambda *given: [rng.normal(size=(50, 2))])
    monkeypatch.setattr(
        benchmark, "speed_of", lambda *given: {"seconds per 1,000": 1.0, "first call": 2.0}
    )
    values = script_values(benchmark, f"--output={tmp_path}", "--task=ring", "--seeds=2")
    benchmark.run(values)
    shown = capsys.readouterr().out
    assert "1.000 ± 0.000  0.000 ± 0.000" in shown
    cells = json.loads((tmp_path / "cebra.json").read_text())["cells"]
    assert len(cells) == 4 + 2 + 2
    monkeypatch.setattr(benchmark, "scores_of", None)
    benchmark.run(values)
    assert "1.000 ± 0.000" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarking, "require_installed", lambda *_, **__: None)
    (tmp_path / "file").write_text("")
    values = script_values(benchmark, f"--output={tmp_path / 'file' / 'folder'}")
    with pytest.raises(RunError, match="cannot be made"):
        benchmark.run(values)
