"""Recordings over time: what they hold, the windows that are cut of them, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphacl_jax.data.sequences import (
    cut_at,
    recordings_from_arrays,
    whole_windows,
    windows_at,
    with_borders,
)
from alphacl_jax.errors import ArgumentError

# Three recordings of 4, 2 and 5 moments, each value naming its recording, moment and channel.
LENGTHS = (4, 2, 5)
SIGNALS = [
    np.array([[100 * r + 10 * t + c for c in range(2)] for t in range(length)])
    for r, length in enumerate(LENGTHS)
]
MOMENTS = [["a", "a", "b", ""], ["b", "b"], ["c", "a", "a", "", "b"]]
CONTEXT = [np.linspace(r, r + 1, length) for r, length in enumerate(LENGTHS)]


def _all():
    return recordings_from_arrays(
        SIGNALS,
        names=["first", "second", "third"],
        labels=["dog", None, "cat"],
        moment_labels=MOMENTS,
        context=CONTEXT,
        rate=50.0,
    )


def test_recordings_lie_one_behind_the_other():
    found = _all()
    assert len(found) == 3
    assert (found.signal.dtype, found.signal.shape) == (np.float32, (11, 2))
    np.testing.assert_array_equal(found.signal, np.concatenate(SIGNALS))
    assert found.lengths.dtype == np.int64
    assert found.lengths.tolist() == [4, 2, 5]
    assert found.starts.tolist() == [0, 4, 6]
    assert found.recording.dtype == np.int32
    assert found.recording.tolist() == [0] * 4 + [1] * 2 + [2] * 5
    for number, signal in enumerate(SIGNALS):
        np.testing.assert_array_equal(found.of(number), signal)
    assert found.names == ("first", "second", "third")
    assert (found.labels.tolist(), found.class_names) == ([1, -1, 0], ("cat", "dog"))
    assert found.moment_names == ("a", "b", "c")
    assert found.moment_labels.tolist() == [0, 0, 1, -1, 1, 1, 2, 0, 0, -1, 1]
    assert (found.labels.dtype, found.moment_labels.dtype) == (np.int32, np.int32)
    assert (found.context.dtype, found.context.shape) == (np.float32, (11, 1))
    np.testing.assert_allclose(found.context[:, 0], np.concatenate(CONTEXT), rtol=1e-6)
    assert found.rate == 50


def test_what_is_not_given_is_unknown():
    found = recordings_from_arrays(SIGNALS)
    assert found.names == ("0", "1", "2")
    assert (found.labels.tolist(), found.class_names) == ([-1] * 3, ())
    assert (found.moment_labels.tolist(), found.moment_names) == ([-1] * 11, ())
    assert found.context.shape == (11, 0)
    assert found.rate is None


def test_numbers_are_classes_in_their_order_and_negative_ones_unknown():
    found = recordings_from_arrays(
        SIGNALS, labels=[10, None, 9], moment_labels=[[3] * 4, [-1, 5], [3, -7, 5, 5, 3]]
    )
    assert (found.labels.tolist(), found.class_names) == ([1, -1, 0], ("9", "10"))
    assert found.moment_names == ("3", "5")
    assert found.moment_labels.tolist() == [0, 0, 0, 0, -1, 1, 0, -1, 1, 1, 0]


def test_labels_that_are_all_unknown():
    for labels in ([None] * 3, [-1] * 3, [""] * 3):
        found = recordings_from_arrays(SIGNALS, labels=labels)
        assert (found.labels.tolist(), found.class_names) == ([-1] * 3, ())


@pytest.mark.parametrize(
    "one",
    [
        np.arange(6),
        np.arange(6).reshape(6, 1),
        jnp.arange(6),
        [0, 1, 2, 3, 4, 5],
        [[0], [1], [2], [3], [4], [5]],
        [np.arange(6)],
        [[[0], [1], [2], [3], [4], [5]]],
        np.arange(6).reshape(1, 6, 1),
    ],
)
def test_one_array_is_one_recording(one):
    found = recordings_from_arrays(one)
    assert found.lengths.tolist() == [6]
    np.testing.assert_array_equal(found.signal, np.arange(6)[:, None])


def test_labels_and_context_of_one_array_are_its_own():
    found = recordings_from_arrays(
        np.arange(3), moment_labels=["x", "", "y"], context=np.arange(6).reshape(3, 2), labels=["z"]
    )
    assert found.moment_labels.tolist() == [0, -1, 1]
    np.testing.assert_array_equal(found.context, [[0, 1], [2, 3], [4, 5]])
    assert found.class_names == ("z",)


def test_an_array_of_three_axes_is_recordings_of_one_length():
    assert recordings_from_arrays(np.zeros((4, 7, 2))).lengths.tolist() == [7] * 4


BAD = SIGNALS[2].astype(float)
BAD[3, 1] = np.nan
BAD[4, 0] = np.inf


@pytest.mark.parametrize(
    ("arguments", "argument", "message"),
    [
        ({"signals": []}, "signals", r"=\[\] hold no recording: at least one is needed"),
        ({"signals": [[]]}, "signals", r"of recording 0 has shape \(0, 1\): it must be"),
        ({"signals": 3.0}, "signals", r"of recording 0 has shape \(\): it must be"),
        ({"signals": np.zeros((0, 3))}, "signals", r"shape \(0, 3\): it must be \[time, columns\]"),
        ({"signals": [SIGNALS[0], SIGNALS[1][:, :0]]}, "signals", r"of recording 1 .* \(2, 0\)"),
        ({"signals": np.zeros((2, 3, 4, 5))}, "signals", r"of recording 0 has shape \(3, 4, 5\)"),
        ({"signals": [[1, 2], [3]]}, "signals", "of recording 0 has rows of different lengths"),
        ({"signals": [SIGNALS[0], ["a", "b"]]}, "signals", "of recording 1 has type <U1: it must"),
        ({"signals": np.zeros(3, complex)}, "signals", "has type complex128: it must hold numbers"),
        (
            {"signals": [SIGNALS[0], SIGNALS[1][:, 0]]},
            "signals",
            "of recording 1 has 1 columns, and the first recording 2",
        ),
        (
            {"signals": [SIGNALS[0], SIGNALS[1], BAD]},
            "signals",
            r"<array of shape \(5, 2\)> of recording 2 is nan at moment 3, column 1, as one of 2 "
            "such values: leave these moments out, and cut the recording there",
        ),
        ({"signals": np.array([1.0, 1e39])}, "signals", "of recording 0 is inf at moment 1, col"),
        ({"names": ["a"]}, "names", "has 1 entries, and there are 3 recordings"),
        ({"labels": ["a", "b"]}, "labels", "has 2 entries, and there are 3 recordings"),
        ({"labels": [0.5, 1.0, 2.0]}, "labels", "type float64: labels are whole numbers or words"),
        ({"moment_labels": [[1] * 4]}, "moment_labels", "has 1 entries, and there are 3"),
        (
            {"moment_labels": [[1] * 4, [1] * 3, [1] * 5]},
            "moment_labels",
            r"of recording 1 has shape \(3,\), and its signal 2",
        ),
        (
            {"moment_labels": [[1.5] * 4, [1] * 2, [1] * 5]},
            "moment_labels",
            "has type float64: labels are whole numbers or words",
        ),
        (
            {"moment_labels": [["a"] * 4, [-1] * 2, ["a"] * 5]},
            "moment_labels",
            "are words in some recordings and numbers in others",
        ),
        ({"context": CONTEXT[:2]}, "context", "has 2 entries, and there are 3 recordings"),
        (
            {"context": [CONTEXT[0], CONTEXT[0], CONTEXT[2]]},
            "context",
            "of recording 1 has 4 moments, and its signal 2",
        ),
        ({"context": [*CONTEXT[:2], BAD[:, 1]]}, "context", "of recording 2 is nan at moment 3"),
        ({"rate": 0}, "rate", "=0 must be a number of moments per second above 0"),
        ({"rate": -1.0}, "rate", "must be a number of moments per second above 0"),
        ({"rate": float("nan")}, "rate", "=nan must be a number of moments per second above 0"),
        ({"rate": float("inf")}, "rate", "=inf must be a number of moments per second above 0"),
    ],
)
def test_what_is_wrong_is_said(arguments, argument, message):
    with pytest.raises(ArgumentError, match=message) as error:
        recordings_from_arrays(**{"signals": SIGNALS, **arguments})
    assert error.value.argument == argument


def test_some_of_the_recordings_in_the_order_given():
    chosen = _all().select(iter([2, 0, 2]))
    assert chosen.names == ("third", "first", "third")
    assert chosen.lengths.tolist() == [5, 4, 5]
    for number, original in enumerate((2, 0, 2)):
        np.testing.assert_array_equal(chosen.of(number), SIGNALS[original])
    assert chosen.labels.tolist() == [0, 1, 0]
    assert chosen.class_names == ("cat", "dog")  # the numbers mean what they did
    assert chosen.moment_labels.tolist() == [2, 0, 0, -1, 1, 0, 0, 1, -1, 2, 0, 0, -1, 1]
    assert chosen.context.shape == (14, 1)
    np.testing.assert_allclose(chosen.context[5:9, 0], CONTEXT[0], rtol=1e-6)
    assert chosen.rate == 50


def test_none_of_the_recordings_is_refused():
    with pytest.raises(ArgumentError, match=r"numbers=\[\] name no recording: at least one"):
        _all().select([])


def test_cut_wherever_the_group_changes():
    groups = np.array([1, 1, 2, 1, 1, 1])
    signals, nothing, words = cut_at(groups, np.arange(12).reshape(6, 2), None, list("abcdef"))
    assert [len(signal) for signal in signals] == [2, 1, 3]  # 1 comes again: another recording
    np.testing.assert_array_equal(np.concatenate(signals), np.arange(12).reshape(6, 2))
    assert nothing is None
    assert [word.tolist() for word in words] == [["a", "b"], ["c"], ["d", "e", "f"]]
    assert recordings_from_arrays(signals, moment_labels=words).lengths.tolist() == [2, 1, 3]
    assert cut_at(["x"] * 3, np.arange(3))[0][0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], r"must be \[time\], one for each moment"),
        ([[1], [2]], r"must be \[time\], one for each moment"),
        ([1, 2], "has 2 moments, and what it cuts has 3"),
    ],
)
def test_groups_that_do_not_fit(groups, message):
    with pytest.raises(ArgumentError, match=message) as error:
        cut_at(groups, np.arange(3))
    assert error.value.argument == "groups"


spans = st.tuples(st.integers(0, 5), st.integers(1, 5))


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), span=spans)
def test_no_window_crosses_a_border_and_none_is_missing(lengths, span):
    before, after = span
    recording = np.repeat(np.arange(len(lengths)), lengths)
    wanted = [
        moment
        for moment in range(len(recording))
        if moment >= before
        and moment + after <= len(recording)
        and len(set(recording[moment - before : moment + after])) == 1
    ]
    if not wanted:
        with pytest.raises(ArgumentError, match="is longer than all recordings, of which"):
            whole_windows(np.array(lengths), before, after)
        return
    moments = whole_windows(np.array(lengths), before, after)
    assert moments.dtype == np.int32
    assert moments.tolist() == wanted


def test_a_window_longer_than_all_recordings_is_refused_with_the_longest():
    with pytest.raises(ArgumentError, match=r"^window=6 is longer .* the longest has 5 moments"):
        whole_windows(np.array(LENGTHS), 2, 4)


def test_windows_are_one_gather_in_a_compiled_program():
    signal = jnp.asarray(np.concatenate(SIGNALS), jnp.float32)
    moments = jnp.array([[1, 2], [7, 9]])
    compiled = jax.jit(windows_at, static_argnums=(2, 3))
    found = np.asarray(compiled(signal, moments, 1, 2))
    assert found.shape == (2, 2, 3, 2)
    for place, moment in np.ndenumerate(moments):
        np.testing.assert_array_equal(found[place], signal[moment - 1 : moment + 2])
    np.testing.assert_array_equal(found, windows_at(signal, moments, 1, 2))
    program = jax.make_jaxpr(compiled, static_argnums=(2, 3))(signal, moments, 1, 2)
    assert str(program).count(" gather[") == 1


@settings(deadline=None)
@given(length=st.integers(1, 6), span=spans)
def test_with_its_borders_a_recording_has_a_window_for_each_moment(length, span):
    before, after = span
    signal = np.arange(2.0 * length).reshape(length, 2)
    wide = with_borders(signal, before, after)
    assert len(wide) == length + before + after - 1
    moments = whole_windows(np.array([len(wide)]), before, after)
    cut = wide[np.add.outer(moments, np.arange(-before, after))]
    np.testing.assert_array_equal(cut[:, before], signal)  # its own moment is where it belongs
    np.testing.assert_array_equal(cut[0, :before], np.repeat(signal[:1], before, 0))
    np.testing.assert_array_equal(cut[-1, before + 1 :], np.repeat(signal[-1:], after - 1, 0))


@pytest.mark.parametrize("rate", ["40", True, -1.0, np.nan])
def test_rates_that_are_none(rate):
    with pytest.raises(ArgumentError, match=r"rate=.* must be a number of moments per second"):
        recordings_from_arrays([np.zeros((3, 1))], rate=rate)


def test_words_of_tables_and_truth_are_labels_of_moments():
    words = np.array(["b", "a", "b"], object)
    found = recordings_from_arrays([np.zeros((3, 1))], moment_labels=[words])
    assert found.moment_names == ("a", "b")
    truth = recordings_from_arrays([np.zeros((3, 1))], moment_labels=[[True, False, True]])
    np.testing.assert_array_equal(truth.moment_labels, [1, 0, 1])


def test_differences_that_float32_does_not_hold_are_refused():
    points = 1.7e9 + 0.025 * np.arange(1000)
    with pytest.raises(ArgumentError, match=r"of recording 1 varies by 7.22 in column 0, around"):
        recordings_from_arrays([np.zeros((3, 1)), points])
