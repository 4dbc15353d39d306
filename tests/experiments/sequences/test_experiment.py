"""The house of experiments on recordings: flags, cells that are kept, rates, the end."""

import json
import math

import pytest
from absl import flags

from alphacl_jax.errors import ArgumentError, RunError
from experiments.sequences import vowels
from experiments.sequences.experiment import CHOOSING_SEED, Experiment, define_experiment_flags
from experiments.sequences.vowels import VowelSettings
from experiments.studies.claims import Claim
from experiments.studies.own_flags import Own

OWN = Own(VowelSettings, vowels.QUICK)


def make_experiment(folder, *arguments, own=OWN):
    values = flags.FlagValues()
    define_experiment_flags(values, "test", own)
    values(["test", f"--output={folder}", *arguments])
    return Experiment(values, own)


def opened(folder, *arguments, data="same"):
    experiment = make_experiment(folder, *arguments)
    experiment.depends_on({"recordings": data}, changing_nothing=("batch_size",))
    return experiment


def test_quick_is_one_seed_and_small(tmp_path):
    quick = make_experiment(tmp_path, "--quick", "--width=5")
    assert (quick.quick, list(quick.seeds)) == (True, [0])
    assert (quick.own.width, quick.own.context_width) == (5, 8)
    assert list(make_experiment(tmp_path, "--quick", "--num_seeds=2").seeds) == [0, 1]
    assert list(make_experiment(tmp_path, "--seed=4").seeds) == [4, 5, 6]


def test_cells_are_computed_once_and_seed_by_seed(tmp_path):
    computed = []

    def compute(row, seed):
        computed.append((row, seed))
        return {"linear": 0.5 + seed / 10}

    rows = opened(tmp_path, "--num_seeds=2").rows(("a", "b"), compute)
    assert computed == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert [cell["linear"] for cell in rows["b"]] == [0.5, 0.6]
    # What does not change a figure may be another; a third seed alone is new.
    again = opened(tmp_path, "--num_seeds=3", "--batch_size=7").rows(("a", "b"), compute)
    assert computed[4:] == [("a", 2), ("b", 2)]
    assert again["a"][:2] == rows["a"]


@pytest.mark.parametrize(
    ("arguments", "data", "differs"),
    [(("--width=9",), "same", "width"), ((), "other", "recordings")],
)
def test_cells_of_something_else_are_not_mixed(tmp_path, arguments, data, differs):
    opened(tmp_path).cell("a", 0, lambda: {"linear": 0.5})
    with pytest.raises(RunError, match=f"holds figures of other settings: {differs}"):
        opened(tmp_path, *arguments, data=data)


def test_the_rate_is_that_of_the_best_held_out_accuracy(tmp_path):
    experiment = opened(tmp_path)
    scores = {0.1: 0.5, 0.2: 0.75, 0.4: math.nan, 0.8: 0.6}
    asked = []

    def score(rate):
        asked.append(rate)
        return scores[rate]

    found = experiment.rate_of("CPC", (0.4, 0.1, 0.8, 0.2), score)
    assert found == (0.2, {"rate": "0.2", "tried": "50.0 75.0 diverged 60.0"})
    assert experiment.rate_of("CPC", (0.4, 0.1, 0.8, 0.2), score) == found
    assert asked == [0.1, 0.2, 0.4, 0.8]
    cells = json.loads((tmp_path / "cells.json").read_text())["cells"]
    assert {cell["seed"] for cell in cells} == {CHOOSING_SEED}
    # An end of the list is marked, and of one rate nothing is asked.
    assert experiment.rate_of("CPC", (0.1, 0.2), score)[1]["rate"] == "0.2*"
    assert experiment.rate_of("other", (0.3,), lambda rate: 1 / 0) == (0.3, {})


def test_the_end_says_and_keeps_what_was_found(tmp_path, capsys):
    experiment = opened(tmp_path)
    experiment.finish("a table", [Claim("it is so", "+1", "holds")], {})
    out = capsys.readouterr().out
    assert out.startswith("a table\n\nholds: it is so (+1)\nall figures: ")
    kept = json.loads((tmp_path / "cells.json").read_text())
    assert kept["claims"] == [{"text": "it is so", "found": "+1", "verdict": "holds"}]
    opened(tmp_path / "quick", "--quick").finish("t", [Claim("x", "y", "holds")], {})
    assert "--quick is too short to say anything" in capsys.readouterr().out


def test_bad_settings_are_told(tmp_path):
    for arguments, message in (
        (("--learning_rates=0.1,0.1",), "learning_rates=0.1,0.1 has a value twice"),
        (("--batch_size=1",), "batch_size=1 is out of range"),
        (("--held_out_fifths=6",), "held_out_fifths=6 is out of range"),
        (("--seed=2147483646", "--num_seeds=3"), "goes beyond the largest seed"),
    ):
        with pytest.raises(ArgumentError) as error:
            make_experiment(tmp_path, *arguments)
        assert message in str(error.value)
    with pytest.raises(RunError, match="--output= is empty"):
        make_experiment("")
