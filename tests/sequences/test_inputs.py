"""Inputs: what becomes of signals, contexts, sessions and trials, and a message for each fault."""

import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from alphacl_jax.sequences.fitting import pose
from alphacl_jax.sequences.inputs import is_list_of_sessions, read_inputs
from alphacl_jax.sequences.settings import Settings
from tests.sequences.tiny import CHANNELS, CONTEXT, GROUPS, LABELS, OTHER, TIME, X, tiny

WORDS = np.array(["down", "up"])[LABELS]


def _pose(X, *contexts, groups=None, **parameters):
    return pose(Settings.of(tiny(**parameters).get_params()), X, contexts, groups)


def test_an_array_is_one_session():
    given = read_inputs(X, (CONTEXT, None, WORDS), None)
    (session,) = given.sessions
    assert (given.are_listed, given.channels, len(session)) == (False, (CHANNELS,), 1)
    np.testing.assert_array_equal(session.signal, X.astype(np.float32))
    np.testing.assert_array_equal(session.context, CONTEXT.astype(np.float32))
    np.testing.assert_array_equal(session.moment_labels, LABELS)
    assert session.moment_names == ("down", "up")
    assert session.signal.dtype == np.float32


def test_contexts_of_floats_stand_beside_each_other():
    (session,) = read_inputs(X.tolist(), (CONTEXT, CONTEXT[:, 0].tolist()), None).sessions
    expected = np.column_stack([CONTEXT, CONTEXT[:, 0]]).astype(np.float32)
    np.testing.assert_array_equal(session.context, expected)


@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS[:, None], LABELS.astype(bool), LABELS.astype(np.uint8), WORDS.astype(object)],
)
def test_labels_are_whole_numbers_or_words(labels):
    given = read_inputs(X, (labels,), None)
    assert (given.has_labels, given.has_context) == (True, False)
    np.testing.assert_array_equal(given.sessions[0].moment_labels, LABELS)


def test_unknown_labels_stay_unknown():
    labels = np.where(np.arange(TIME) < 10, -1, LABELS)
    (session,) = read_inputs(X, (labels,), None).sessions
    np.testing.assert_array_equal(session.moment_labels, labels)


def test_groups_make_recordings_of_which_windows_are_whole():
    given, problem, (arrays,) = _pose(X, CONTEXT, groups=GROUPS)
    (session,) = given.sessions
    np.testing.assert_array_equal(session.lengths, [50, 30, 70])
    encoder = problem.encoder
    expected = [
        t
        for t in range(TIME)
        if t - encoder.before >= 0
        and t + encoder.after <= TIME
        and len(set(GROUPS[t - encoder.before : t + encoder.after])) == 1
    ]
    np.testing.assert_array_equal(np.sort(arrays["moments"]), expected)
    np.testing.assert_array_equal(arrays["negatives"], expected)


def test_sessions_are_lists_throughout():
    given = read_inputs([X, OTHER], ([LABELS, 1 - LABELS], [CONTEXT, CONTEXT]), [GROUPS, None])
    assert given.are_listed
    assert given.channels == (CHANNELS, 9)
    assert [len(session) for session in given.sessions] == [3, 1]
    np.testing.assert_array_equal(given.sessions[1].moment_labels, 1 - LABELS)


def test_time_reads_no_context():
    (given, problem, _) = _pose(X, "no context at all", positives="time")
    assert (given.has_labels, problem.positives.rule) == (False, "time")


def _with(value, moment=3, column=2):
    damaged = X.copy()
    damaged[moment, column] = value
    return damaged


@pytest.mark.parametrize(
    ("signal", "words"),
    [
        (X[:, 0], "Expected 2D array, got 1D"),
        (X[None], "dim 3"),
        (X[:0], r"0 sample\(s\)"),
        (X[:, :0], r"0 feature\(s\)"),
        (X.astype(complex), "Complex data not supported"),
        (WORDS[:, None], "Convert your data to numeric"),
        (_with(np.nan), r"1 values that are NaN, .* first nan at moment 3, column 2"),
        (_with(-np.inf), r"first -inf at moment 3, column 2"),
        (_with(1e16), r"beyond 1e\+15, the first 1e\+16 at moment 3"),
        ([X, _with(np.nan)], r"of session 1 has 1 values that are NaN"),
    ],
)
def test_a_signal_that_cannot_be_used(signal, words):
    with pytest.raises(ValueError, match=words):
        read_inputs(signal, (), None)


