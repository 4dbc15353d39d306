"""The nonlinearity tables and the search for T2's readings, run tiny."""

import json
import sys

import numpy as np
import pytest

from alphacl_jax.cli.start import plain_errors
from alphacl_jax.errors import RunError
from experiments.theory import nonlinearity, nonlinearity_search
from experiments.theory.nonlinearity_cells import (
    Condition,
    Job,
    record_steps,
    token_setting,
    train_jobs,
)
from experiments.theory.nonlinearity_tables import TABLES, Cell, cell_checks, claims, format_layout
from tests.tiny_runs import assert_picture, script_values

TINY = (
    "--num_seeds=2", "--steps=4", "--batch_size=4", "--locations=3", "--tokens=12", "--patterns=4",
    "--fixed=2", "--redrawn=1",
)  # fmt: skip


def parsed(script, tmp_path, *arguments):
    return script_values(script, *TINY, f"--workdir={tmp_path}", *arguments)


def published_values(name):
    return {cell: np.array([mean]) for cell, (mean, _) in TABLES[name].published.items()}


def test_published_tables_are_complete_and_hold_the_slides_numbers():
    for table in TABLES.values():
        assert len(table.published) == 32
    assert TABLES["T1"].published[Cell(3, 2, "ReLU")] == (0.90, 0.09)
    assert TABLES["T2"].published[Cell(10, 1, "NoBN")] == (0.54, 0.03)
    assert TABLES["T3"].published[Cell(1, 1, "ReLU")] == (-0.02, 0.19)
    assert TABLES["T3"].published[Cell(10, 10, "Linear")] == (0.50, 0.01)


@pytest.mark.parametrize(("name", "number"), [("T1", 17), ("T2", 10), ("T3", 22)])
def test_the_published_tables_meet_the_slides_claims(name, number):
    found = claims(name, published_values(name))
    assert len(found) == number
    assert [check.name for check in found if not check.agrees] == []


def test_claims_can_fail_and_are_only_of_cells_that_were_run():
    values = published_values("T1")
    swapped = {
        Cell(c.per_location, c.beta, "ReLU"): v for c, v in values.items() if c.column != "ReLU"
    }
    swapped |= {
        Cell(c.per_location, c.beta, "Linear"): v for c, v in values.items() if c.column == "ReLU"
    }
    assert not any(check.agrees for check in claims("T1", swapped) if "beats" in check.name)
    few = {cell: values[cell] for cell in values if cell.per_location == 3 and cell.beta == 2}
    assert [check.name for check in claims("T1", few)] == [
        "ReLU beats linear: P=3 β=2, ReLU − Linear"
    ]
    np.testing.assert_allclose(claims("T1", few)[0].ours, 0.09)


def test_t3_is_compared_with_our_t1_where_it_was_run():
    cell = Cell(1, 1, "ReLU")
    check = claims("T3", {cell: np.array([0.2])}, {cell: np.array([0.1, 0.2])})[-1]
    assert (check.expected, check.ours, check.agrees) == (pytest.approx(0.15), 0.2, False)


def test_the_layout_is_the_slides_and_marks_what_differs():
    values = {Cell(1, 1, "Linear"): np.array([0.5, 0.7]), Cell(1, 2, "ReLU"): np.array([0.61])}
    lines = format_layout(TABLES["T1"], values).splitlines()
    assert lines[0].split() == ["β", "P=1", "Linear", "P=1", "ReLU"]
    assert lines[1].split() == ["1", "0.60±0.10*"]
    assert lines[2].split() == ["2", "0.61±0.00"]
    assert [check.agrees for check in cell_checks(TABLES["T1"], values)] == [False, True]


def test_stages_of_a_training():
    assert record_steps(5000) == (0, 10, 50, 500, 5000)
    assert record_steps(1) == (0, 1)


