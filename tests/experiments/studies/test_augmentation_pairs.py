"""The study of pairs of augmentations: what is trained, the matrix, and what is said of it."""

import dataclasses
from itertools import combinations_with_replacement

import numpy as np
import pytest

from alphacl_jax.data import policies
from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.flag_file import from_mapping
from experiments.studies import augmentation_pairs as study
from experiments.studies.report import as_bits
from experiments.studies.study import UNTRAINED
from tests.experiments.studies.made_up import run_quick


def _policies(variant):
    own = from_mapping(variant.settings).augmentation
    first = policies.policy_for("folder", (32, 32, 3), own.augmentation, own.augmentation_overrides)
    return policies.of_views(first, own.second_view_overrides)


PAIRS = list(combinations_with_replacement(study.OPERATIONS, 2))


@pytest.mark.parametrize("pair", PAIRS)
def test_the_first_view_alone_is_changed_by_both_operations(pair):
    first, second = _policies(study.variant_of(*pair))
    done = set()
    for operation in pair:
        done |= study.OPERATIONS[operation].items()
    assert second == policies.NONE
    changed = {
        (field.name, getattr(first, field.name))
        for field in dataclasses.fields(first)
        if field.compare and getattr(first, field.name) != getattr(second, field.name)
    }
    assert changed == done


def test_the_whole_policy_is_that_of_both_views():
    assert _policies(study.BOTH_VIEWS) == policies.SIMCLR


def test_a_pair_has_one_name():
    assert study.name_of("colour", "crop") == study.name_of("crop", "colour") == study.BEST
    assert study.name_of("crop", "crop") == "crop"
    assert len({study.name_of(*pair) for pair in PAIRS}) == len(PAIRS) == 28


def test_operations_that_images_cannot_have_are_left_out():
    assert study.usable(["turns", "colour", "crop"], (8, 8, 3)) == ["crop", "colour", "turns"]
    assert study.usable(["turns", "colour", "crop"], (8, 8, 1)) == ["crop", "turns"]
    assert study.usable(["turns", "colour", "crop"], (8, 9, 3)) == ["crop", "colour"]


def test_operations_that_there_are_not():
    assert study.PairSettings(("crop",)).operations == ("crop",)
    with pytest.raises(ArgumentError, match=r"operations=x is unknown.* one of crop, cutout"):
        study.PairSettings(("x",))


def _cells(*accuracies: float) -> list[dict]:
    """One cell a seed, of 200 test images of which the first ones are right."""
    right = [np.arange(200) < round(200 * accuracy) for accuracy in accuracies]
    return [
        {
            "linear_all": own.mean(),
            "linear_all_se": own.std() / 200**0.5,
            "correct": {"linear_all": as_bits(own)},
        }
        for own in right
    ]


def test_the_matrix_is_symmetric_and_has_averages():
    rows = {
        "crop": _cells(0.5, 0.6),
        "colour": _cells(0.2, 0.2),
        "noise": [{"diverged": True}] * 2,
        "crop + colour": _cells(0.7, 0.9),
        "crop + noise": _cells(0.4, 0.4),
        "colour + noise": [{"diverged": True}, *_cells(0.3)],
    }
    matrix = study.with_averages(study.matrix_of(rows, ["crop", "colour", "noise"]))
    want = [[55, 80, 40, 175 / 3], [80, 20, 30, 130 / 3], [40, 30, np.nan, 35]]
    np.testing.assert_allclose(matrix, want)
    # The largest deviation, √2/10 of crop + colour.
    assert study.error_of(rows) == "mean over 2 seeds, standard deviation at most 14.1"
    assert study.with_averages(np.full((1, 1), np.nan)).shape == (1, 2)


def test_of_one_seed_the_error_is_that_of_the_test_images():
    rows = {"crop": _cells(0.5), "colour": _cells(0.9), "noise": [{"diverged": True}]}
    # √(0.5 · 0.5 / 200)
    assert study.error_of(rows) == "one seed, standard error by the test images at most 3.5"


def _verdicts(**accuracies: float) -> dict[str, str]:
    found = {"crop": 0.4, "colour": 0.3, "crop_noise": 0.5, "crop_cutout": 0.45,
             "crop_colour": 0.6, "both": 0.8, "untrained": 0.2} | accuracies  # fmt: skip
    named = {"both": study.BOTH_VIEWS.name, "untrained": UNTRAINED.name}
    rows = {
        named.get(name, name.replace("_", " + ")): _cells(accuracy)
        for name, accuracy in found.items()
    }
    return {claim.text: claim.verdict for claim in study.claims(rows)}


def test_claims():
    assert _verdicts() == {
        "crop + colour beats the best of 2 other pairs by these figures, crop + noise": "holds",
        "crop + colour beats crop alone": "holds",
        "crop + colour beats colour alone": "holds",
        "both views augmented beat one": "holds",
        "crop + colour of one view beats the untrained encoder": "holds",
    }
    found = _verdicts(crop_cutout=0.9, crop=0.6, both=0.1)
    assert found[
        "crop + colour beats the best of 2 other pairs by these figures, crop + cutout"
    ] == ("does not hold")
    assert found["crop + colour beats crop alone"] == "not settled"
    assert found["both views augmented beat one"] == "does not hold"


def test_nothing_is_claimed_where_the_pair_is_not_there():
    assert study.claims({"crop": _cells(0.5)}) == []
    rows = {name: _cells(0.5) for name in ("crop", "colour", study.BEST, UNTRAINED.name)}
    rows[study.BOTH_VIEWS.name] = [{"diverged": True}]
    assert [claim.verdict for claim in study.claims(rows)] == ["not settled"] * 4


@pytest.mark.slow
def test_the_study_from_the_command_line(tmp_path):
    arguments = ("augmentation_pairs", tmp_path, "--operations=noise,turns,colour")
    out, err, written = run_quick(*arguments)
    assert "left out, since images of 8x8x1 cannot have it: colour" in err
    table = out.splitlines()
    first = next(i for i, line in enumerate(table) if line.split() == ["noise", "turns", "average"])
    noise, turns = (line.split() for line in table[first + 1 : first + 3])
    assert (noise[0], turns[0], noise[2]) == ("noise", "turns", turns[1])
    cells = written["cells"]
    names = ["noise", "noise + turns", "turns", study.BOTH_VIEWS.name, UNTRAINED.name]
    assert [cell["variant"] for cell in cells] == names
    assert {f"{100 * cells[1]['linear_all']:.1f}"} == {noise[2]}
    assert (tmp_path / "matrix.png").exists()
    again, err, _ = run_quick(*arguments)
    assert "cell" not in err  # all are there
    assert again.splitlines()[: first + 3] == table[: first + 3]
