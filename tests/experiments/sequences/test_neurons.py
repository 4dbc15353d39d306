"""Embeddings of neurons beside counts: what is held out, shuffled, decoded; verdicts; bad data."""

import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from experiments.benchmarks.cebra_sides import Fitted
from experiments.sequences import neurons
from experiments.sequences.neurons import BEHAVIOUR, BOTH, COMPONENTS, COUNTS, SHUFFLED, TIME
from tests.experiments.sequences.test_linear_track import write


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("track") / "track.npz"
    write(path)
    return neurons.NeuronSettings(str(path), receptive_field=5, iterations=2, batch_size=16)


@pytest.fixture(scope="module")
def data(own):
    return neurons.read(own)


def test_the_last_part_is_held_out_and_shares_no_window(own, data):
    train, test, _, _ = data.split
    assert len(test) == round(0.2 * len(data.recordings.signal))
    assert test[-1] == len(data.recordings.signal) - 1
    assert test[0] - train[-1] > own.receptive_field


def test_where_the_embedding_is_the_position_it_is_decoded(data):
    of = data.recordings
    z = np.column_stack([of.context[:, 0], 1000.0 * of.moment_labels])
    train, test, _, _ = data.split
    found = neurons.decoded(data, z[train], z[test], "euclidean")
    assert found[neurons.ERROR] < 1
    assert found[neurons.R2] > 0.99
    assert found[neurons.DIRECTION] == 1


def _contexts_of(row, data, own, monkeypatch):
    """What a row's model is trained on."""
    given = {}

    def fit(setup, sessions, seed):
        given.update(setup=setup, session=sessions[0])
        return Fitted(lambda sessions: [], np.zeros(1), 0.0, 0.0)

    monkeypatch.setitem(neurons.FITS, neurons.OURS, fit)
    neurons.fit(data, own, row, 3)
    return given["setup"], given["session"]


def test_each_row_is_trained_on_what_it_is_named_after(data, own, monkeypatch):
    train, of = data.split.train, data.recordings
    behaviour = of.context[train], of.moment_labels[train]
    for row in (TIME, BEHAVIOUR, BOTH, SHUFFLED):
        setup, session = _contexts_of(row, data, own, monkeypatch)
        np.testing.assert_array_equal(session.X, of.signal[train])
        np.testing.assert_array_equal(session.groups, of.recording[train])
        assert setup.hybrid == (row == BOTH)
        if row == TIME:
            assert session.contexts == ()
        elif row == SHUFFLED:
            pairs = [sorted(zip(c[0][:, 0].tolist(), c[1].tolist(), strict=True))
                     for c in (behaviour, session.contexts)]  # fmt: skip
            assert pairs[0] == pairs[1]
            tied = np.corrcoef(behaviour[0][:, 0], session.contexts[0][:, 0])[0, 1]
            assert abs(tied) < 6 / np.sqrt(len(train))
        else:
            for expected, found in zip(behaviour, session.contexts, strict=True):
                np.testing.assert_array_equal(found, expected)


def test_rows_beside_the_package_know_of_no_borders(data, own, monkeypatch):
    for row in (neurons.GLUED_TIME, neurons.GLUED_BEHAVIOUR):
        _, session = _contexts_of(row, data, own, monkeypatch)
        assert session.groups is None
        assert (session.contexts == ()) == (row == neurons.GLUED_TIME)


def test_counts_and_components_are_decoded_without_training(data, own):
    for row in (COUNTS, COMPONENTS):
        cell = neurons.cell_of(data, own, row, 0)
        assert cell.keys() == {neurons.ERROR, neurons.R2, neurons.DIRECTION}
    averaged = neurons.counts(data, 5)
    of = data.recordings
    np.testing.assert_allclose(averaged[2], of.signal[:5].mean(axis=0), rtol=1e-5, atol=1e-6)


def test_a_model_is_trained_and_its_figures_are_those_of_the_columns(data, own):
    cell = neurons.cell_of(data, own, BEHAVIOUR, 0)
    assert cell.keys() == {column.key for column in neurons.COLUMNS}


def test_a_row_is_nearer_where_seeds_agree():
    def rows(*errors):
        cells = [[{neurons.ERROR: value} for value in of] for of in errors]
        return dict(zip("ab", cells, strict=True))

    def verdict(*errors):
        return neurons.is_nearer("", rows(*errors), "a", "b").verdict

    assert verdict([1.0, 1.1, 0.9], [2.0, 2.1, 2.0]) == "holds"
    assert verdict([2.0, 2.1, 2.0], [1.0, 1.1, 0.9]) == "does not hold"
    assert verdict([1.0, 3.0, 0.9], [2.0, 2.1, 2.0]) == "not settled"
    assert verdict([1.0], [2.0]) == "not settled"


def test_claims_are_of_the_rows_that_there_are():
    cells = [{neurons.ERROR: value} for value in (1.0, 2.0)]
    assert len(neurons.claims({BEHAVIOUR: cells, COUNTS: cells})) == 1
    # The package is compared with ours without borders alone.
    assert neurons.claims({BEHAVIOUR: cells, neurons.PACKAGE_BEHAVIOUR: cells}) == []
    assert (
        len(neurons.claims(dict.fromkeys((neurons.GLUED_TIME, neurons.PACKAGE_TIME), cells))) == 1
    )


def test_data_that_are_not_there():
    with pytest.raises(ArgumentError, match=r"data=no\.npz is no file"):
        neurons.read(neurons.NeuronSettings("no.npz"))