@pytest.mark.parametrize(
    ("context", "words"),
    [
        (CONTEXT[:-1], r"has shape \(149, 2\): .* as many moments as X, 150"),
        (CONTEXT[None], r"must be \[time\] or \[time, dims\]"),
        (3.0, r"has shape \(\)"),
        (CONTEXT[:, :0], r"has shape \(150, 0\)"),
        (np.where(LABELS, np.nan, CONTEXT[:, 0]), "values that are NaN"),
        (np.column_stack([LABELS, LABELS]), r"2 columns of whole numbers .* astype\(float\)"),
        (2 * LABELS - 1, r"numbers below 0, which stand for an unknown label, and 1 label"),
        (np.full(TIME, -1), r"and 0 label besides: number labels from 0 on"),
        (np.array([1, "a"] * (TIME // 2), object), "type object. Unknown label type"),
        (CONTEXT.astype(complex), "type complex128"),
    ],
)
def test_a_context_that_cannot_be_used(context, words):
    with pytest.raises(ArgumentError, match=words) as caught:
        read_inputs(X, (context,), None)
    assert caught.value.argument == "context"


def test_two_contexts_of_labels_are_to_be_combined():
    with pytest.raises(ArgumentError, match=r"context=2 arrays .* Number their combinations"):
        read_inputs(X, (LABELS, WORDS), None)


@pytest.mark.parametrize(
    ("contexts", "groups", "words"),
    [
        ((CONTEXT,), None, "context=.* must be a list of 2 arrays, one for each session"),
        (([CONTEXT],), None, "context=<list of 1> must be a list of 2 arrays"),
        (([CONTEXT, CONTEXT[1:]],), None, "of session 1 has shape"),
        (([CONTEXT, LABELS],), None, "of session 1 is of other kinds"),
        ((), GROUPS, "groups=.* must be a list of 2 arrays"),
        ((), [GROUPS, GROUPS[1:]], "groups=.* has 149 moments, and what it cuts has 150"),
    ],
)
def test_what_does_not_fit_sessions(contexts, groups, words):
    with pytest.raises(ArgumentError, match=words):
        read_inputs([X, OTHER], contexts, groups)


@pytest.mark.parametrize(
    ("name", "words", "given", "parameters"),
    [
        ("X", "at most 4 samples .* receptive_field=5", (X[:4],), {}),
        ("X", "at most 1 sample ", (X[:1],), {"receptive_field": 1}),
        ("X", "of session 1 has at most 2 samples", ([X, OTHER[:2]], [CONTEXT, CONTEXT[:2]]), {}),
        ("time_offset", "leaves no moment", (X,), {"time_offset": 147}),
        ("time_offset", "longer than all recordings", (X, CONTEXT), {"time_offset": 150}),
        ("positives", "brings no sessions together", ([X, OTHER],), {}),
        ("context", "no label has two moments", (X, np.arange(TIME)), {}),
        ("context", "are of no class that all", ([X, OTHER], [LABELS, LABELS + 2]), {}),
        ("context", "of dimensions", ([X, OTHER], [CONTEXT, CONTEXT[:, :1]]), {}),
    ],
)
def test_data_that_leave_nothing_to_draw_from(name, words, given, parameters):
    with pytest.raises(ArgumentError, match=words) as caught:
        _pose(*given, **parameters)
    assert caught.value.argument == name


def test_lists_of_arrays_are_sessions_or_the_rows_of_one():
    flat = X[:, 0]
    assert not is_list_of_sessions(list(X))
    assert not is_list_of_sessions(X.tolist())
    for sessions in ([X, X], [X.tolist(), X.tolist()], [X, flat], [flat, X], [flat, flat[:3]]):
        assert is_list_of_sessions(sessions)


@pytest.mark.parametrize(("sessions", "number"), [((0, 1), 0), ((2, 0), 1)])
def test_a_session_of_one_axis(sessions, number):
    given = [X[:, 0], X[:3, 0], X]
    words = rf"of session {number} must be \[time, channels\]"
    with pytest.raises(ArgumentError, match=words):
        read_inputs([given[i] for i in sessions], (), None)


def test_differences_that_float32_does_not_hold_are_refused():
    points = 1.7e9 + np.arange(len(X)) * 0.025
    with pytest.raises(ArgumentError, match=r"varies by .* in column 0, around 1.7e\+09.* mean"):
        read_inputs(X, (points,), None)
    with pytest.raises(ArgumentError, match=r"X=.* in column 1, .*subtract the mean"):
        read_inputs(X + np.array([0, 1e9, *[0] * (X.shape[1] - 2)]), (), None)
    centred = read_inputs(X, (points - points.mean(),), None)
    assert len(np.unique(centred.sessions[0].context)) == len(X)
    # What is constant, or a whole number that float32 has, loses nothing.
    read_inputs(X, (np.full(len(X), 1.7e9 + 0.3), 2.0**24 + 2 * np.arange(len(X))), None)
