"""The nine speakers: the claims, bad flags, and the script on made recordings."""

import subprocess
import sys

import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from experiments.sequences import speakers, vowels
from experiments.sequences.parts import Parts
from experiments.studies.report import as_bits
from tests.experiments.sequences.made_recordings import made_recordings
from tests.experiments.sequences.test_experiment import make_experiment
from tests.tiny_runs import assert_picture

KEYS = tuple(column.key + ending for column in vowels.COLUMNS for ending in ("", vowels.BOTH))


def cells(accuracy, seeds=3, by_k=()):
    """Of which always the same of 400 recordings are right."""
    right = as_bits(np.arange(400) < 400 * accuracy)
    held_out = {f"accuracy_{k}": a for k, a in enumerate(by_k, 1)}
    return [
        {
            **dict.fromkeys(KEYS, accuracy),
            "correct": dict.fromkeys(KEYS, right),
            "held_out": {"candidates": 9.0, **held_out},
        }
        for _ in range(seeds)
    ]


def test_the_table_has_means_and_both_apart():
    cell = {
        "linear": 0.5, "linear_both": 0.75, "rate": "0.1",
        "correct": {"linear": "a", "linear_both": "b"},
    }  # fmt: skip
    lost = {"diverged": True}
    few = {"linear_2": 0.1, "linear_5": 0.2, "linear": 0.9}
    found = speakers.shown({"coefficients": [cell, lost], "supervised": [few]})
    assert list(found) == ["coefficients, mean", "coefficients, mean and std", "supervised"]
    assert found["coefficients, mean"] == [cell, lost]
    assert found["coefficients, mean and std"] == [
        {"linear": 0.75, "correct": {"linear": "b"}},
        {"diverged": True, "correct": {}},
    ]
    # It has seen all labels.
    assert found["supervised"] == [{"linear": 0.9}]


def test_claims_compare_cpc_with_each_row():
    rows = {
        speakers.RAW: cells(0.8),
        speakers.UNTRAINED: cells(0.6),
        speakers.CPC: cells(0.9, by_k=(0.5, 0.4)),
        speakers.SUPERVISED: cells(0.9),
    }
    found = speakers.claims(speakers.shown(rows))
    assert [claim.verdict for claim in found] == ["holds"] * 9 + ["not settled", "holds"]
    assert found[0].text == "CPC, mean tells more than coefficients, mean: 2 labels each"
    rows[speakers.RAW] = cells(0.95)
    verdicts = [claim.verdict for claim in speakers.claims(speakers.shown(rows))]
    assert verdicts[:9] == ["does not hold"] * 3 + ["holds"] * 3 + ["does not hold"] * 3


@pytest.mark.parametrize(
    ("by_k", "verdict"),
    [
        ((0.6, 0.5, 0.4), "holds"),
        ((0.6, 0.3, 0.4), "not settled"),
        ((0.4, 0.3, 0.5), "does not hold"),
    ],
)
def test_falling_with_k_is_at_each_step(by_k, verdict):
    claim = speakers.falls(cells(0.5, by_k=by_k))
    assert claim.verdict == verdict
    assert claim.found == ", ".join(f"{100 * a:.1f}" for a in by_k) + " %"
    assert speakers.falls([{"diverged": True}]).verdict == "not settled"


def test_a_window_must_leave_a_moment_to_predict_from():
    own = speakers.SpeakerSettings(window=5, predicted_steps=5)
    with pytest.raises(ArgumentError, match="window=5 leaves no moment from which 5 steps are"):
        vowels.cpc_of(own, None, steps=own.predicted_steps)
    with pytest.raises(ArgumentError, match="negatives=all is unknown"):
        speakers.SpeakerSettings(negatives="all")


@pytest.mark.slow
def test_quick(tmp_path, monkeypatch, capsys):
    data = Parts(made_recordings(0, recordings=30), made_recordings(1, recordings=9))
    monkeypatch.setattr(vowels, "load_vowels", data.standardised)
    arguments = ("--quick", "--window=6", "--batch_size=8", "--training_steps=20")
    speakers.run(make_experiment(tmp_path, *arguments, own=speakers.OWN))
    out = capsys.readouterr().out
    assert "30 training and 9 test recordings" in out
    for row in (speakers.RAW, speakers.UNTRAINED, speakers.CPC):
        assert f"\n{row}, mean " in out
        assert f"\n{row}, mean and std " in out
    assert f"\n{speakers.SUPERVISED} " in out
    assert "--quick is too short" in out
    for name in ("speakers.png", "accuracy_by_k.png"):
        assert_picture(tmp_path / name)


def test_bad_flags_end_it_in_a_line(tmp_path):
    command = [sys.executable, "-m", "experiments.sequences.speakers", f"--output={tmp_path}/a"]
    done = subprocess.run([*command, "--width=0"], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.startswith("error: --width=0 ")
    assert not (tmp_path / "a").exists()
