"""Rows about CPC: held-out parts, rates, own layers, what cells keep, accuracies by k."""

import jax
import numpy as np
import pytest

from alphacl_jax.training.mesh import data_mesh
from experiments.sequences import vowels
from experiments.sequences.cpc_rows import (
    CPCRows,
    by_k,
    cell_of,
    last_layer,
    pooled,
    signals,
    table_by_k,
)
from experiments.sequences.parts import Parts
from experiments.sequences.probes import Fitted
from experiments.sequences.training import Trained
from experiments.studies.claims import paired
from tests.experiments.sequences.made_recordings import made_recordings
from tests.experiments.sequences.test_experiment import opened

DATA = Parts(made_recordings(0, recordings=30), made_recordings(1, recordings=9))


def test_standardised_by_the_training_part():
    found = DATA.standardised()
    np.testing.assert_allclose(found.train.signal.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found.train.signal.std(axis=0), 1, atol=1e-5)
    mean, std = DATA.train.signal.mean(axis=0), DATA.train.signal.std(axis=0)
    np.testing.assert_allclose(found.test.signal * std + mean, DATA.test.signal, atol=1e-5)


def test_each_training_recording_is_held_out_once():
    parts = list(DATA.held_out(5))
    names = [name for part in parts for name in part.test.names]
    assert sorted(names, key=int) == [str(i) for i in range(30)]
    for part in parts:
        assert set(part.train.names).isdisjoint(part.test.names)
        np.testing.assert_array_equal(np.bincount(part.test.labels), [2, 2, 2])
    assert len(list(DATA.held_out(2))) == 2


def test_digests_change_with_labels():
    other = Parts(DATA.train, made_recordings(1, recordings=9, classes=2))
    assert DATA.digests["training recordings"] == other.digests["training recordings"]
    assert DATA.digests["test recordings"] != other.digests["test recordings"]


def test_pooled_over_time():
    steps = [np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([[5.0, 5.0]])]
    np.testing.assert_array_equal(pooled(steps), [[2, 4], [5, 5]])
    np.testing.assert_array_equal(pooled(steps, spread=True), [[2, 4, 1, 2], [5, 5, 0, 0]])


def test_the_last_layer_is_that_of_the_network():
    classifier = {"kernel": np.array([[1.0, -1.0], [0.0, 1.0]]), "bias": np.array([0.0, 0.5])}
    trained = Trained({"classifier": classifier}, {}, {})
    np.testing.assert_array_equal(last_layer(trained, np.array([[1.0, 0], [0, 0]])), [0, 1])


def test_cells_keep_the_share_of_each_recording():
    right = np.array([True, False, True, True])
    found = cell_of(
        {
            "moments": Fitted(right, np.array([0, 0, 0, 2]), 10.0, True),
            "whole": Fitted(right, np.arange(4)),
        }
    )
    assert found["moments"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["whole"] == 0.75
    assert found["correct"]["moments"] == [0.6667, 1.0]
    assert found["at_end"] == ["moments"]
    assert found["penalties"] == {"moments": 10.0, "whole": 0.0}
    # Half the difference of two, by the number of recordings less one.
    assert found["moments_se"] == pytest.approx(np.std([2 / 3, 1]) / np.sqrt(2))
    other = {"correct": {"moments": [0.5, 0.5], "whole": found["correct"]["whole"]}}
    np.testing.assert_allclose(paired([found], [other], "moments"), [[0.1667, 0.5]])
    np.testing.assert_array_equal(paired([found], [other], "whole"), [[0, 0, 0, 0]])


def test_accuracies_by_k():
    cells = [
        {"held_out": {"accuracy_1": a, "accuracy_2": b, "candidates": 50.0}}
        for a, b in ((0.5, 0.25), (0.75, 0.25))
    ]
    np.testing.assert_array_equal(by_k([*cells, {"diverged": True}]), [[0.5, 0.25], [0.75, 0.25]])
    assert table_by_k(cells).splitlines() == [
        "the positive among test recordings, one of 50 candidates, by chance 2.0 %",
        "steps ahead  picked out, %",
        "1              62.5 ± 17.7",
        "2               25.0 ± 0.0",
    ]
    assert table_by_k([{"diverged": True}]) == "CPC diverged"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Of CPC and cross-entropy on classes that a mean tells apart, at the better of two rates."""
    experiment = opened(
        tmp_path_factory.mktemp("rows"), "--width=8", "--context_width=8", "--window=6",
        "--batch_size=8", "--training_steps=40", "--learning_rates=0.00001,0.01",
        "--held_out_fifths=1",
    )  # fmt: skip
    own, mesh = experiment.own, data_mesh(jax.devices()[:1])
    methods = {
        "CPC": vowels.cpc_of(own, mesh, steps=2),
        "supervised": vowels.supervised_of(own, 3),
    }
    return CPCRows(
        experiment,
        DATA.standardised(),
        vowels.networks_of(own),
        methods,
        vowels.recipe_of(own),
        vowels.probes_of(own),
        mesh,
    )


@pytest.mark.slow
def test_rows_have_their_probes_and_their_rates(rows):
    cpc, supervised = rows.cell("CPC", 0), rows.cell("supervised", 0)
    assert supervised["rate"] == "0.01*"
    assert supervised["linear"] > 0.8
    assert supervised["penalties"]["linear"] == 0  # its own layer's
    assert set(cpc["held_out"]) >= {"accuracy_1", "accuracy_2", "candidates"}
    assert "held_out" not in supervised
    assert cpc["penalties"]["linear"] > 0
    assert cpc["linear"] > 0.8
    start = rows.untrained("CPC", 0)
    assert set(start) == set(cpc) - {"held_out", "rate", "tried"}
    before, after = (rows.trained("CPC", 0, steps).params for steps in (0, None))
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    assert all(np.abs(a - b).max() > 0 for a, b in pairs)


def test_signals_are_the_recordings():
    np.testing.assert_array_equal(signals(DATA.test)[3], DATA.test.of(3))
