"""What is found of encoders of recordings: features that are seen, probes, decoding, tables."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.data.sequences import recordings_from_arrays
from alphacl_jax.evaluation import linear
from alphacl_jax.runs import recording_measures, recording_pictures
from alphacl_jax.runs.any_run import prepare_training
from alphacl_jax.runs.evaluation import figures_over
from alphacl_jax.runs.recording_data import RecordingData, hold_out
from alphacl_jax.runs.recording_encoder import on_one_device, recording_encoder_of
from alphacl_jax.runs.recording_evaluation import UNTRAINED, evaluate_recording_encoder
from alphacl_jax.runs.recording_measures import (
    components_of_means,
    decoded,
    has_classes,
    log_spectra,
    seen,
)
from alphacl_jax.runs.recording_methods import make_recording_method
from alphacl_jax.runs.recording_run import open_recording_run
from alphacl_jax.runs.recording_tables import lines_of, lines_over_seeds
from tests.tiny_recordings import cebra_settings, cpc_settings, turning


def _as_they_are(signals):
    return list(signals)


def test_steps_are_seen_with_the_label_of_their_middle_moment():
    """Of a stride of 4 the middle of step i is moment 4i + 2."""
    lengths = (9, 14, 6)
    recordings = recordings_from_arrays(
        [np.arange(length, dtype=float) for length in lengths],
        moment_labels=[100 * i + np.arange(length) for i, length in enumerate(lengths)],
    )

    def over_time(signals):
        # The step's number, and which recording it is of by its length.
        return [
            np.column_stack([np.arange(-(-len(s) // 4)), np.full(-(-len(s) // 4), len(s))])
            for s in signals
        ]

    found = seen(over_time, recordings, 4, 100)
    np.testing.assert_array_equal(found.means, [[1, 9], [1.5, 14], [0.5, 6]])
    of = {length: 100 * i for i, length in enumerate(lengths)}
    labels = [int(name) for name in np.array(recordings.moment_names)[found.labels]]
    assert labels == [of[int(length)] + 4 * step + 2 for step, length in found.steps]
    # The third step of the first has its middle beyond the end; the fourth of the second at it.
    kept = [(step, length) for step, length in found.steps.astype(int)]
    assert sorted(kept) == sorted([(0, 9), (1, 9), (0, 14), (1, 14), (2, 14), (0, 6)])
    assert len(seen(over_time, recordings, 4, 3).steps) == 3


def test_steps_are_seen_with_the_recording_that_they_are_of():
    recordings = recordings_from_arrays([np.full(length, float(length)) for length in (9, 14, 6)])
    found = seen(_as_they_are, recordings, 1, 20)
    assert found.recordings.shape == found.labels.shape == (20,)
    np.testing.assert_array_equal(recordings.lengths[found.recordings], found.steps[:, 0])


def test_the_penalty_of_moments_is_chosen_where_whole_recordings_are_left_out(monkeypatch):
    train, test = turning(8), turning(4, seed=1)
    unlabelled = train.moment_labels.copy()
    unlabelled[:5] = -1
    train = dataclasses.replace(train, moment_labels=unlabelled)
    given = {}

    def fit_probe(train_x, train_y, test_x, test_y, num_classes, *, groups):
        given.update(groups=groups, x=train_x)
        return linear.fit_probe(train_x, train_y, test_x, test_y, num_classes, groups=groups)

    monkeypatch.setattr(recording_measures, "fit_probe", fit_probe)
    both = [seen(_as_they_are, of, 1, 150) for of in (train, test)]
    assert recording_measures.moments_probed(*both, 2) > 0.95
    assert set(given["groups"]) == set(range(8))
    for number, x in zip(given["groups"], given["x"], strict=True):
        assert (train.of(number) == x).all(axis=1).any()


def test_where_some_moments_are_known_those_are_seen():
    labels = np.full(50, "", "U1")
    labels[[3, 30, 41]] = ["a", "b", "a"]
    recordings = recordings_from_arrays([np.arange(50.0)[:, None]], moment_labels=[labels])
    found = seen(_as_they_are, recordings, 1, 10)
    assert sorted(found.steps[:, 0]) == [3, 30, 41]
    assert sorted(found.labels) == [0, 0, 1]


def test_a_spectrum_is_that_of_the_frame_around_each_step():
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((700, 1)).astype(np.float32)
    found = log_spectra(signal, 160)
    assert found.shape == (5, 201)
    for step in range(5):
        frame = np.array(
            [signal[np.clip(160 * step + 80 + i, 0, 699), 0] for i in range(-200, 200)]
        )
        if 160 * step + 80 + 200 > 700:
            continue  # beyond the end, where frames are moved back
        windowed = frame * np.hanning(400)
        power = [
            abs(sum(windowed[n] * np.exp(-2j * np.pi * k * n / 400) for n in range(400))) ** 2 / 400
            for k in (0, 7, 200)
        ]
        np.testing.assert_allclose(found[step, [0, 7, 200]], np.log(1e-6 + np.array(power)), 1e-3)


def test_components_are_of_the_means_of_windows():
    train, test = turning(4, seed=0), turning(3, seed=1)
    a, b = components_of_means(train, test, 2, 3, 2)
    means = []
    for recordings in (train, test):
        rows = []
        for i in range(len(recordings)):
            x = recordings.of(i).astype(float)
            for t in range(len(x)):
                window = [x[np.clip(t + j, 0, len(x) - 1)] for j in range(-2, 3)]
                rows.append(np.mean(window, axis=0))
        means.append(np.array(rows))
    centre = means[0].mean(axis=0)
    _, _, axes = np.linalg.svd(means[0] - centre, full_matrices=False)
    for found, of in ((a, means[0]), (b, means[1])):
        expected = (of - centre) @ axes[:2].T
        signs = np.sign((found * expected).sum(axis=0))
        np.testing.assert_allclose(found * signs, expected, rtol=1e-4, atol=1e-5)


def test_positions_and_classes_are_decoded_of_held_out_moments():
    train, test = turning(12, seed=0), turning(6, seed=1)
    found = decoded(train.context, train, test.context, test, "cosine")
    assert found["context_r2"] > 0.99
    assert found["context_error"] < 0.1
    assert found["moments"] > 0.95
    assert 0.4 < found["most_frequent"] < 0.65
    noise = np.random.default_rng(0).standard_normal(train.context.shape)
    assert decoded(noise, train, test.context, test, "cosine")["context_r2"] < 0.2
    plain = dataclasses.replace(train, context=np.zeros((len(train.signal), 0)))
    assert set(decoded(train.context, plain, test.context, test, "cosine")) == {
        "moments",
        "most_frequent",
    }


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [([0, 1, -1], [1], True), ([0, 0], [0], False), ([0, 1], [-1], False), ([-1], [-1], False)],
)
def test_where_there_is_something_to_probe(train, test, expected):
    assert has_classes(np.array(train), np.array(test)) == expected


def _evaluated(settings, data, level="quick"):
    run = open_recording_run(settings, on_one_device(), data)
    training = prepare_training(run)
    described = run.describe(training.batches)
    state = run.start(training.init)
    untrained = recording_encoder_of(settings, described, state)
    encoder = dataclasses.replace(untrained, step=12)
    told = []
    found = evaluate_recording_encoder(
        encoder, data, baselines={UNTRAINED: untrained}, level=level, report=told.append
    )
    json.dumps(found.figures)
    assert told[0] == "features"
    return found


@pytest.fixture(scope="module")
def of_cpc():
    return _evaluated(cpc_settings(), hold_out(turning(30), 0.3, "turns", in_time=False))


@pytest.fixture(scope="module")
def of_cebra():
    data = hold_out(turning(30), 0.3, "turns", in_time=True)
    return _evaluated(cebra_settings("--positives=gaussian"), data)


def test_contexts_are_probed_beside_an_untrained_network_and_raw_features(of_cpc):
    rows = of_cpc.figures["accuracy"]
    assert list(rows) == ["cpc", UNTRAINED, "raw features"]
    for row in rows.values():
        assert {"linear_all", "knn", "moments"} <= set(row)
        assert all(0 <= row[name] <= 1 for name in ("linear_all", "knn", "moments"))
    # Nothing was trained: both rows are of one encoder.
    assert rows["cpc"] == rows[UNTRAINED]
    windows = of_cpc.figures["held_out_windows"]
    assert windows["cpc"] == windows[UNTRAINED]
    assert windows["cpc"]["candidates"] == pytest.approx(8 * 6, rel=1e-3)
    assert set(windows["cpc"]) == {"accuracy_1", "accuracy_2", "candidates", "bound", "loss"}
    # The half of the circle is a linear matter of the signal.
    assert rows["raw features"]["moments"] > 0.95


def test_the_table_of_cpc(of_cpc):
    lines = str(of_cpc).splitlines()
    assert lines[0].startswith("step 12 of 16; effective rank of features: ")
    assert lines[1] == "±: standard error, by the number of test recordings"
    assert lines[2].split("  ")[0] == "accuracy, %"
    assert lines[2].endswith("kNN  moments, linear")
    assert any(line.startswith("held-out windows: picked out of 48 ") for line in lines)
    assert any("1 ahead, %  2 ahead, %  bound, nats" in line for line in lines)


def test_embeddings_are_decoded_beside_principal_components(of_cebra):
    rows = of_cebra.figures["decoding"]
    assert list(rows) == ["cebra-gaussian", UNTRAINED, "PCA of window means"]
    for row in rows.values():
        assert set(row) == {"context_r2", "context_error", "moments", "most_frequent"}
    assert rows["cebra-gaussian"] == rows[UNTRAINED]
    goodness = of_cebra.figures["held_out_windows"][UNTRAINED]
    assert set(goodness) == {"goodness", "temperature", "loss"}
    # log2(32) − L/ln 2.
    assert goodness["goodness"] == pytest.approx(5 - goodness["loss"] / np.log(2), abs=1e-4)
    lines = str(of_cebra).splitlines()
    table = next(i for i, line in enumerate(lines) if line.startswith("held-out moments, by kNN"))
    assert lines[table].endswith("context, R²  median error  class, %  most frequent, %")
    assert lines[table + 3].startswith("PCA of window means")
    assert any(line.endswith("goodness of fit, bits") for line in lines)


def test_recordings_of_cebra_are_not_probed(of_cebra):
    """Others of the same class were trained on, up to the moment where the held-out part begins."""
    assert set(of_cebra.figures) == {
        *("step", "total_steps", "effective_rank"),
        *("decoding", "held_out_windows"),
    }
    text = str(of_cebra)
    assert "accuracy, %" not in text
    assert "won by" not in text
    assert "so no probe was run" not in text


def test_where_nothing_can_be_decoded_the_table_says_so():
    rng = np.random.default_rng(0)
    noise = recordings_from_arrays(
        [rng.standard_normal((60, 2)) for _ in range(12)], labels=["a"] * 6 + ["b"] * 6
    )
    data = hold_out(noise, 0.3, "noise", in_time=True)
    assert sorted(data.test.labels) == [0] * 6 + [1] * 6
    found = _evaluated(cebra_settings(), data)
    assert found.figures["not_probed"] == "The moments have neither a context nor known classes"
    lines = str(found).splitlines()
    assert lines[1] == "The moments have neither a context nor known classes, so no probe was run"
    assert not any("accuracy" in line for line in lines)
    assert lines[2].startswith("held-out windows")


def test_held_out_windows_of_cpc_are_of_different_recordings():
    """Four windows to test on, and eight in a batch: none is there twice."""
    few = recordings_from_arrays([turning(4, seed=1).of(i)[:8] for i in range(4)])
    run = open_recording_run(cpc_settings(), on_one_device(), RecordingData(turning(12), few, "t"))
    training = prepare_training(run)
    encoder = recording_encoder_of(
        run.settings, run.describe(training.batches), run.start(training.init)
    )
    found = recording_measures.of_held_out_windows({"cpc": encoder}, few, 3)["cpc"]
    assert found["candidates"] == pytest.approx(4 * 6, rel=1e-3)
    # Each recording is one window, so all batches are these four in some order.
    raw = {"windows": jnp.asarray(few.signal.reshape(4, 8, 3)), "recordings": jnp.arange(4)}
    batch = {**run.make_batch(jax.random.key(0), raw), "recorded": jnp.array(True)}
    loss, (_, metrics) = run.method.loss(encoder.params, encoder.state, batch, jax.random.key(0))
    assert found["loss"] == pytest.approx(float(loss), rel=1e-5)
    for name in ("accuracy_1", "accuracy_2", "bound"):
        assert found[name] == pytest.approx(float(metrics[name]), rel=1e-4, abs=1e-5)


def test_batches_of_held_out_windows_have_no_more_windows_than_those_of_training():
    made = make_recording_method(cpc_settings().method, 3, 50.0, on_one_device())
    many = turning(20)
    drawn = made.held_out_batches(many, 8, on_one_device(), 0)
    batches = [next(drawn) for _ in range(3)]
    for batch in batches:
        assert batch["windows"].shape == (8, 8, 3)
        assert len(set(np.asarray(batch["recordings"]).tolist())) == 8
    assert len({tuple(np.asarray(batch["recordings"])) for batch in batches}) == 3
    again, other = (next(made.held_out_batches(many, 8, on_one_device(), seed)) for seed in (0, 1))
    np.testing.assert_array_equal(again["windows"], batches[0]["windows"])
    assert not np.array_equal(other["recordings"], again["recordings"])


def test_recordings_of_unknown_class_are_not_probed_and_classes_may_be_too_few():
    train, test = turning(12), turning(6, seed=1)
    unknown = np.array([-1, 1, 0, 1, -1, 1], np.int32)
    some = dataclasses.replace(test, labels=unknown)
    found = _evaluated(cpc_settings(), RecordingData(train, some, "turns")).figures["accuracy"]
    alone = dataclasses.replace(test, labels=unknown).select([1, 2, 3, 5])
    other = _evaluated(cpc_settings(), RecordingData(train, alone, "turns")).figures["accuracy"]
    for name in ("linear_all", "knn"):
        assert found["cpc"][name] == pytest.approx(other["cpc"][name])
    bare = {"moment_labels": np.full(len(test.signal), -1, np.int32), "moment_names": ()}
    none = dataclasses.replace(test, labels=np.full(6, -1, np.int32), **bare)
    found = _evaluated(cpc_settings(), RecordingData(train, none, "turns"))
    assert found.figures["not_probed"] == "Too few classes are known in both parts"


def test_a_map_is_of_the_recordings_whose_class_is_known(of_cpc, tmp_path, monkeypatch):
    drawn = []

    def plot_map(path, features, labels=None, class_names=None, *, seed):
        drawn.append((len(features), None if labels is None else labels.tolist()))

    monkeypatch.setattr(recording_pictures.pictures, "plot_map", plot_map)
    own = of_cpc.recordings
    for unknown in (2, 7):
        labels = own.labels.copy()
        labels[:unknown] = -1
        found = dataclasses.replace(of_cpc, recordings=dataclasses.replace(own, labels=labels))
        recording_pictures.draw_recording_evaluation(
            found, tmp_path, tmp_path, level="full", seed=0, report=lambda text: None
        )
    # Of too few the map has no classes.
    assert drawn[0] == (len(own) - 2, own.labels[2:].tolist())
    assert (len(own), None) in drawn


def test_without_recordings_to_test_on_there_is_no_probe():
    found = _evaluated(cpc_settings(), RecordingData(turning(6), None, "turns"))
    assert set(found.figures) == {"step", "total_steps", "effective_rank", "not_probed"}
    assert str(found).endswith("\nNo recordings are kept for tests, so no probe was run")


def test_without_labels_the_windows_alone_are_looked_at():
    plain = recordings_from_arrays([turning(10).of(i) for i in range(10)])
    found = _evaluated(cpc_settings(), hold_out(plain, 0.3, "plain", in_time=False))
    assert found.figures["not_probed"] == "There are no labels"
    assert "held_out_windows" in found.figures
    assert "accuracy" not in found.figures


def test_test_recordings_that_are_shorter_than_a_window():
    data = RecordingData(turning(10), turning(4, time=5, seed=1), "turns")
    found = _evaluated(cpc_settings(), data)
    assert found.figures["no_held_out_windows"].startswith("window is longer than all recordings")
    assert "held-out windows are not looked at: window is longer than all" in str(found)


def test_figures_over_seeds(of_cpc, of_cebra):
    for found, table in ((of_cpc, "accuracy"), (of_cebra, "decoding")):
        other = json.loads(json.dumps(found.figures))
        for row in other[table].values():
            row["moments"] -= 0.1
        lines = "\n".join(lines_over_seeds(figures_over([found.figures, other])))
        mean = 100 * (found.figures[table][UNTRAINED]["moments"] - 0.05)
        assert f"{mean:.1f} ± 7.1" in lines
        assert lines.startswith("effective rank of features: ")
        assert "±" not in "\n".join(lines_of(found.figures)).split("held-out")[-1]
