"""Legends list what can be seen, and nothing else."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.theory.legends import add_legend, seen


@pytest.fixture
def ax():
    axes = Figure().subplots()
    axes.plot([0, 1], [0, 1], label="diagonal")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return axes


@pytest.mark.parametrize(
    ("x", "y", "style", "visible"),
    [
        ([0.1, 0.9], [0.5, 0.6], "-", True),
        ([-1, 2], [0.5, 0.6], "-", True),  # through the axes, with both ends outside
        ([0.1, 0.9], [2, 3], "-", False),
        ([0.1, 0.9], [np.nan, np.nan], "-", False),
        ([0.1, 0.5, 0.9], [np.nan, 0.5, np.nan], "-", False),
        ([0.1, 0.5, 0.9], [np.nan, 0.5, np.nan], "o-", True),
        ([0.5], [0.5], "-", False),
        ([0.5, 0.5], [0.5, 0.5], "-", False),
        ([0.5], [0.5], "x", True),
        ([], [], "o", False),
        ([-1, 2], [0.5, 0.6], "o", False),
    ],
)
def test_what_can_be_seen(ax, x, y, style, visible):
    ax.plot(x, y, style, label="other")
    assert seen(ax)[1] == ["diagonal", *(["other"] if visible else [])]


def test_zeros_on_a_log_axis_are_not_seen():
    ax = Figure().subplots()
    ax.plot([0, 1], [1.0, 10.0], label="positive")
    ax.plot([0, 1], [0.0, 0.0], label="zero")
    for nonpositive in ("mask", "clip"):
        ax.set_yscale("log", nonpositive=nonpositive)
        assert seen(ax)[1] == ["positive"]


def test_a_line_under_another_is_named_with_it(ax):
    ax.plot([0, 1], [0.5, 0.5], label="under")
    ax.plot([0, 1], [0.501, 0.501], label="over")
    ax.plot([0, 1], [0.5, 0.5], "--", label="dashed")
    handles, labels = seen(ax)
    assert labels == ["diagonal", "under = over", "dashed"]
    assert handles[1].get_label() == "over"


def test_a_label_of_several_lines_is_listed_once_by_one_that_is_seen(ax):
    ax.plot([0, 1], [2, 2], label="seeds")
    ax.plot([0, 1], [0.3, 0.3], label="seeds")
    ax.plot([0, 1], [0.4, 0.4], label="seeds")
    handles, labels = seen(ax)
    assert labels == ["diagonal", "seeds"]
    assert handles[1].get_ydata()[0] == 0.3


def test_error_bars_and_bars(ax):
    ax.errorbar([0.5], [0.5], [0.1], marker="o", label="inside")
    ax.errorbar([0.5], [5], [0.1], marker="o", label="outside")
    ax.hist([0.5], np.linspace(0, 1, 5), label="bars")
    assert sorted(seen(ax)[1]) == ["bars", "diagonal", "inside"]


def test_axes_in_which_nothing_is_seen_have_no_legend():
    ax = Figure().subplots()
    ax.plot([0, 1], [np.nan, np.nan], label="nothing")
    add_legend(ax)
    assert ax.get_legend() is None
    ax.plot([0, 1], [0, 1], label="something")
    add_legend(ax, frameon=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["something"]
