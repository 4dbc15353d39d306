"""The study of losses with labels: its variants, what it says to each claim, and a quick run."""

import pytest

from alphacl_jax.runs.flag_file import from_mapping
from experiments.studies import label_losses as study
from tests.experiments.studies.made_up import cell, run_quick, verdicts

VARIANTS = (*study.BY_LOSS.values(), *study.BESIDE)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_variants_are_settings_of_runs(variant):
    made = from_mapping(variant.settings)
    for name, value in variant.settings.items():
        if name != "method":
            assert getattr(made.method, name) == value


def rows(**accuracies):
    """A row of one seed for each variant, of 0.5 where nothing else is said."""
    given = {getattr(study, name).name: value for name, value in accuracies.items()}
    return {v.name: [cell(given.get(v.name, 0.5))] for v in VARIANTS}


def test_verdicts():
    found = verdicts(study.claims(rows(OUT=0.7, IN=0.4, ALPHA=0.9, LABELLED=0.9)))
    assert found["SupCon L_out beats SupCon L_in, linear probe"] == "holds"
    assert found["SupCon L_out beats SupCon L_in, kNN"] == "holds"
    assert found["SupCon L_out beats α-CL-direct, no labels, linear probe"] == "does not hold"
    labelled = "α-CL-direct, labelled negatives beats α-CL-direct, no labels, linear probe"
    assert found[labelled] == "not settled"


def test_nothing_is_claimed_of_what_was_left_out():
    there = {name: cells for name, cells in rows().items() if name != study.IN.name}
    assert not any(study.IN.name in claim.text for claim in study.claims(there))
    assert len(study.claims(there)) == len(study.claims(rows())) - 2


@pytest.mark.parametrize(
    ("other", "verdict"), [(0.5, "holds"), (0.7, "not settled"), (0.9, "does not hold")]
)
def test_cross_entropy_is_compared_both_ways(other, verdict):
    table = rows(OUT=0.7, CROSS_ENTROPY=other)
    (found,) = (claim for claim in study.claims(table) if "cross-entropy" in claim.text)
    assert found.verdict == verdict


@pytest.mark.slow
def test_a_quick_run(tmp_path):
    printed, _, written = run_quick("label_losses", tmp_path)
    cells = written["cells"]
    trained = ("trained", "cross_entropy")
    assert [c["variant"] for c in cells] == [
        f"{v.name}, learning rate 0.002" if v.kind in trained else v.name for v in VARIANTS
    ]
    assert "learning rate 0.002 in every row that was trained: it was chosen for none" in printed
