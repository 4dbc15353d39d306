"""A fitted model: what it was fitted as, its parameters, and how its training went."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from alphacl_jax.data.positives import Positives
from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.methods.cebra import Similarity
from alphacl_jax.models.temporal import WindowEncoder
from alphacl_jax.sequences.settings import Settings
from alphacl_jax.training.state import TrainState

# Of each iteration: the loss, the goodness of fit in bits, and the temperature.
HISTORIES = ("loss", "goodness", "temperature")

Histories = dict[str, np.ndarray]


class Problem(NamedTuple):
    """What is trained, and on what: all that a program depends on but for the length of the data.

    Attributes:
      encoder: of each session, whose parameters are its own.
      similarity: how embeddings are compared.
      positives: the rule.
      batch_size: of each session.
      channels: of each session.
      are_listed: whether it is of a list of sessions that share a space, and not of one array.
    """

    encoder: WindowEncoder
    similarity: Similarity
    positives: Positives
    batch_size: int
    channels: tuple[int, ...]
    are_listed: bool

    @classmethod
    def of(
        cls, settings: Settings, positives: Positives, channels: tuple[int, ...], are_listed: bool
    ) -> "Problem":
        encoder, similarity = settings.encoder, settings.compared_by
        return cls(encoder, similarity, positives, settings.batch_size, channels, are_listed)


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """What an estimator holds once it is fitted, all of it or nothing.

    Attributes:
      settings: that it was fitted with last.
      problem: that followed from them and the data.
      feature_names: of the channels of one array, where they have names.
      state: parameters, the optimiser's state and the number of iterations, as NumPy's arrays.
      histories: of each of `HISTORIES`, float32 `[iterations]`.
    """

    settings: Settings
    problem: Problem
    feature_names: np.ndarray | None
    state: TrainState
    histories: Histories

    def after(self, state: TrainState, parts: Sequence[Histories]) -> "Model":
        """The model that training from this one came to, and all its histories in their order."""
        histories = {name: np.concatenate([part[name] for part in parts]) for name in HISTORIES}
        return dataclasses.replace(self, state=state, histories=histories)

    def session(self, number: Any) -> int:
        """The number of a session; None where there is one alone.

        Raises:
          ArgumentError: for a session that there is not.
        """
        sessions = len(self.problem.channels)
        if number is None and sessions == 1:
            return 0
        if not isinstance(number, int | np.integer) or not 0 <= number < sessions:
            problem = f"must be the number of a session that was fitted, 0 to {sessions - 1}"
            raise ArgumentError("session", shown(number), problem)
        return int(number)

    def require_unchanged(
        self, names: Sequence[str], parameters: Mapping[str, Any], doing: str
    ) -> None:
        """Refuses parameters under which the model would be another.

        Args:
          names: of parameters that have to be as they were.
          parameters: what they are now.
          doing: what the model is wanted for.

        Raises:
          ArgumentError: naming the first that was changed.
        """
        for name in names:
            now, fitted = parameters[name], getattr(self.settings, name)
            # What else it may be, such as an array, is not what was fitted.
            if not isinstance(now, str | int | np.integer | np.bool_) or now != fitted:
                problem = (
                    f"was {fitted!r} when the model was fitted that {doing} needs: call fit, or "
                    f"take it back by set_params({name}={fitted!r})"
                )
                raise ArgumentError(name, shown(now), problem)

    def require_sessions(self, X: Any, channels: Sequence[int], are_listed: bool) -> None:
        """Refuses data of other sessions than those of the fit.

        Args:
          X: the data, for the message.
          channels: of each session.
          are_listed: whether X is a list of them.

        Raises:
          ArgumentError: saying what was fitted.
        """
        fitted = self.problem
        if (are_listed, len(channels)) != (fitted.are_listed, len(fitted.channels)):
            was = f"a list of {len(fitted.channels)} sessions" if fitted.are_listed else "one array"
            raise ArgumentError("X", shown(X), f"must be {was}, as it was in fit")
        for number, count in enumerate(channels):
            self.require_channels(X, count, number)

    def require_channels(self, X: Any, count: int, session: int) -> None:
        """Refuses data of another number of channels than those of a session in the fit.

        Raises:
          ArgumentError: with both numbers.
        """
        fitted = self.problem.channels[session]
        if count != fitted:
            problem = f"has {count} channels in session {session}, which was fitted with {fitted}"
            raise ArgumentError("X", shown(X), problem)
