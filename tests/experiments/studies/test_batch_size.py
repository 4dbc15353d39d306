"""The study of batch size: its runs, what follows from their settings, its claims, its files."""

import math

import pytest
from absl import flags

from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.flag_file import from_mapping
from alphacl_jax.runs.methods import check_batch_size
from alphacl_jax.runs.settings import OptimizerSettings
from experiments.studies import batch_size as study
from experiments.studies.choosing import RATE
from experiments.studies.shared_flags import define_study_flags
from experiments.studies.study import UNTRAINED, Study
from tests.experiments.studies.made_up import cell as made_cell
from tests.experiments.studies.made_up import cells_with, run_quick
from tests.tiny_runs import assert_picture

OWN = study.BatchSettings()


def test_every_run_is_possible():
    batches, queues = study.variants(OWN, OptimizerSettings()).values()
    for variant in (*batches.values(), *queues.values()):
        check_batch_size(from_mapping(variant.settings))
    made = from_mapping(queues["queue of 512 at batch 64"].settings)
    assert (made.method.queue_size, made.optimizer.batch_size) == (512, 64)
    rates = [from_mapping(v.settings).optimizer.learning_rate for v in queues.values()]
    assert rates == [pytest.approx(2e-3 / math.sqrt(2))] * 3
    made = from_mapping(batches["batch 512"].settings)
    assert made.optimizer.learning_rate == pytest.approx(4e-3)


@pytest.mark.parametrize(
    ("optimizer", "rate"), [("adamw", 0.2), ("adam", 0.2), ("sgd", 0.4), ("lars", 0.4)]
)
def test_the_rate_grows_with_the_batch_as_its_optimizer_asks(optimizer, rate):
    assert study.scaled_rate(0.1, 512, optimizer) == pytest.approx(rate)
    assert study.scaled_rate(0.1, 128, optimizer) == 0.1


def test_a_queue_that_batches_do_not_fill_is_refused():
    with pytest.raises(ArgumentError, match=r"queues=100,200 must be multiples of 32, the keys"):
        study.BatchSettings(queue_batch=16, queues=(64, 100, 200))


def test_negatives_and_the_bound_s_slack_follow_from_the_settings():
    key = study.BOUND.key
    of_batch = {"settings": {"batch_size": 64, "learning_rate": 1.0}, key: 3.0}
    settings = {"batch_size": 64, "queue_size": 2048, "learning_rate": 1.0}
    of_queue = {"settings": settings, "diverged": True}
    one, two = study.with_negatives([of_batch, of_queue])
    assert (one["negatives"], two["negatives"]) == (126, 2048)
    assert one["log_n"] == math.log(127)
    assert two["log_n"] == math.log(2049)


def make_study(folder, *arguments):
    values = flags.FlagValues()
    varies = ("batch_size", RATE)
    define_study_flags(values, "batch_size", varies, own=study.OWN)
    values(["script", "--quick", f"--output={folder}", *arguments])
    return Study(values, varies, study.OWN)


def curves_with(accuracies):
    few, many = (cells_with(a) for a in accuracies)
    rows = {"few": few, "middle": cells_with(0.9), "many": many}
    return {"batch": rows, "queue": rows}


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [((0.2, 0.4), "holds"), ((0.4, 0.2), "does not hold"), ((0.3, 0.3), "not settled")],
)
def test_the_ends_of_each_curve_are_compared(accuracies, verdict):
    larger, more = study.claims(curves_with(accuracies))
    assert (larger.verdict, more.verdict) == (verdict, verdict)
    assert larger.text == "larger batches are better: many, over few"
    assert more.text == "more negatives are better: many, over few"


def test_a_curve_of_one_point_claims_nothing():
    rows = {"only": cells_with(0.2)}
    assert study.claims({"batch": rows, "queue": rows}) == []


def test_several_rates_are_tried_as_they_are_in_each_row(tmp_path, monkeypatch):
    asked = {}

    def rows(study, variants, measure=None):
        asked.setdefault(study.train[1].size, []).extend(variants)
        return {v.name: [made_cell(v.settings.get("learning_rate", 0.0))] for v in variants}

    monkeypatch.setattr(Study, "rows", rows)
    made = make_study(tmp_path, "--learning_rates=0.001,0.002")
    grid = study.variants(made.own, made.settings({}).optimizer)
    cells, columns, _ = study._trained(made, grid)
    names = [variant.name for of in grid.values() for variant in of.values()]
    assert set(cells) == {*names, UNTRAINED.name}
    assert [column.key for column in columns] == ["rate", "tried"]
    smaller, whole = sorted(asked)
    rates = {name: [] for name in names}
    for variant in asked[smaller]:
        rates[variant.name.partition(", learning rate")[0]].append(
            variant.settings["learning_rate"]
        )
    assert all(tried == [0.001, 0.002] for tried in rates.values())
    trained = [v for v in asked[whole] if v.kind == "trained"]
    assert [v.settings["learning_rate"] for v in trained] == [0.002] * len(names)  # the best above


def test_a_batch_that_the_images_that_are_not_held_out_do_not_fill_is_refused(tmp_path):
    given = ["--batches=16,240", "--queues=32"]
    message = "batches=240 is more than the training images that are not held out, 205"
    with pytest.raises(ArgumentError, match=message):
        study.run(make_study(tmp_path, *given, "--learning_rates=0.001,0.002"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_quick(tmp_path):
    out, _, written = run_quick("batch_size", tmp_path, "--batches=32,16", "--queues=64")
    lines = out.splitlines()
    rows = [line for line in lines if line.startswith(("batch ", "queue "))]
    assert [row.partition("  ")[0] for row in rows] == [
        "batch 16", "batch 32", "queue of 64 at batch 16",
    ]  # fmt: skip
    # Negatives, steps, the rate as a multiple of 1e-3.
    assert [row[len("queue of 64 at batch 16") :].split()[:3] for row in rows] == [
        ["30", "16", "0.71"], ["62", "8", "1.00"], ["64", "16", "0.71"],
    ]  # fmt: skip
    trained = [cell for cell in written["cells"] if cell["kind"] == "trained"]
    for cell in study.with_negatives(trained):
        assert cell[study.BOUND.key] <= cell["log_n"]
    for name in ("accuracy.png", "bound.png"):
        assert_picture(tmp_path / name)


@pytest.mark.slow
def test_a_batch_larger_than_the_data_is_refused_before_training(tmp_path):
    with pytest.raises(AssertionError, match="--batches=512 is more than the training images, 256"):
        run_quick("batch_size", tmp_path / "new", "--batches=32,512")
    assert not (tmp_path / "new" / "runs").exists()
