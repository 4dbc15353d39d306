"""What an estimator of embeddings over time is set to, checked, and the rule that follows."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from alphacl_jax.data.positives import PRIORS, RULES, Positives
from alphacl_jax.errors import ArgumentError, shown
from alphacl_jax.methods.cebra import Similarity
from alphacl_jax.models.temporal import RECEPTIVE_FIELDS, WindowEncoder
from alphacl_jax.objectives.temporal import SIMILARITIES
from alphacl_jax.ranges import POSITIVE, check_scalar

# The rule is that of the kinds of context that are given.
AUTO = "auto"
# What the embeddings of a fitted model depend on, and what its training does besides.
ARCHITECTURE = ("receptive_field", "hidden_units", "output_dimension", "similarity")
STRUCTURE = (*ARCHITECTURE, "learned_temperature")

_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "positives": (AUTO, *RULES),
    "prior": PRIORS,
    "receptive_field": RECEPTIVE_FIELDS,
    "similarity": SIMILARITIES,
}
# The least of whole numbers.
_LEAST = {
    "time_offset": 1,
    "hidden_units": 2,
    "output_dimension": 1,
    "batch_size": 1,
    "max_iterations": 1,
    "random_state": 0,
}
_FLAGS = ("hybrid", "learned_temperature", "verbose")
# Those above would be cut off, and so repeat the runs of others.
_LARGEST_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """The parameters of `CEBRA`, see there, each of them checked."""

    positives: str
    time_offset: int
    spread: float
    prior: str
    hybrid: bool
    receptive_field: int
    hidden_units: int
    output_dimension: int
    similarity: str
    temperature: float
    learned_temperature: bool
    min_temperature: float
    learning_rate: float
    batch_size: int
    max_iterations: int
    random_state: int
    verbose: bool

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Checks parameters, and makes plain values of those of NumPy.

        Raises:
          ArgumentError: for a value that a parameter cannot have.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        found = cls(**{name: _checked(name, parameters[name]) for name in names})
        if found.learned_temperature and found.temperature < found.min_temperature:
            problem = f"is above temperature={found.temperature:g}, which learning starts from"
            raise ArgumentError("min_temperature", found.min_temperature, problem)
        return found

    @property
    def encoder(self) -> WindowEncoder:
        return WindowEncoder(self.receptive_field, self.hidden_units, self.output_dimension)

    @property
    def compared_by(self) -> Similarity:
        minimum = self.min_temperature if self.learned_temperature else None
        return Similarity(self.similarity, self.temperature, minimum)

    def rule(self, *, has_labels: bool, has_context: bool) -> Positives:
        """The rule of positives, of data that have labels or a continuous context.

        Raises:
          ArgumentError: where the rule reads what is not there, or what is there is of another.
        """
        rule = self.positives
        if rule == AUTO:
            rule = "time_delta" if has_context else "label" if has_labels else "time"
        is_continuous = rule in ("time_delta", "gaussian")
        problem = ""
        if is_continuous and not has_context:
            problem = "reads a context of floats, [time] or [time, dims], and there is none"
        elif rule == "label" and has_context:
            problem = (
                "reads no context of floats, and there is one: leave it out, or use 'time_delta' "
                "or 'gaussian', which read labels as well"
            )
        elif rule == "label" and not has_labels:
            problem = "reads a context of whole numbers or words, [time], and there is none"
        if problem:
            raise ArgumentError("positives", repr(rule), problem)
        return Positives(
            rule=rule,
            offset=self.time_offset,
            spread=self.spread,
            prior=self.prior,
            within_labels=is_continuous and has_labels,
            hybrid=self.hybrid,
        )


def _checked(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if name in _CHOICES:
        known = _CHOICES[name]
        # An array would not compare to a truth value.
        if not isinstance(value, str | int) or value not in known:
            raise ArgumentError(name, shown(value), f"must be one of {', '.join(map(str, known))}")
    elif name in _LEAST:
        _require_whole(name, value)
    elif name in _FLAGS:
        if not isinstance(value, bool):
            raise ArgumentError(name, shown(value), "must be True or False")
    else:
        check_scalar(name, value, POSITIVE)
        value = float(value)
    return value


def _require_whole(name: str, value: Any) -> None:
    least, most = _LEAST[name], _LARGEST_SEED if name == "random_state" else np.iinfo(np.int32).max
    if not isinstance(value, int) or isinstance(value, bool):
        problem = f"must be a whole number of at least {least}"
    elif not least <= value <= most:
        problem = f"must be a whole number from {least} to {most}"
    else:
        return
    raise ArgumentError(name, shown(value), problem)
