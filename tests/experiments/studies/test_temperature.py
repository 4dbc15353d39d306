"""The study of temperature: its runs, its claim, its table and its picture."""

import pytest

from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.flag_file import from_mapping
from alphacl_jax.runs.objectives import make_objective
from experiments.studies import temperature as study
from tests.experiments.studies.made_up import cells_with, run_quick
from tests.tiny_runs import assert_picture


def test_each_length_is_a_run_of_its_own_at_each_temperature():
    own = study.TemperatureSettings(temperatures=(1.0, 0.2), training_epochs=(9, 1))
    grid = study.variants(own)
    assert {length: list(of) for length, of in grid.items()} == {
        "1 epoch": ["0.2", "1"],
        "9 epochs": ["0.2", "1"],
    }
    made = from_mapping(grid["9 epochs"]["0.2"].settings)
    assert (made.optimizer.epochs, made.method.loss) == (9, "info_nce")
    assert made.method.temperature == 0.2


@pytest.mark.parametrize("loss", study._LOSSES)
def test_the_losses_are_those_that_read_a_temperature(loss):
    own = study.TemperatureSettings(loss=loss, temperatures=(0.3,), training_epochs=(1,))
    variant = study.variants(own)["1 epoch"]["0.3"]
    make_objective(from_mapping(variant.settings).method)  # refuses a setting that is not read


def test_a_loss_without_a_temperature_is_refused():
    with pytest.raises(ArgumentError, match="loss=mine is unknown"):
        study.TemperatureSettings(loss="mine")


@pytest.mark.parametrize(
    ("accuracies", "verdict", "best"),
    [
        ((0.2, 0.5, 0.3), "holds", "0.1"),
        ((0.1, 0.2, 0.4), "does not hold", "0.1"),
        # 4 images of 400: 1 % ± 0.5 %, two errors but not those that the best of two must have.
        ((0.2, 0.31, 0.3), "not settled", "0.1"),
        ((0.2, 0.3, 0.3), "not settled", "0.1"),
    ],
)
def test_the_best_temperature_below_1_is_compared_with_1(accuracies, verdict, best):
    names = ("0.05", "0.1", "1")
    rows = {name: cells_with(a) for name, a in zip(names, accuracies, strict=True)}
    (claim,) = study.claims({"5 epochs": rows})
    assert claim.verdict == verdict
    assert f"({best}, the best of 2 tried)" in claim.text


def test_one_that_diverged_is_not_the_best():
    rows = {"0.05": [{"diverged": True}], "0.1": cells_with(0.4, 1), "1": cells_with(0.2, 1)}
    (claim,) = study.claims({"5 epochs": rows})
    assert "(0.1, the best of 2 tried)" in claim.text
    del rows["0.1"]
    (claim,) = study.claims({"5 epochs": rows})
    assert claim.verdict == "not settled"


@pytest.mark.parametrize("names", [("0.1", "0.5"), ("1", "2")])
def test_nothing_is_claimed_without_both_sides(names):
    assert study.claims({"5 epochs": {name: cells_with(0.3) for name in names}}) == []


@pytest.mark.slow
def test_quick(tmp_path):
    out, _, written = run_quick("temperature", tmp_path, "--temperatures=1,0.2")
    assert "linear, %, 1 epoch  linear, %, 2 epochs" in out
    assert "alignment, 1 epoch  alignment, 2 epochs" in out
    rows = [line.split()[0] for line in out.splitlines() if line[:1].isdigit()]
    assert rows == ["0.2", "1", "0.2", "1"]
    trained = [cell for cell in written["cells"] if cell["kind"] == "trained"]
    # 4 steps an epoch.
    assert [(c["settings"]["temperature"], c["step"]) for c in trained] == [
        (0.2, 4), (1.0, 4), (0.2, 8), (1.0, 8),
    ]  # fmt: skip
    assert_picture(tmp_path / "accuracy.png")
