"""CEBRA as an estimator of scikit-learn's conventions."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from alphacl_jax.data.positives import Positives
from alphacl_jax.data.sequences import cut_at
from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.sequences.embedding import embed
from alphacl_jax.sequences.file import load_model, save_model
from alphacl_jax.sequences.fitting import pose, train_on, untrained
from alphacl_jax.sequences.inputs import (
    is_list_of_sessions,
    of_each_session,
    read_signal,
)
from alphacl_jax.sequences.model import Model
from alphacl_jax.sequences.settings import ARCHITECTURE, STRUCTURE, Settings
from alphacl_jax.sequences.training import goodness_of, programs_of


class CEBRA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embeddings of time series by contrast of moments, in time or by behaviour.

    An encoder f sees the window around a moment. References r, their positives p and as many
    negatives n, which all references of a batch share, are drawn at each iteration, and

        L = mean_i [ −φ(f(r_i), f(p_i)) + log Σ_j e^{φ(f(r_i), f(n_j))} ]
        φ(x, y) = cos(x, y)/τ   or   −‖x − y‖²/τ

    is descended by Adam. What makes a moment a positive is the rule:

    - "time": the moment `time_offset` after the reference. No context is read.
    - "label": any moment of the reference's label; labels of one moment alone are left out.
    - "time_delta": the moment whose context is nearest to the reference's, moved as the context
      moves somewhere in the data within `time_offset`.
    - "gaussian": the moment whose context is nearest to the reference's, plus normal noise.

    The last two keep to moments of the reference's label where there are labels as well. The rules
    that read a context are the subject of US patent 12,499,131 (2025), of which users must judge
    for themselves; contrast over time is older.

    All randomness is of `random_state`: on the same machine, every fit repeats bit by bit. Ctrl-C
    ends a training, and the model of the iterations taken is the fitted one. After a `fit` that
    fails, what was fitted before stays.

    Parameters:
      positives: one of the rules, or "auto": "time_delta" where there is a context of floats,
        "label" where there is one of whole numbers or words alone, and "time" without any.
      time_offset: in moments, ≥ 1; of "time" and "time_delta", and of `hybrid`.
      spread: the standard deviation of the noise of "gaussian", in units of the context, > 0.
      prior: how references of "label" are drawn: "empirical" (all moments alike) or "uniform" (all
        labels alike).
      hybrid: whether the moment `time_offset` later is another positive of each reference, of a
        rule of context; the loss is the sum of both.
      receptive_field: moments of a window, half of them before its own: 1, 5, 10 or 36.
      hidden_units: channels of the encoder's layers, ≥ 2.
      output_dimension: of the embeddings, ≥ 1.
      similarity: φ, "cosine", of embeddings of length 1, or "euclidean".
      temperature: τ > 0, or what a learned one starts from.
      learned_temperature: whether τ is learned.
      min_temperature: the floor of a learned τ, > 0.
      learning_rate: of Adam, constant, > 0.
      batch_size: references of a batch, and as many negatives; of each session, if several.
      max_iterations: of `fit`, and of each `partial_fit`.
      random_state: the seed, a whole number.
      verbose: whether a terminal shows how far training is.

    Attributes:
      loss_: float32 `[iterations]`, of each batch.
      goodness_: the same in bits, log₂(batch_size) − L/ln 2: of a hybrid, of behaviour alone.
      temperature_: τ at each iteration.
      n_iter_: how many iterations there were.
      n_features_in_: the number of channels; of several sessions, a tuple of them.
      feature_names_in_: of the columns, where X had names.
      model_: all that is fitted, as one value.

    Example:
      >>> import numpy as np
      >>> from alphacl_jax.sequences import CEBRA
      >>> angle = np.cumsum(np.random.default_rng(0).normal(0, 0.3, 500))
      >>> context = np.column_stack([np.cos(angle), np.sin(angle)])
      >>> X = context @ np.random.default_rng(1).normal(size=(2, 20))
      >>> cebra = CEBRA(output_dimension=3, batch_size=64, max_iterations=50)
      >>> cebra.fit_transform(X, context).shape
      (500, 3)
      >>> bool(cebra.goodness_[-1] > cebra.goodness_[0])
      True

    References:
      Schneider, Lee and Mathis 2023, "Learnable latent embeddings for joint behavioural and neural
      analysis" (doi:10.1038/s41586-023-06031-6).
    """

    model_: Model

    def __init__(
        self,
        *,
        positives: str = "auto",
        time_offset: int = 10,
        spread: float = 0.1,
        prior: str = "empirical",
        hybrid: bool = False,
        receptive_field: int = 10,
        hidden_units: int = 32,
        output_dimension: int = 8,
        similarity: str = "cosine",
        temperature: float = 1.0,
        learned_temperature: bool = False,
        min_temperature: float = 0.1,
        learning_rate: float = 3e-4,
        batch_size: int = 512,
        max_iterations: int = 5000,
        random_state: int = 0,
        verbose: bool = False,
    ):
        self.positives = positives
        self.time_offset = time_offset
        self.spread = spread
        self.prior = prior
        self.hybrid = hybrid
        self.receptive_field = receptive_field
        self.hidden_units = hidden_units
        self.output_dimension = output_dimension
        self.similarity = similarity
        self.temperature = temperature
        self.learned_temperature = learned_temperature
        self.min_temperature = min_temperature
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iterations = max_iterations
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *context: Any, groups: Any = None) -> Self:
        """Trains anew.

        Args:
          X: numbers `[time, channels]`; or a list of these, sessions that share a space of
            embeddings, each with an encoder of its own and its own number of channels. The context
            of a reference is sought in any of them, and the loss is their mean.
          y: the first context, or None: whole numbers or words `[time]` are labels, of which
            numbers below 0, and "", are unknown; floats `[time]` or `[time, dims]` are continuous.
            For sessions, a list of these.
          *context: more of them, of which one at most has labels.
          groups: `[time]`, or for sessions a list of these: equal within a trial. No window, and
            no step in time, crosses from one trial into the next.

        Raises:
          ValueError: for parameters and data that cannot be used (most as `ArgumentError`), before
            anything is trained.
          FloatingPointError: where the loss or the parameters become NaN or infinite.
        """
        settings = Settings.of(self.get_params())
        given, problem, arrays = pose(settings, X, (y, *context), groups)
        train_on(untrained(settings, given, problem), arrays, self._keep)
        return self

    def partial_fit(self, X: Any, y: Any = None, *context: Any, groups: Any = None) -> Self:
        """Trains on, `max_iterations` more, on the same data or others of as many channels.

        On the data of `fit` the model is that of one `fit` of all iterations, bit by bit. Without
        a fitted model it is `fit`. `random_state` is not read again.

        Args:
          X, y, context, groups: as in `fit`.

        Raises:
          ArgumentError: where a parameter that gives the model its form was changed since.
          ValueError, FloatingPointError: as in `fit`.
        """
        if not hasattr(self, "model_"):
            return self.fit(X, y, *context, groups=groups)
        self._require_unchanged(STRUCTURE, "partial_fit")
        self._require_data_of_fit(X)
        settings = Settings.of(self.get_params())
        _, problem, arrays = pose(settings, X, (y, *context), groups)
        start = dataclasses.replace(self.model_, settings=settings, problem=problem)
        train_on(start, arrays, self._keep)
        return self

    def transform(self, X: Any, session: int | None = None, *, groups: Any = None) -> Any:
        """The embedding of each moment.

        At the borders of X, and of each trial, the first and the last moment are repeated.

        Args:
          X: `[time, channels]`, or all sessions as in `fit`, a list.
          session: whose encoder is used, where the model was fitted on a list and X is one array.
          groups: as in `fit`.

        Returns:
          float32 `[time, output_dimension]`, of length 1 where the similarity is "cosine"; a list
          of these for a list.

        Raises:
          NotFittedError: before `fit`.
          ArgumentError: where a parameter that gives the embeddings their form was changed since
            the fit, and for a session that there is not.
          ValueError: for another number of channels, and what is no array of finite numbers.
        """
        check_is_fitted(self)
        self._require_unchanged(ARCHITECTURE, "transform")
        model = self.model_
        if is_list_of_sessions(X):
            self._require_data_of_fit(X)
            marks = of_each_session("groups", groups, len(X), are_listed=True)
            signals = [read_signal(each, f"of session {i} ") for i, each in enumerate(X)]
            return [self._embedded(i, *of) for i, of in enumerate(zip(signals, marks, strict=True))]
        number = model.session(session)
        if not model.problem.are_listed:
            self._require_data_of_fit(X)
        signal = read_signal(X)
        model.require_channels(X, signal.shape[1], number)
        return self._embedded(number, signal, groups)

    def fit_transform(self, X: Any, y: Any = None, *context: Any, groups: Any = None) -> Any:
        """`fit`, and then `transform` of the same data."""
        return self.fit(X, y, *context, groups=groups).transform(X, groups=groups)

    def score(self, X: Any, y: Any = None, *context: Any, groups: Any = None) -> float:
        """The goodness of fit of data, in bits, see `goodness_`: more is better.

        It is the mean over 64 batches of the fitted `batch_size`, drawn by the fitted
        `random_state` with the rule of the fit; over all sessions where there are several.

        Args:
          X, y, context, groups: as in `fit`, with context of the same kinds.

        Raises:
          NotFittedError, ArgumentError, ValueError: as in `transform` and `fit`.
        """
        check_is_fitted(self)
        self._require_unchanged(ARCHITECTURE, "score")
        self._require_data_of_fit(X)
        model = self.model_
        _, problem, arrays = pose(model.settings, X, (y, *context), groups)
        if problem != model.problem:
            found, fitted = (_in_words(each.positives) for each in (problem, model.problem))
            wrong = (
                f"asks for positives by {found}, and fit had those by {fitted}: give such context"
            )
            raise ArgumentError("context", shown((y, *context)), wrong)
        return goodness_of(programs_of(problem), model.state, arrays, model.settings.random_state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the fitted estimator to one file, whole or not at all.

        The file is in the format of safetensors, and holds no code. `partial_fit` goes on from it
        as if it had never been written.

        Args:
          path: in a folder that exists; a file that is there is replaced.

        Raises:
          NotFittedError: before `fit`.
          OSError: where the file cannot be written.
        """
        check_is_fitted(self)
        save_model(path, self.model_, Settings.of(self.get_params()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The estimator that `save` wrote.

        Raises:
          FileNotFoundError: where there is no file.
          ArgumentError: for a file that is damaged, or of another kind or a later version.
        """
        model, settings = load_model(path)
        found = cls(**dataclasses.asdict(settings))
        found.model_ = model
        return found

    @property
    def loss_(self) -> np.ndarray:
        return self._fitted().histories["loss"]

    @property
    def goodness_(self) -> np.ndarray:
        return self._fitted().histories["goodness"]

    @property
    def temperature_(self) -> np.ndarray:
        return self._fitted().histories["temperature"]

    @property
    def n_iter_(self) -> int:
        return len(self.loss_)

    @property
    def n_features_in_(self) -> int | tuple[int, ...]:
        problem = self._fitted().problem
        return problem.channels if problem.are_listed else problem.channels[0]

    @property
    def feature_names_in_(self) -> np.ndarray:
        names = self._fitted().feature_names
        if names is None:
            raise AttributeError("the model was fitted on columns without names")
        return names

    @property
    def _n_features_out(self) -> int:
        return self._fitted().settings.output_dimension

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # all is computed, and returned, as float32
        return tags

    def _fitted(self) -> Model:
        """The model; an AttributeError, as of any other attribute, before there is one."""
        if "model_" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet")
        return self.model_

    def _keep(self, model: Model) -> None:
        self.model_ = model

    def _embedded(self, session: int, signal: np.ndarray, groups: Any) -> np.ndarray:
        trials = [signal] if groups is None else cut_at(groups, signal)[0]
        assert trials is not None
        return embed(self.model_, session, trials)

    def _require_unchanged(self, names: Sequence[str], doing: str) -> None:
        self.model_.require_unchanged(names, self.get_params(), doing)

    def _require_data_of_fit(self, X: Any) -> None:
        """Refuses data of other sessions, channels or names of columns than those of the fit."""
        model, are_listed = self.model_, is_list_of_sessions(X)
        if are_listed or model.problem.are_listed:
            signals = X if are_listed else ()
            channels = [read_signal(each).shape[1] for each in signals]
            model.require_sessions(X, channels, are_listed)
        else:
            validate_data(self, X, reset=False, ensure_all_finite=False)


def _in_words(positives: Positives) -> str:
    return f"{positives.rule!r}{' within labels' if positives.within_labels else ''}"
