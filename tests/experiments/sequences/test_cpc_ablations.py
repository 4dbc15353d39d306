"""The ablations of CPC: which rows there are, the claims, what is refused, the script."""

import pytest

from alphacl_jax.errors import ArgumentError
from experiments.sequences import cpc_ablations as study
from experiments.sequences import vowels
from experiments.sequences.parts import Parts
from tests.experiments.sequences.made_recordings import made_recordings
from tests.experiments.sequences.test_experiment import make_experiment
from tests.experiments.sequences.test_speakers import cells
from tests.tiny_runs import assert_picture


def test_both_tables_share_a_row():
    own = study.AblationSettings(
        predicted_steps=(4, 1), negatives=("current", "mixed_excluded", "mixed")
    )
    of_steps, of_negatives = study.grids(own)
    assert of_steps == {"1": "K = 1, mixed_excluded", "4": "K = 4, mixed_excluded"}
    assert of_negatives == {
        "mixed": "K = 4, mixed",
        "mixed_excluded": "K = 4, mixed_excluded",
        "current": "K = 4, current",
    }


def test_what_is_refused():
    with pytest.raises(ArgumentError, match=r"steps_of_negatives=3 must be one of predicted_steps"):
        study.AblationSettings(steps_of_negatives=3)
    with pytest.raises(ArgumentError, match="negatives=all is unknown"):
        study.AblationSettings(negatives=("all",))


def test_claims():
    steps = {"1": cells(0.7), "2": cells(0.8), "8": cells(0.9), study.UNTRAINED: cells(0.7)}
    negatives = {
        "mixed": cells(0.8), "mixed_excluded": cells(0.8), "same": cells(0.6),
        study.UNTRAINED: cells(0.7),
    }  # fmt: skip
    found = {claim.text: claim.verdict for claim in study.claims(steps, negatives)}
    assert found == {
        "predicting several steps tells more than the next alone (K = 8, the best of 2)": "holds",
        "negatives of other recordings tell more of the speaker than mixed": "not settled",
        "negatives of other recordings tell more of the speaker than same": "holds",
        "K = 1 tells more than the untrained network": "not settled",
        "K = 2 tells more than the untrained network": "holds",
        "K = 8 tells more than the untrained network": "holds",
        "mixed tells more than the untrained network": "holds",
        "mixed_excluded tells more than the untrained network": "holds",
        "same tells more than the untrained network": "does not hold",
    }
    # One that diverged is never the best.
    steps["8"] = [{"diverged": True}] * 3
    assert "(K = 2, the best of 2)" in study.claims(steps, negatives)[0].text
    only = {"2": cells(0.8), study.UNTRAINED: cells(0.7)}
    assert len(study.claims(only, {study.UNTRAINED: cells(0.7)})) == 1


def test_ends_are_of_the_first_and_the_last_step():
    (found, lost) = study.with_ends([*cells(0.5, 1, by_k=(0.6, 0.5, 0.2)), {"diverged": True}])
    assert (found["first"], found["last"], found["candidates"]) == (0.6, 0.2, 9.0)
    assert lost == {"diverged": True}


@pytest.mark.slow
def test_quick(tmp_path, monkeypatch, capsys):
    data = Parts(made_recordings(0, recordings=30), made_recordings(1, recordings=9))
    monkeypatch.setattr(vowels, "load_vowels", data.standardised)
    arguments = ("--quick", "--window=6", "--batch_size=8")
    study.run(make_experiment(tmp_path, *arguments, own=study.OWN))
    out = capsys.readouterr().out
    assert "Which negatives, at K = 2" in out
    for name in ("steps.png", "negatives.png", "accuracy_by_k.png"):
        assert_picture(tmp_path / name)
