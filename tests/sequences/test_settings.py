"""Parameters: what each may be, what NumPy's become, and the rule that follows from the data."""

import dataclasses

import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from alphacl_jax.sequences.settings import Settings
from tests.sequences.tiny import tiny

WRONG = {
    "positives": [("near", "must be one of auto, time, label, time_delta, gaussian")],
    "prior": [("flat", "must be one of empirical, uniform")],
    "receptive_field": [(3, "must be one of 1, 5, 10, 36"), (np.array([5]), "must be one of")],
    "similarity": [("dot", "must be one of cosine, euclidean"), (None, "must be one of")],
    "time_offset": [(0, "from 1 to"), (2**31, "from 1 to"), (1.0, "a whole number of at least 1")],
    "hidden_units": [(1, "from 2 to")],
    "output_dimension": [(0, "from 1 to"), (True, "a whole number of at least 1")],
    "batch_size": [(-1, "from 1 to")],
    "max_iterations": [(0, "from 1 to")],
    "random_state": [(None, "a whole number"), (-1, "from 0 to"), (2**32, "from 0 to 4294967295")],
    "spread": [(0, "a finite number > 0"), ("wide", "must be a number")],
    "temperature": [(0.0, "> 0"), (float("inf"), "> 0")],
    "min_temperature": [(-0.1, "> 0")],
    "learning_rate": [(float("nan"), "> 0")],
    "hybrid": [(1, "must be True or False")],
    "learned_temperature": [("yes", "must be True or False")],
    "verbose": [(None, "must be True or False")],
}


def _of(**parameters: object) -> Settings:
    return Settings.of(tiny(**parameters).get_params())


def test_every_parameter_has_a_wrong_value_here():
    assert WRONG.keys() == tiny().get_params().keys()
    assert [field.name for field in dataclasses.fields(Settings)] == list(tiny().__dict__)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [(name, value, words) for name, cases in WRONG.items() for value, words in cases],
)
def test_a_wrong_parameter_is_named(name, value, words):
    with pytest.raises(ArgumentError, match=words) as caught:
        _of(**{name: value})
    assert caught.value.argument == name


def test_a_learned_temperature_starts_above_its_floor():
    with pytest.raises(ArgumentError, match=r"min_temperature=2.0 is above temperature=1"):
        _of(learned_temperature=True, min_temperature=2.0)
    assert _of(min_temperature=2.0).compared_by.minimum is None  # nothing reads it
    assert _of(learned_temperature=True).compared_by.minimum == 0.1


def test_numbers_of_numpy_are_plain_ones():
    given = {"batch_size": np.int64(16), "learning_rate": np.float32(0.5), "hybrid": np.bool_(True)}
    found = _of(**given, positives=np.str_("label"), temperature=2)
    kinds = [type(getattr(found, name)) for name in (*given, "positives", "temperature")]
    assert kinds == [int, float, bool, str, float]
    assert hash(found) == hash(
        _of(batch_size=16, learning_rate=0.5, hybrid=True, positives="label", temperature=2.0)
    )


def test_auto_is_the_rule_of_what_is_there():
    def rule(**there: bool) -> tuple[str, bool]:
        found = _of().rule(**there)
        return found.rule, found.within_labels

    assert rule(has_labels=False, has_context=False) == ("time", False)
    assert rule(has_labels=True, has_context=False) == ("label", False)
    assert rule(has_labels=False, has_context=True) == ("time_delta", False)
    assert rule(has_labels=True, has_context=True) == ("time_delta", True)


def test_the_rule_has_the_parameters():
    positives = _of(positives="gaussian", time_offset=7, spread=0.3, hybrid=True)
    found = positives.rule(has_labels=True, has_context=True)
    assert (found.offset, found.spread, found.hybrid, found.within_labels) == (7, 0.3, True, True)
    labels = _of(prior="uniform").rule(has_labels=True, has_context=False)
    assert (labels.rule, labels.prior) == ("label", "uniform")


@pytest.mark.parametrize(
    ("rule", "has_labels", "has_context", "words"),
    [
        ("label", False, False, "reads a context of whole numbers or words"),
        ("label", True, True, "reads no context of floats"),
        ("time_delta", True, False, "reads a context of floats"),
        ("gaussian", False, False, "reads a context of floats"),
    ],
)
def test_a_rule_says_what_it_reads(rule, has_labels, has_context, words):
    with pytest.raises(ArgumentError, match=words) as caught:
        _of(positives=rule).rule(has_labels=has_labels, has_context=has_context)
    assert caught.value.argument == "positives"


@pytest.mark.parametrize(
    ("parameters", "name"), [({"prior": "uniform"}, "prior"), ({"hybrid": True}, "hybrid")]
)
def test_what_time_does_not_read_is_refused(parameters, name):
    with pytest.raises(ArgumentError) as caught:
        _of(**parameters).rule(has_labels=False, has_context=False)
    assert caught.value.argument == name