@pytest.mark.slow
def test_a_job_gives_the_same_whatever_it_is_trained_beside():
    setting = token_setting(locations=3, tokens=12, patterns=4, fixed=2, redrawn=1)
    recipe = nonlinearity.Recipe(batch_size=4)
    jobs = [
        Job(Cell(2, 1, "ReLU"), Condition()),
        Job(Cell(1, 2, "NoBN"), Condition(batch_norm=False, scales=(2.0,) * 12)),
    ]
    together = train_jobs(jobs, range(3, 5), setting, recipe, steps=4)
    # Other company and other places, but the same program.
    others = [jobs[1], Job(Cell(1, 2, "BN"), Condition(linear=True))]
    again = train_jobs(others, range(4, 6), setting, recipe, steps=4)
    np.testing.assert_allclose(
        together[jobs[1]].quality[:, 1], again[jobs[1]].quality[:, 0], atol=1e-5
    )
    assert together[jobs[0]].cosines.shape == (2, 3, 2, 12)
    assert together[jobs[0]].relevant.sum(axis=1).max() <= 2


@pytest.mark.slow
def test_tables_are_trained_shown_and_written(tmp_path, capsys):
    values = parsed(nonlinearity, tmp_path, "--per_location=1", "--betas=1")
    nonlinearity.run(values)
    shown = capsys.readouterr().out
    for name in TABLES:
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        assert (tmp_path / f"{name}-filters.png").stat().st_size > 10_000
        assert f"our {name} in the slide's layout" in shown
    assert "P=1 β=1 ReLU" in shown
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["settings"]["steps"] == 4
    assert len(written["checks"]["T2"]) == 2
    assert [check["name"] for check in written["checks"]["T2, claims"]] == [
        "BatchNorm hurts with one pattern: P=1 β=1, NoBN − BN"
    ]
    cell = written["results"]["T3"]["cells"]["P=1 β=1 Linear"]
    assert cell["steps"] == [0, 4]
    assert np.shape(cell["quality"]) == (2, 2)
    # T1 and T3 start from the same weights and part with the loss.
    other = written["results"]["T1"]["cells"]["P=1 β=1 Linear"]["quality"]
    assert cell["quality"][0] == other[0]
    assert cell["quality"][1] != other[1]


def test_quick_runs_a_few_cells():
    cells = nonlinearity.cells_of("T2", nonlinearity.chosen(True, ["1"], ["1"]))
    assert len(cells) == 8
    assert {cell.column for cell in cells} == {"NoBN", "BN"}
    assert nonlinearity.chosen(False, ["1", "3"], ["2"]) == [(1, 2), (3, 2)]


def test_conditions_of_the_tables():
    def of(table, column):
        return nonlinearity.condition_of(table, column, tokens=4, zeta=4.0, learning_rate=0.1)

    assert of("T1", "Linear") == Condition(linear=True, learning_rate=0.1)
    assert of("T3", "ReLU") == Condition(learning_rate=0.1)
    for column in ("BN", "NoBN"):
        condition = of("T2", column)
        assert condition.batch_norm == (column == "BN")
        assert condition.scales == (0.25, 0.25, 4.0, 4.0)
        assert not condition.linear


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fixed=4"], r"--fixed=4 locations cannot be fixed in sequences of locations=3"),
        (["--tokens=9"], r"--per_location=10 tokens cannot be chosen of tokens=9"),
        (["--fixed=0"], r"--fixed=0 leaves no token to be found"),
        (["--learning_rate=0"], r"--learning_rate=0 must be above 0"),
        (["--learning_rate=nan"], r"--learning_rate=nan must be above 0"),
        (["--zeta=0", "--table=T2"], r"--zeta=0 is no scale"),
        (["--batch_size=1"], r"--batch_size=1 has no negatives"),
        (["--num_seeds=0"], r"--num_seeds=0 trains nothing"),
        (["--steps=0"], r"--steps=0 trains nothing"),
        (["--dim=-1"], r"--dim=-1"),
        (["--betas=3"], r"--betas=3: the published tables have 1, 2, 5, 10"),
        (["--per_location="], r"--per_location=: the published tables have 1, 3, 5, 10"),
    ],
)
def test_impossible_settings_name_the_flag(tmp_path, arguments, message):
    values = parsed(nonlinearity, tmp_path, *arguments)
    with pytest.raises(RunError, match=message), plain_errors(values):
        nonlinearity.run(values)


