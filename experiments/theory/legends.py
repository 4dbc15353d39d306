"""Legends that list what can be seen, and nothing else.

Lines can be outside the axes, not finite (0 on a log axis), of one point without a marker, or
under another line from end to end.
"""

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D

# Of the height and width of the axes: nearer lines cannot be told apart.
_NEAR = 0.003
_NO_MARKER = ("", " ", "None", "none", None)


def add_legend(ax: Axes, **options: Any) -> None:
    """Gives axes a legend of what can be seen in them; none where that is nothing.

    Args:
      ax: with all that belongs into it, and its limits and scales.
      options: of matplotlib's legend.
    """
    handles, labels = seen(ax)
    if handles:
        ax.legend(handles, labels, **options)


def seen(ax: Axes) -> tuple[list[Any], list[str]]:
    """Handles and labels of what can be seen, each label once.

    The label of a line that lies under a later one is added to that one's.
    """
    handles, labels = ax.get_legend_handles_labels()
    found = [(h, label) for h, label in zip(handles, labels, strict=True) if _can_be_seen(ax, h)]
    names: dict[int, list[str]] = {}  # of handles by number
    for number, (handle, label) in enumerate(found):
        over = [n for n in range(number + 1, len(found)) if _covers(ax, found[n][0], handle)]
        names.setdefault(over[-1] if over else number, []).append(label)
    kept: dict[str, Any] = {}
    for number in sorted(names):
        kept.setdefault(" = ".join(dict.fromkeys(names[number])), found[number][0])
    return list(kept.values()), list(kept)


def _line(handle: Artist | ErrorbarContainer) -> Line2D | None:
    if isinstance(handle, ErrorbarContainer):
        handle = handle.lines[0]
    return handle if isinstance(handle, Line2D) else None


def _can_be_seen(ax: Axes, handle: Any) -> bool:
    line = _line(handle)
    if line is None:
        return True
    points = _on_axes(ax, line)
    finite = np.isfinite(points).all(axis=1)
    inside = finite & ((points >= 0) & (points <= 1)).all(axis=1)
    if line.get_marker() not in _NO_MARKER and inside.any():
        return True
    if line.get_linestyle() in _NO_MARKER:
        return False
    # Pieces whose boxes meet the axes; one of no length is a point.
    ends = np.stack([points[:-1], points[1:]])[:, finite[:-1] & finite[1:]]
    low, high = ends.min(axis=0), ends.max(axis=0)
    return bool(((high >= 0) & (low <= 1)).all(axis=1)[(high > low).any(axis=1)].any())


def _covers(ax: Axes, upper: Any, lower: Any) -> bool:
    """Whether a later line hides an earlier one: the same course, marks and style."""
    one, other = _line(upper), _line(lower)
    if one is None or other is None:
        return False
    if (one.get_linestyle(), one.get_marker()) != (other.get_linestyle(), other.get_marker()):
        return False
    course, course_below = _on_axes(ax, one), _on_axes(ax, other)
    return course.shape == course_below.shape and bool(
        np.allclose(course, course_below, rtol=0, atol=_NEAR, equal_nan=True)
    )


def _on_axes(ax: Axes, line: Line2D) -> np.ndarray:
    """A line's points `[points, 2]` in units of the axes, which reach from 0 to 1."""
    ax.get_xlim(), ax.get_ylim()  # settles limits that are still to be chosen
    with np.errstate(divide="ignore", invalid="ignore"):
        on_screen = line.get_transform().transform(line.get_xydata())
    return np.asarray(ax.transAxes.inverted().transform(on_screen))
