"""Positives of each rule: who they are, how often, never across recordings; what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.data.positives import (
    Positives,
    draw_across,
    draw_moments,
    drawn_from,
    drawn_from_sessions,
)
from alphacl_jax.data.sequences import recordings_from_arrays
from alphacl_jax.errors import ArgumentError

LENGTHS = (30, 4, 25, 9)
BEFORE, AFTER = 2, 3
MANY = 6000
STARTS = np.cumsum(LENGTHS) - LENGTHS
RECORDING = np.repeat(np.arange(4), LENGTHS)


def _recordings(dims=1, seed=0, labels=True, context=True):
    rng = np.random.default_rng(seed)
    signals = [rng.normal(size=(length, 2)) for length in LENGTHS]
    beside = [np.cumsum(rng.normal(size=(length, dims)), axis=0) for length in LENGTHS]
    of_moments = [rng.integers(-1, 3, length) for length in LENGTHS]
    return recordings_from_arrays(
        signals,
        moment_labels=of_moments if labels else None,
        context=beside if context else None,
    )


def _valid():
    """Moments with a whole window, by a loop."""
    found = []
    for start, length in zip(STARTS, LENGTHS, strict=True):
        found += [start + t for t in range(length) if t - BEFORE >= 0 and t + AFTER <= length]
    return np.array(found)


@functools.cache
def _draw(positives):
    return jax.jit(lambda key, arrays: draw_moments(key, arrays, positives, MANY))


def _drawn(recordings, positives, key=0):
    arrays = drawn_from(recordings, positives, BEFORE, AFTER)
    found = _draw(positives)(jax.random.key(key), arrays)
    return {name: np.asarray(moments) for name, moments in found.items()}


def _require_even(moments, expected):
    """Each of the expected moments is drawn, all alike: within six standard deviations."""
    values, counts = np.unique(moments, return_counts=True)
    np.testing.assert_array_equal(values, expected)
    mean = len(moments) / len(expected)
    assert np.all(np.abs(counts - mean) < 6 * np.sqrt(mean))


ALL_RULES = [
    Positives("time", offset=3),
    Positives("label"),
    Positives("label", prior="uniform", hybrid=True, offset=2),
    Positives("time_delta", offset=2),
    Positives("gaussian", spread=0.5, hybrid=True),
    Positives("time_delta", within_labels=True),
]


@pytest.mark.parametrize("positives", ALL_RULES)
def test_all_moments_have_whole_windows_and_negatives_are_drawn_alike(positives):
    drawn = _drawn(_recordings(), positives)
    names = {"reference", "positive", "negative"} | ({"later"} if positives.hybrid else set())
    assert drawn.keys() == names
    for moments in drawn.values():
        assert moments.dtype == np.int32
        assert np.isin(moments, _valid()).all()
    _require_even(drawn["negative"], _valid())
    # Negatives have nothing to do with the references beside them: covariance of independent draws.
    reference, negative = drawn["reference"] - 30.0, drawn["negative"] - 30.0
    assert abs(np.corrcoef(reference, negative)[0, 1]) < 6 / np.sqrt(MANY)


@pytest.mark.parametrize("offset", [1, 3, 12])
def test_in_time_a_positive_is_the_offset_later_in_its_recording(offset):
    drawn = _drawn(_recordings(labels=False, context=False), Positives("time", offset=offset))
    reference, positive = drawn["reference"], drawn["positive"]
    np.testing.assert_array_equal(positive, reference + offset)
    np.testing.assert_array_equal(RECORDING[positive], RECORDING[reference])
    valid = _valid()
    expected = [t for t in valid if t + offset in valid and RECORDING[t] == RECORDING[t + offset]]
    _require_even(reference, expected)


def test_of_a_label_references_and_positives_are_drawn_alike():
    recordings = _recordings()
    drawn = _drawn(recordings, Positives("label"))
    label = recordings.moment_labels
    known = np.array([t for t in _valid() if label[t] >= 0])
    _require_even(drawn["reference"], known)
    np.testing.assert_array_equal(label[drawn["reference"]], label[drawn["positive"]])
    for one in range(3):
        of_one = drawn["positive"][label[drawn["reference"]] == one]
        _require_even(of_one, known[label[known] == one])


def test_a_uniform_prior_draws_all_labels_alike():
    labels = [np.repeat([0, 1], [24, 6]), np.zeros(4, int), np.zeros(25, int), np.zeros(9, int)]
    recordings = recordings_from_arrays([np.zeros((n, 1)) for n in LENGTHS], moment_labels=labels)
    of = {
        prior: recordings.moment_labels[
            _drawn(recordings, Positives("label", prior=prior))["reference"]
        ]
        for prior in ("empirical", "uniform")
    }
    label = recordings.moment_labels[_valid()]
    for prior, share in (("empirical", label.mean()), ("uniform", 0.5)):
        assert abs(of[prior].mean() - share) < 6 * np.sqrt(share * (1 - share) / MANY)


def test_hybrid_rules_have_a_positive_in_time_besides():
    drawn = _drawn(_recordings(), Positives("gaussian", spread=0.5, offset=2, hybrid=True))
    np.testing.assert_array_equal(drawn["later"], drawn["reference"] + 2)
    np.testing.assert_array_equal(RECORDING[drawn["later"]], RECORDING[drawn["reference"]])


def test_a_label_that_one_moment_has_is_as_if_unknown():
    labels = [np.zeros(n, int) for n in LENGTHS]
    labels[0][10] = 1
    labels[2][12:14] = 2
    recordings = recordings_from_arrays([np.zeros((n, 1)) for n in LENGTHS], moment_labels=labels)
    drawn = _drawn(recordings, Positives("label"))
    assert 10 not in drawn["reference"]
    assert 10 not in drawn["positive"]
    assert 10 in drawn["negative"]
    assert {STARTS[2] + 12, STARTS[2] + 13} <= set(drawn["reference"])


def _nearest_by_loop(context, candidates, query):
    distances = ((context[candidates].astype(np.float64) - query) ** 2).sum(axis=1)
    return candidates[distances <= distances.min() * (1 + 1e-5)]


def _reachable(recordings, positives, reference):
    """All positives of a reference that the time-delta rule can make, by loops."""
    context, label = recordings.context, recordings.moment_labels
    candidates = _valid()
    if positives.within_labels:
        candidates = candidates[label[candidates] == label[reference]]
    found = set()
    for s in range(positives.offset, len(context)):
        if RECORDING[s] == RECORDING[s - positives.offset]:
            query = context[reference] + (context[s] - context[s - positives.offset])
            found |= set(_nearest_by_loop(context, candidates, query).tolist())
    return found


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("dims", [1, 2])
def test_by_time_delta_a_positive_is_nearest_to_a_change_that_happened(dims, within):
    recordings = _recordings(dims)
    positives = Positives("time_delta", offset=2, within_labels=within)
    drawn = _drawn(recordings, positives)
    known = _valid() if not within else [t for t in _valid() if recordings.moment_labels[t] >= 0]
    _require_even(drawn["reference"], known)
    for reference in (20, STARTS[2] + 5):
        if reference not in drawn["reference"]:
            continue
        found = set(drawn["positive"][drawn["reference"] == reference].tolist())
        possible = _reachable(recordings, positives, reference)
        assert found <= possible
        # About a hundred draws of some fifty changes reach most of what can be reached.
        assert len(found) > len(possible) / 2


def test_gaussian_positives_are_as_far_as_the_spread():
    context = np.linspace(0, 1, 2001)[:, None]
    recordings = recordings_from_arrays(np.zeros((2001, 1)), context=context)
    arrays = drawn_from(recordings, Positives("gaussian", spread=0.02), 0, 1)
    drawn = draw_moments(jax.random.key(0), arrays, Positives("gaussian", spread=0.02), MANY)
    steps = (context[drawn["positive"]] - context[drawn["reference"]])[:, 0]
    inside = np.abs(np.asarray(context)[drawn["reference"]][:, 0] - 0.5) < 0.4
    # The standard error of a deviation of normal numbers is σ/√(2n).
    assert abs(steps[inside].std() - 0.02) < 6 * 0.02 / np.sqrt(2 * inside.sum())
    assert abs(steps[inside].mean()) < 6 * 0.02 / np.sqrt(inside.sum())


def _two_sessions():
    rng = np.random.default_rng(3)
    made = []
    for length, names in ((50, np.array(["b", "a", "c"])), (70, np.array(["c", "d", "a"]))):
        labels = names[rng.integers(0, 3, length)]
        made.append(
            recordings_from_arrays(
                rng.normal(size=(length, 2)),
                moment_labels=labels,
                context=np.cumsum(rng.normal(size=(length, 1)), axis=0),
            )
        )
    return made


@pytest.mark.parametrize("rule", ["label", "gaussian"])
def test_across_sessions_a_positive_is_of_any_of_them(rule):
    sessions = _two_sessions()
    positives = Positives(rule, spread=1e-6) if rule == "gaussian" else Positives(rule)
    arrays = drawn_from_sessions(sessions, positives, 1, 1)
    drawn, partner = draw_across(jax.random.key(0), arrays, positives, 500)
    assert np.array_equal(np.sort(partner), np.arange(1000))
    place = np.asarray(partner).reshape(2, 500)
    of_session, row = place // 500, place % 500
    # A half of the positives are of the other session: within six standard deviations.
    crossed = (of_session != np.arange(2)[:, None]).sum(axis=1)
    assert np.all(np.abs(crossed - 250) < 6 * np.sqrt(125))
    for i in range(2):
        for j in range(500):
            other = sessions[of_session[i, j]]
            positive = int(drawn[of_session[i, j]]["positive"][row[i, j]])
            reference = int(drawn[i]["reference"][j])
            if rule == "label":
                names = [
                    s.moment_names[s.moment_labels[t]]
                    for s, t in ((sessions[i], reference), (other, positive))
                ]
                assert names[0] == names[1] in {"a", "c"}
            else:
                candidates = np.arange(1, len(other.signal))
                query = sessions[i].context[reference].astype(np.float64)
                assert positive in _nearest_within(other.context, candidates, query, 1e-5)


def _nearest_within(context, candidates, query, tolerance):
    distances = np.abs(context[candidates, 0].astype(np.float64) - query)
    return candidates[distances <= distances.min() + tolerance]


def test_one_session_needs_no_partner():
    positives = Positives("label")
    arrays = drawn_from(_recordings(), positives, BEFORE, AFTER)
    (drawn,), partner = draw_across(jax.random.key(5), [arrays], positives, 40)
    np.testing.assert_array_equal(partner, np.arange(40))
    alone = draw_moments(jax.random.key(5), arrays, positives, 40)
    for name in alone:
        np.testing.assert_array_equal(alone[name], drawn[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "nearby"}, "rule='nearby' must be one of time, label, time_delta, gaussian"),
        ({"prior": "flat"}, "prior='flat' must be one of empirical, uniform"),
        ({"offset": 0}, "offset=0 must be at least 1, the next moment"),
        ({"spread": 0.0}, "spread=0.0 must be a number above 0"),
        ({"spread": float("nan")}, "spread=nan must be a number above 0"),
        ({"prior": "uniform"}, "prior='uniform' is read by the rule 'label' alone"),
        ({"within_labels": True}, "is read by the rules time_delta and gaussian alone"),
        ({"hybrid": True}, "hybrid=True adds positives in time, and the rule 'time' is that"),
    ],
)
def test_rules_that_are_none(options, message):
    with pytest.raises(ArgumentError, match=message):
        Positives(**options)


@pytest.mark.parametrize(
    ("recordings", "positives", "message"),
    [
        ({"labels": False}, Positives("label"), "labels=None of moments are read by the rule"),
        ({"context": False}, Positives("gaussian"), "context=None is read by the rule"),
        ({}, Positives("time", offset=29), "offset=29 leaves no moment with a whole window"),
        ({}, Positives("time_delta", offset=30), "offset=30 is longer than all recordings"),
        ({}, Positives("label", offset=40, hybrid=True), "offset=40 leaves no moment"),
    ],
)
def test_recordings_that_a_rule_cannot_be_used_on(recordings, positives, message):
    with pytest.raises(ArgumentError, match=message):
        drawn_from(_recordings(**recordings), positives, BEFORE, AFTER)


def test_windows_longer_than_all_recordings():
    with pytest.raises(ArgumentError, match="window=60 is longer than all recordings"):
        drawn_from(_recordings(), Positives(), 30, 30)


def test_labels_of_which_none_has_two_moments():
    recordings = recordings_from_arrays(np.zeros((4, 1)), moment_labels=np.arange(4))
    with pytest.raises(ArgumentError, match="no label has two moments with a whole window"):
        drawn_from(recordings, Positives("label"), 0, 1)


def test_sessions_that_have_nothing_in_common():
    first, second = _two_sessions()
    with pytest.raises(ArgumentError, match="rule='time' brings no sessions together"):
        drawn_from_sessions([first, second], Positives("time"), 1, 1)
    other = recordings_from_arrays(np.zeros((9, 1)), moment_labels=np.repeat(["x", "y", "z"], 3))
    with pytest.raises(ArgumentError, match="are of no class that all sessions have"):
        drawn_from_sessions([first, other], Positives("label"), 1, 1)
    flat = recordings_from_arrays(np.zeros((9, 1)), context=np.zeros((9, 2)))
    with pytest.raises(ArgumentError, match="context=1, 2 must be the number of dimensions"):
        drawn_from_sessions([first, flat], Positives("gaussian"), 1, 1)


def test_a_draw_repeats_by_its_key():
    one, same, other = (_drawn(_recordings(), Positives("time_delta"), key) for key in (0, 0, 1))
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
        assert not np.array_equal(one[name], other[name])
    assert jnp.asarray(one["reference"]).dtype == jnp.int32