def test_the_comparison_is_refused_before_training_where_its_cell_cannot_be(tmp_path):
    arguments = ["--compare_torch", "--tokens=4", "--per_location=1"]
    with pytest.raises(RunError, match=r"--compare_torch trains a cell with P=5, .* --tokens=4"):
        nonlinearity.run(parsed(nonlinearity, tmp_path, *arguments))


@pytest.mark.slow
def test_training_that_diverges_is_said_to(tmp_path):
    arguments = ["--table=T3", "--per_location=1", "--betas=1", "--learning_rate=1e38"]
    with pytest.raises(RunError, match=r"weights became NaN in P=1 β=1 .*lower --learning_rate"):
        nonlinearity.run(parsed(nonlinearity, tmp_path, *arguments))


def test_the_comparison_names_the_extra_where_torch_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "experiments.theory.nonlinearity_torch", raising=False)
    with pytest.raises(RunError, match=r"pip install -e '\.\[bench\]'"):
        nonlinearity.run(parsed(nonlinearity, tmp_path, "--compare_torch"))


@pytest.mark.slow
def test_the_comparison_trains_the_same_cell(tmp_path, capsys, monkeypatch):
    calls = []

    def loop(setting, recipe, **options):
        calls.append((setting.locations, recipe.batch_size, options))
        return 0.25

    monkeypatch.setattr(nonlinearity, "_torch_loop", lambda setting: loop)
    arguments = ["--table=T1", "--per_location=5", "--betas=2", "--compare_torch", "--seed=3"]
    arguments += ["--num_seeds=1"]
    nonlinearity.run(parsed(nonlinearity, tmp_path, *arguments))
    assert calls == [
        (3, 4, {"per_location": 5, "filters": 10, "steps": 4, "learning_rate": 0.02, "seed": 3})
    ]
    assert "PyTorch loop" in capsys.readouterr().out
    written = json.loads((tmp_path / "results.json").read_text())["results"]["beside PyTorch"]
    assert written["PyTorch loop"]["quality"] == 0.25


@pytest.mark.slow
def test_the_search_ranks_readings(tmp_path, capsys):
    arguments = ["--cells=1:1", "--learning_rates=0.02,0.1"]
    arguments += ["--reading=half 1/ζ, half ζ", "--reading=graded 1 to ζ"]
    nonlinearity_search.run(parsed(nonlinearity_search, tmp_path, *arguments))
    shown = capsys.readouterr().out
    # Without BatchNorm its variance is no choice: 2 readings × 2 rates × (2 + 1).
    assert "12 cells, 2 seed(s)" in shown
    written = json.loads((tmp_path / "results.json").read_text())
    ranking = written["results"]["ranking"]
    assert len(ranking) == len(written["checks"]) == 8
    keys = [(-of["within"], of["distance"]) for of in ranking]
    assert keys == sorted(keys)
    assert f"best: {ranking[0]['reading']}" in shown
    assert_picture(tmp_path / "search.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells=1:3"], r"--cells=1:3: T2 has 1:1, "),
        (["--zeta=-1"], r"--zeta=-1 is no scale"),
        (["--learning_rates=0.1,x"], r"--learning_rates: 'x' is no finite number above 0"),
        (["--learning_rates=inf"], r"--learning_rates: 'inf' is no finite number above 0"),
    ],
)
def test_the_search_refuses(tmp_path, arguments, message):
    values = parsed(nonlinearity_search, tmp_path, *arguments)
    with pytest.raises(RunError, match=message), plain_errors(values):
        nonlinearity_search.run(values)
