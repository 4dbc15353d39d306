"""CEBRA by this library and by the authors' package, trained alike."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from alphacl_jax.objectives.temporal import goodness_of_fit

OURS, PACKAGE = "alphacl_jax", "cebra"
# Batches at the end of a training over which the goodness of fit is averaged.
_LAST = 100


class Setup(NamedTuple):
    """How both sides train.

    Attributes:
      receptive_field: moments of a window; the networks of both sides have the same layers.
      output_dimension: of the embeddings, of length 1.
      time_offset: moments.
      batch_size: references, and as many negatives.
      iterations: steps of Adam.
      hybrid: whether positives in time are added to those of behaviour.
      hidden_units: channels of the hidden layers.
      learning_rate: of Adam.
      temperature: fixed.
    """

    receptive_field: int
    output_dimension: int
    time_offset: int
    batch_size: int = 512
    iterations: int = 1000
    hybrid: bool = False
    hidden_units: int = 32
    learning_rate: float = 3e-4
    temperature: float = 1.0


class Session(NamedTuple):
    """Data of one session.

    Attributes:
      X: `[time, channels]`.
      contexts: `[time]` or `[time, dims]` each, floats or whole numbers; none of a rule of time.
      groups: `[time]`, equal within a trial, or None. The package knows of no trials: it is to be
        compared with ours without them.
    """

    X: np.ndarray
    contexts: tuple[np.ndarray, ...] = ()
    groups: np.ndarray | None = None


class Fitted(NamedTuple):
    """A model that was trained.

    Attributes:
      embed: the embeddings of sessions.
      loss: of each batch.
      goodness: of fit in bits, the mean of the last batches.
      seconds: that `fit` took.
    """

    embed: Callable[[Sequence[Session]], list[np.ndarray]]
    loss: np.ndarray
    goodness: float
    seconds: float


def fit_ours(setup: Setup, sessions: Sequence[Session], seed: int) -> Fitted:
    """Trains by this library; several sessions share a space."""
    from alphacl_jax.sequences import CEBRA

    model = CEBRA(
        receptive_field=setup.receptive_field,
        output_dimension=setup.output_dimension,
        time_offset=setup.time_offset,
        batch_size=setup.batch_size,
        max_iterations=setup.iterations,
        hybrid=setup.hybrid,
        hidden_units=setup.hidden_units,
        learning_rate=setup.learning_rate,
        temperature=setup.temperature,
        random_state=seed,
    )
    started = time.perf_counter()
    if len(sessions) == 1:
        (only,) = sessions
        model.fit(only.X, *only.contexts, groups=only.groups)
    else:
        given = [list(column) for column in zip(*(each.contexts for each in sessions), strict=True)]
        model.fit([each.X for each in sessions], *given, groups=_groups(sessions))
    seconds = time.perf_counter() - started

    def embed(sessions: Sequence[Session]) -> list[np.ndarray]:
        if len(sessions) == 1:
            return [model.transform(sessions[0].X, groups=sessions[0].groups)]
        signals = [each.X for each in sessions]
        return list(model.transform(signals, groups=_groups(sessions)))

    # Of a hybrid, that of behaviour alone.
    return Fitted(embed, model.loss_, float(np.mean(model.goodness_[-_LAST:])), seconds)


def _groups(sessions: Sequence[Session]) -> list[np.ndarray | None] | None:
    groups = [each.groups for each in sessions]
    return None if all(own is None for own in groups) else groups


def fit_package(setup: Setup, sessions: Sequence[Session], seed: int) -> Fitted:
    """Trains by the authors' package. It has no seed: here those of torch and of NumPy are set, of
    which its weights follow; some moments it draws by generators of its own, which nobody can set,
    so that a training does not repeat."""
    import cebra
    import torch

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the package draws from it
    contexts = sessions[0].contexts
    model = cebra.CEBRA(
        model_architecture=f"offset{setup.receptive_field}-model",
        output_dimension=setup.output_dimension,
        time_offsets=setup.time_offset,
        batch_size=setup.batch_size,
        max_iterations=setup.iterations,
        hybrid=setup.hybrid,
        num_hidden_units=setup.hidden_units,
        learning_rate=setup.learning_rate,
        temperature=setup.temperature,
        conditional="time_delta" if contexts else "time",
        distance="cosine",
        device="cpu",
        verbose=False,
    )
    signals = [np.asarray(each.X, np.float32) for each in sessions]
    started = time.perf_counter()
    if len(sessions) == 1:
        model.fit(signals[0], *contexts)
    else:
        columns = zip(*(each.contexts for each in sessions), strict=True)
        model.fit(signals, *(list(column) for column in columns))
    seconds = time.perf_counter() - started

    def embed(sessions: Sequence[Session]) -> list[np.ndarray]:
        signals = [np.asarray(each.X, np.float32) for each in sessions]
        if len(signals) == 1:
            return [model.transform(signals[0])]
        return [model.transform(x, session_id=i) for i, x in enumerate(signals)]

    loss = np.asarray(model.state_dict_["loss"])
    goodness = goodness_of_fit(loss[-_LAST:], setup.batch_size)
    return Fitted(embed, loss, float(np.mean(goodness)), seconds)


FITS: dict[str, Callable[[Setup, Sequence[Session], int], Fitted]] = {
    OURS: fit_ours,
    PACKAGE: fit_package,
}


def time_fits(side: str, setup: Setup, sessions: Sequence[Session]) -> dict[str, Any]:
    """Seconds per 1,000 iterations, and what the first call of a process takes longer than others.

    Args:
      side: one of `FITS`.
      setup: whose `iterations` are trained three times.
      sessions: the data.
    """
    first, *others = (FITS[side](setup, sessions, seed).seconds for seed in range(3))
    again = min(others)
    return {
        "seconds per 1,000": 1000 * again / setup.iterations,
        "first call": first - again,
    }
