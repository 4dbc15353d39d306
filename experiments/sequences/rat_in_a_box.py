"""Real animals' ways through a box, with place cells simulated on them by RatInABox.

The package (github.com/RatInABox-Lab/RatInABox, MIT licence; `pip install ratinabox`) ships two:

- "sargolini": a rat in a box of 1 m by 1 m, 600 s. Sargolini et al. 2006
  (doi:10.1126/science.1125572), from www.ntnu.edu/kavli/research/grid-cell-data.
- "tanni": a rat in a box of 3.5 m by 2.5 m, 7,323 s. Tanni et al. 2022
  (doi:10.1016/j.cub.2022.06.046), from the UCL research data repository.

Who uses them cites these and George et al. 2024, "RatInABox, a toolkit for modelling locomotion and
neuronal activity in continuous environments" (doi:10.7554/eLife.85274).
"""

import contextlib
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from alphacl_jax.data.sequences import cut_at, recordings_from_arrays
from alphacl_jax.errors import ArgumentError, RunError
from experiments.sequences.simulated import Simulated

_LONGEST_GAP = 0.25  # seconds that a camera may miss; the way is cut in longer ones


class Box(NamedTuple):
    """Metres along each side."""

    width: float
    depth: float


BOXES = {"sargolini": Box(1.0, 1.0), "tanni": Box(3.5, 2.5)}


def place_cells(
    seed: int,
    *,
    trajectory: str = "sargolini",
    neurons: int = 60,
    field: float = 0.15,
    peak_rate: float = 20.0,
    seconds: float | None = None,
    bin_seconds: float = 0.025,
) -> Simulated:
    """Poisson counts of place cells on a real animal's way.

    Each cell has one Gaussian field, at a place that is uniform in the box, and 0.5 spikes per
    second away from it. The way is the animal's, whatever the seed.

    Args:
      seed: of places and counts; the random numbers of NumPy's global state are not used.
      trajectory: one of `BOXES`.
      neurons: at least 1.
      field: metres, the standard deviation of a field.
      peak_rate: spikes per second at its middle, above 0.5.
      seconds: of the way, from its start; None for all.
      bin_seconds: of a bin.

    Returns:
      Its context and its latents are the position `[time, 2]` in metres; recordings end where the
      camera missed more than 0.25 s.

    Raises:
      ArgumentError: for values out of range.
      RunError: where the package is not installed.
    """
    if trajectory not in BOXES:
        raise ArgumentError("trajectory", trajectory, f"must be one of {', '.join(BOXES)}")
    for name, value, least in (
        ("neurons", neurons, 0), ("field", field, 0), ("peak_rate", peak_rate, 0.5),
        ("bin_seconds", bin_seconds, 0),
    ):  # fmt: skip
        if not (np.isfinite(value) and value > least):
            raise ArgumentError(name, value, f"must be a number above {least}")
    try:
        from ratinabox.Agent import Agent
        from ratinabox.Environment import Environment
        from ratinabox.Neurons import PlaceCells
    except ModuleNotFoundError as error:
        raise RunError(
            f"{error.name} cannot be imported: the ways of real animals come with the package "
            "ratinabox. Install it by: pip install ratinabox"
        ) from error

    box, rng = BOXES[trajectory], np.random.default_rng(seed)
    centres = rng.uniform(0, box, (neurons, 2))
    with _quietly():
        environment = Environment({"scale": box.depth, "aspect": box.width / box.depth})
        agent = Agent(environment)
        agent.import_trajectory(dataset=trajectory)
        cells = PlaceCells(
            agent,
            {
                "place_cell_centres": centres,
                "widths": field,
                "min_fr": 0.5,
                "max_fr": peak_rate,
            },
        )
    camera = agent.t_interp
    last = camera[-1] if seconds is None else min(seconds, camera[-1])
    middle = np.arange(bin_seconds / 2, last, bin_seconds)
    if len(middle) < 2:
        raise ArgumentError("seconds", seconds, f"must be two bins of {bin_seconds:g} s at least")
    after = np.searchsorted(camera, middle)
    seen = camera[after] - camera[after - 1] <= _LONGEST_GAP
    groups = np.cumsum(~seen)[seen]
    position = np.clip(agent.pos_interp(middle[seen]), 0, box)
    rates = cells.get_state(evaluate_at=None, pos=position).T * bin_seconds
    counts, context = cut_at(groups, rng.poisson(rates), position)
    assert counts is not None
    recordings = recordings_from_arrays(counts, context=context, rate=1 / bin_seconds)
    return Simulated(recordings, position, rates)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the package prints, and with NumPy's global random numbers as they were."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
