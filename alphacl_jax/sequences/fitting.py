"""From what an estimator is handed to a fitted model."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from alphacl_jax.sequences.inputs import Given, read_inputs
from alphacl_jax.sequences.model import HISTORIES, Model, Problem
from alphacl_jax.sequences.settings import Settings
from alphacl_jax.sequences.training import arrays_of, programs_of, train

Arrays = list[dict[str, np.ndarray]]


def pose(
    settings: Settings, X: Any, contexts: Sequence[Any], groups: Any
) -> tuple[Given, Problem, Arrays]:
    """What was given, checked, the problem that it poses, and what moments are drawn from.

    Args:
      settings: of the estimator, whose rule "time" reads no context.
      X, contexts, groups: as in `read_inputs`.

    Raises:
      ValueError: as in `read_inputs`, `Settings.rule` and `arrays_of`.
    """
    given = read_inputs(X, () if settings.positives == "time" else contexts, groups)
    positives = settings.rule(has_labels=given.has_labels, has_context=given.has_context)
    problem = Problem.of(settings, positives, given.channels, given.are_listed)
    return given, problem, arrays_of(problem, given.sessions)


def untrained(settings: Settings, given: Given, problem: Problem) -> Model:
    """The model before the first iteration."""
    state = jax.device_get(programs_of(problem).init(settings.random_state))
    histories = {name: np.zeros(0, np.float32) for name in HISTORIES}
    return Model(settings, problem, given.feature_names, state, histories)


def train_on(start: Model, arrays: Arrays, keep: Callable[[Model], None]) -> None:
    """Trains on from a model, which stays as it is.

    Args:
      start: whose settings say how, and for how many iterations.
      arrays: that moments are drawn from.
      keep: is given the model at the end, also where that comes early by Ctrl-C.

    Raises:
      FloatingPointError: where the loss or the parameters are no longer finite: nothing is kept.
      KeyboardInterrupt: after `keep`, if there was an iteration.
    """
    settings, state, done = start.settings, start.state, [start.histories]
    is_shown = settings.verbose and sys.stderr.isatty()
    steps = train(
        programs_of(start.problem),
        start.state,
        arrays,
        settings.max_iterations,
        settings.learning_rate,
    )
    try:
        with tqdm(total=settings.max_iterations, disable=not is_shown) as bar:
            for state, histories in steps:  # noqa: B007 - the last one is kept
                done.append(histories)
                bar.set_postfix_str(f"{histories['goodness'][-1]:.2f} bits", refresh=False)
                bar.update(len(histories["goodness"]))
    except KeyboardInterrupt:
        if len(done) > 1:
            keep(start.after(state, done))
        raise
    except FloatingPointError as error:
        largest = max(np.abs(each["signal"]).max() for each in arrays)
        name = "min_temperature" if settings.learned_temperature else "temperature"
        raise FloatingPointError(
            f"{error}: training stopped, and what was fitted before is kept. Lower "
            f"learning_rate={settings.learning_rate:g}, raise {name}="
            f"{getattr(settings, name):g}, or scale X, whose largest value is {largest:g}"
        ) from None
    keep(start.after(state, done))
