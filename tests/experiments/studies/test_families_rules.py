"""The study of families and rules: its runs, its claims, its table and its picture."""

import pytest

from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.flag_file import from_mapping
from alphacl_jax.runs.objectives import make_objective
from alphacl_jax.runs.settings import LOSSES
from experiments.studies import families_rules as study
from tests.experiments.studies.made_up import cells_with, run_quick
from tests.tiny_runs import assert_picture


def test_every_loss_has_a_run_at_its_defaults():
    variants = study.variants(study.FamilySettings())
    assert [variant.name for variant in variants] == list(LOSSES)
    for variant in variants:
        made = from_mapping(variant.settings).method
        assert made == type(made)(loss=variant.name)
        make_objective(made)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ArgumentError, match="losses=quadratic is unknown"):
        study.FamilySettings(losses=("info_nce", "quadratic"))


@pytest.mark.parametrize(
    ("quadratic", "verdict"), [(0.1, "holds"), (0.5, "does not hold"), (0.3, "not settled")]
)
def test_the_quadratic_loss_is_compared_with_both(quadratic, verdict):
    rows = {
        "alpha_direct": cells_with(0.3),
        "info_nce": cells_with(0.3),
        "alpha_uniform": cells_with(quadratic),
    }
    assert [claim.verdict for claim in study.claims(rows)] == [verdict, verdict]


@pytest.mark.parametrize(
    ("losses", "claimed"),
    [(("info_nce", "alpha_uniform"), 1), (("info_nce", "alpha_direct"), 0), (("mine",), 0)],
)
def test_what_was_not_trained_is_not_claimed(losses, claimed):
    assert len(study.claims({loss: cells_with(0.3) for loss in losses})) == claimed


@pytest.mark.slow
def test_quick(tmp_path):
    out, _, written = run_quick("families_rules", tmp_path, "--losses=mine,alpha_square")
    assert "1 epoch; the settings of each loss are its defaults, none tuned" in out
    lines = out.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("loss "))
    names = [line.partition("  ")[0] for line in lines[first + 1 : first + 4]]
    assert names == ["mine", "alpha_square", "untrained encoder"]
    assert all("uniformity" in c for c in written["cells"] if c["kind"] == "trained")
    assert_picture(tmp_path / "accuracy.png")
