"""Choosing a learning rate on held-out training images."""

import json
import math

import numpy as np
import pytest
from absl import flags

from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.errors import ArgumentError, RunError
from experiments.studies import choosing
from experiments.studies.own_flags import Own
from experiments.studies.report import Column, table_of
from experiments.studies.shared_flags import define_study_flags
from experiments.studies.study import CROSS_ENTROPY, PIXELS, UNTRAINED, Study, Variant
from tests.experiments.studies.made_up import cell

IMAGES = np.arange(20 * 4 * 4 * 3).reshape(20, 4, 4, 3).astype(np.uint8)
LABELS = np.arange(20) % 2
RATES = "--learning_rates=0.004,0.001,0.002"


def make_study(folder, *arguments):
    values = flags.FlagValues()
    varies, own = (choosing.RATE,), Own(choosing.RateSettings, {})
    define_study_flags(values, "some", varies, own=own)
    values(["script", "--quick", f"--output={folder}", *arguments])
    return Study(values, varies, own)


def test_a_fifth_is_held_out_always_the_same():
    dataset = dataset_from_arrays(IMAGES, LABELS, IMAGES[:2], LABELS[:2], ["a", "b"], "some")
    found = choosing.held_out(dataset, IMAGES, LABELS)
    parts = [found.train.source, found.test.source]
    assert [len(part.images) for part in parts] == [16, 4]
    together = np.concatenate([part.images for part in parts])
    assert {image.tobytes() for image in together} == {image.tobytes() for image in IMAGES}
    labelled = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    for part in parts:
        assert [labelled[image.tobytes()] for image in part.images] == part.labels.tolist()
    again = choosing.held_out(dataset, IMAGES, LABELS)
    np.testing.assert_array_equal(again.test.source.images, parts[1].images)
    assert (found.name, found.class_names) == ("some", ("a", "b"))


@pytest.mark.parametrize(
    ("scores", "rate", "tried"),
    [
        ([0.2, 0.4, 0.3], "0.002", "20.0 40.0 30.0"),
        ([0.5, 0.4, 0.3], "0.001*", "50.0 40.0 30.0"),
        ([0.2, 0.3, 0.3], "0.002", "20.0 30.0 30.0"),
        ([0.2, 0.3, 0.4], "0.004*", "20.0 30.0 40.0"),
        ([math.nan, 0.0, math.nan], "0.002", "diverged 0.0 diverged"),
        ([math.nan] * 3, "0.001*", "diverged diverged diverged"),
    ],
)
def test_the_best_rate_is_chosen_and_marked_at_an_end(scores, rate, tried):
    assert choosing.said_of([0.001, 0.002, 0.004], scores) == {"rate": rate, "tried": tried}


def test_the_table_shows_the_rate_as_it_is():
    said = choosing.said_of([0.001, 0.002], [0.5, 0.4])
    rows = {"one": [cell(0.5, **said)] * 2, "pixels": [cell(0.1)] * 2}
    lines = table_of(rows, (Column("rate", "rate"), Column("tried", "tried"))).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["rate", "tried"],
        ["one", "0.001*", "50.0", "40.0"],
        ["pixels", "-", "-"],
    ]


class Rows:
    """Stands in for `Study.rows`: accuracies by rate, and what was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, study, variants, measure=None):
        self.asked.append((study, [variant.name for variant in variants]))
        best = {"one": 0.002, "other": 0.004}
        return {
            v.name: [cell(1 - 100 * abs(best[v.name.split(",")[0]] - v.settings["learning_rate"]))]
            if v.settings
            else [cell(0.1)]
            for v in variants
        }


def test_each_row_is_trained_at_its_own_rate(tmp_path, monkeypatch):
    rows = Rows()
    monkeypatch.setattr(Study, "rows", lambda *arguments: rows(*arguments))
    study = make_study(tmp_path, RATES)
    variants = [Variant("one"), Variant("other", kind="cross_entropy"), PIXELS]
    found = choosing.rows_at_best_rates(study, variants)
    (smaller, tried), (own, trained) = rows.asked
    assert tried == [
        f"{name}, learning rate {rate}"
        for name in ("one", "other")
        for rate in ("0.001", "0.002", "0.004")
    ]
    assert trained == ["one, learning rate 0.002", "other, learning rate 0.004", "raw pixels"]
    assert own is study
    assert not set(smaller.seeds) & set(study.seeds)
    assert (len(smaller.train[1]), len(smaller.test[1])) == (205, 51)
    assert {name: cells[0].get("rate") for name, cells in found.rows.items()} == {
        "one": "0.002",
        "other": "0.004*",
        "raw pixels": None,
    }


def test_of_one_rate_nothing_is_chosen(tmp_path, monkeypatch):
    rows = Rows()
    monkeypatch.setattr(Study, "rows", lambda *arguments: rows(*arguments))
    study = make_study(tmp_path, "--learning_rates=0.003")
    found = choosing.rows_at_best_rates(study, [Variant("one"), PIXELS])
    assert [names for _, names in rows.asked] == [["one, learning rate 0.003", "raw pixels"]]
    assert found.columns == ()
    assert found.note.startswith("learning rate 0.003 in every row")


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ("0.1,high", "learning_rates=0.1,high must be numbers"),
        ("0.1,0", "learning_rates=0 is out of range"),
        ("0.1,0.1", "has a value twice"),
    ],
)
def test_rates_that_are_none(tmp_path, rates, message):
    with pytest.raises((ArgumentError, RunError), match=message):
        make_study(tmp_path, f"--learning_rates={rates}")


@pytest.mark.slow
def test_what_was_tried_and_chosen_is_in_the_cells(tmp_path):
    def found():
        study = make_study(tmp_path, RATES)
        chosen = choosing.rows_at_best_rates(study, [CROSS_ENTROPY, UNTRAINED, PIXELS])
        return chosen.rows, json.loads((tmp_path / "cells.json").read_text())["cells"]

    rows, cells = found()
    assert list(rows) == ["cross-entropy", "untrained encoder", "raw pixels"]
    *tried, own, untrained, pixels = cells
    rates = [c["settings"]["learning_rate"] for c in tried]
    assert rates == [0.001, 0.002, 0.004]
    assert all(c["images"] for c in tried)
    assert [c["images"] for c in (own, untrained, pixels)] == [None] * 3
    scores = [c["linear_all"] for c in tried]
    assert own["settings"]["learning_rate"] == rates[int(np.argmax(scores))]
    assert rows["cross-entropy"] == [{**own, **choosing.said_of(rates, scores)}]
    assert rows["untrained encoder"] == [untrained]
    assert found() == (rows, cells)  # nothing is computed again: the seconds are the same
