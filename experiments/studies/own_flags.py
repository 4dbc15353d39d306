"""The flags that one study alone has: a dataclass of settings, as a run's settings are."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from absl import flags

from alphacl_jax.cli.run_flags import define_setting
from alphacl_jax.errors import ArgumentError


class Own(NamedTuple):
    """The settings of a study.

    Attributes:
      settings: a dataclass of `alphacl_jax.runs.fields.setting`s that checks itself.
      quick: by name, those that --quick makes smaller.
    """

    settings: type
    quick: Mapping[str, Any]


def define_own(values: flags.FlagValues, own: Own) -> None:
    """Defines a flag for each setting."""
    for field in dataclasses.fields(own.settings):
        define_setting(values, field.name, own.settings, field)


def value_of(values: flags.FlagValues, name: str, quick: Mapping[str, Any]) -> Any:
    """The value of a flag; one that was not given is that of `quick`, if there."""
    if name in quick and values[name].using_default_value:
        return quick[name]
    return values[name].value


def read_own(values: flags.FlagValues, own: Own, quick: bool) -> Any:
    """The settings that the flags stand for.

    Raises:
      ArgumentError: for a value out of range, or a list that has one twice.
    """
    names = [field.name for field in dataclasses.fields(own.settings)]
    given = {name: value_of(values, name, own.quick if quick else {}) for name in names}
    for name, value in given.items():
        # Names of rows show numbers so.
        if isinstance(value, tuple) and len({_short(part) for part in value}) < len(value):
            shown = ",".join(map(str, value))
            raise ArgumentError(name, shown, "has a value twice; give each once")
    return own.settings(**given)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
