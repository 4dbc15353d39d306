"""The script on local maxima: run tiny, its files, its refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.theory.nonlinear.activations import RELU
from alphacl_jax.theory.nonlinear.local_maxima import Ends
from alphacl_jax.theory.nonlinear.patterns import (
    equiangular_patterns,
    expected_patterns,
    pattern_data,
)
from experiments.theory import local_maxima, local_maxima_layers
from tests.tiny_runs import run_script, script_values


def make_values(*arguments):
    return script_values(local_maxima, *arguments)


def run(tmp_path, *arguments):
    return run_script(local_maxima, tmp_path, *arguments)


def agreeing(found, title):
    rows = found["checks"][title]
    assert rows
    return all(row["agrees"] for row in rows)


@pytest.mark.slow
def test_default_run_agrees(tmp_path):
    found = run(tmp_path, "--samples=96", "--starts=128")
    assert [title for title in found["checks"] if agreeing(found, title)] == [
        "local maxima",
        "stability",
        "layers of K nodes",
    ]
    assert set(found["results"]["activations"]) == set(local_maxima._ACTIVATIONS)
    for name in ("sphere", "maxima", "layers"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--patterns=7", "--dim=6 is out of range; 7 patterns need at least 7"),
        ("--cosine=-0.5", r"--cosine=-0.5 is out of range; between 4 patterns it must be in"),
        ("--cosine=1", r"--cosine=1.0 is out of range"),
        ("--noise=nan", r"--noise=nan .*must be a finite number"),
        ("--noise=inf", r"--noise=inf .*must be a finite number"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, argument, message):
    with pytest.raises(RunError, match=message):
        run(tmp_path, argument)


@pytest.mark.parametrize("argument", ["--patterns=1", "--samples=1", "--starts=0", "--noise=-1"])
def test_flags_have_bounds(argument):
    with pytest.raises(flags.IllegalFlagValueError, match=argument[2:].split("=")[0]):
        make_values(argument)


def check_layers(linear, relu, basins):
    """The rows of 10 layers, of 1 and of 32 nodes, on 4 patterns."""
    layers = {
        "nodes": [1, 32],
        "layers": [320, 10],
        "basins": basins,
        "predicted": [expected_patterns(basins, k).mean for k in (1, 32)],
        "error": [0.01, 0.01],
        "linear": {"maxima": {"mean": linear}},
        "ReLU": {"patterns": {"mean": relu}},
    }
    return {check.name: check.agrees for check in local_maxima_layers.layer_checks(layers, 4)}


def test_layers_that_find_what_the_basins_predict_agree():
    assert all(check_layers([1, 1], [1, 4], [0.25] * 4).values())


@pytest.mark.parametrize(
    ("linear", "relu", "differing"),
    [
        ([1, 4], [1, 4], ["linear, K = 32: local maxima found"]),
        (
            [1, 1],
            [1, 3.5],
            [
                "ReLU, K = 32: patterns found, beside Σ 1 − (1 − basin)ᴷ",
                "ReLU, K = 32: share of the patterns",
            ],
        ),
        (
            [1, 1],
            [1, 1],
            [
                "ReLU, K = 32: patterns found, beside Σ 1 − (1 − basin)ᴷ",
                "ReLU: patterns at K = 32, above K = 1",
                "ReLU, K = 32: share of the patterns",
            ],
        ),
    ],
)
def test_layers_that_find_something_else_differ(linear, relu, differing):
    rows = check_layers(linear, relu, [0.25] * 4)
    assert [name for name, agrees in rows.items() if not agrees] == differing


def test_a_prediction_of_nothing_is_not_compared():
    """Where no start finds a pattern, 0 patterns beside 0 predicted would agree."""
    rows = check_layers([1, 1], [0, 0], [0.0] * 4)
    assert not any("basin" in name for name in rows)
    assert [agrees for name, agrees in rows.items() if "ReLU" in name] == [False, False]


def small_data():
    patterns = equiangular_patterns(3, 3, -0.3)
    frequencies = jnp.asarray([0.4, 0.33, 0.27])
    data = pattern_data(jax.random.key(0), patterns, frequencies, num_samples=32, noise=0.2)
    return data, patterns


@pytest.mark.slow
def test_trained_layers_and_a_linear_node_of_several_maxima(monkeypatch, x64):
    """The rows tell a node of one maximum from one of several: a ReLU called linear differs."""
    monkeypatch.setattr(local_maxima_layers, "_TRAINED", 64)
    monkeypatch.setattr(local_maxima_layers, "_NODES", (1, 16))
    data, patterns = small_data()
    layers = local_maxima_layers.trained_layers(jax.random.key(1), data, patterns)
    assert layers["layers"] == [64, 4]
    assert all(check.agrees for check in local_maxima_layers.layer_checks(layers, 3))
    monkeypatch.setitem(local_maxima_layers.ACTIVATIONS, "linear", RELU)
    layers = local_maxima_layers.trained_layers(jax.random.key(1), data, patterns)
    wrong = [c.name for c in local_maxima_layers.layer_checks(layers, 3) if not c.agrees]
    assert "linear, K = 16: local maxima found" in wrong
    assert not any(name.startswith("ReLU") for name in wrong)


def test_maxima_at_no_pattern_are_no_share_of_the_patterns():
    """One pattern found twice, a plateau at another, a maximum at none."""
    patterns = jnp.eye(3)
    weights = jnp.asarray([[[1.0, 0, 0], [0.95, 0.3122, 0], [0, 0, 1], [0.6, 0.8, 0]]])
    ends = Ends(weights, jnp.asarray([[3.0, 2.0, 0.0, 1.0]]), jnp.zeros((1, 4)))
    np.testing.assert_array_equal(
        local_maxima_layers._pattern_of_each(ends, patterns), [[0, 0, -1, -1]]
    )
    found = local_maxima_layers._found_by_each(ends, patterns, RELU)
    assert found == {"maxima": [3], "patterns": [1]}


def found_of(gap, lipschitz, returned):
    maxima = local_maxima.LocalMaxima(np.eye(2), np.ones(2), np.ones(2) / 2, np.zeros(4, int))
    return local_maxima.Found(maxima, np.eye(2), *map(np.array, (gap, lipschitz, returned)))


def test_what_meets_the_condition_and_is_left_differs():
    of = found_of([2.0, 1.0], [1.0, 2.0], [1.0, 0.0])
    met, left = local_maxima._stability_checks({"ReLU": of})
    assert (met.ours, met.agrees, left.agrees) == (1, True, True)
    assert "of 2 maxima" in met.name
    met, left = local_maxima._stability_checks({"ReLU": of._replace(returned=np.zeros(2))})
    assert (met.agrees, left.ours, left.agrees) == (True, 1, False)


def test_a_condition_that_no_maximum_meets_differs():
    of = found_of([1.0, 1.0], [2.0, 2.0], [1.0, 1.0])
    (check,) = local_maxima._stability_checks({"ReLU": of})
    assert check.ours == 0
    assert not check.agrees


def test_ascents_start_within_the_radius_of_L_and_must_move_to_return(monkeypatch, x64):
    data, patterns = small_data()
    started = []

    def rest(starts, *_):
        started.append(starts)
        return Ends(starts, jnp.ones(len(starts)), jnp.zeros(len(starts)))

    monkeypatch.setattr(local_maxima, "ascend", rest)
    returned = local_maxima._returned(jax.random.key(0), patterns, data, RELU, 12)
    np.testing.assert_array_equal(returned, [0, 0, 0])
    distances = jnp.linalg.norm(started[0] - patterns[jnp.arange(12) % 3], axis=1)
    assert distances.min() > 0.9 * local_maxima._RADIUS
    assert distances.max() <= local_maxima._RADIUS
