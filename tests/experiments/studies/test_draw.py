"""Pictures of studies."""

import numpy as np

from experiments.studies import draw


def test_ticks_of_a_log_axis_do_not_overlap():
    curves = {
        "a": [(x, np.ones(2)) for x in (62.0, 126.0, 510.0)],
        "b": [(x, np.ones(2)) for x in (128.0, 512.0, 2048.0)],
    }
    figure = draw.lines(curves, title="", xlabel="", ylabel="", log_x=True)
    ticks = figure.axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["62", "126", "510", "2048"]
