"""The flags of a training run, made from its settings; and the settings that they stand for."""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from absl import flags

from alphacl_jax.cli.help import Described, Groups
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs.common_settings import AnyRunSettings
from alphacl_jax.runs.fields import kind_of, parse
from alphacl_jax.runs.flag_file import KINDS, METHODS, Fields, fields_of, from_mapping, groups_of
from alphacl_jax.runs.recording_settings import RecordingRunSettings
from alphacl_jax.runs.settings import PLACES, RunSettings

_METHOD = "method"


class _SettingParser(flags.ArgumentParser[Any]):
    """Reads a flag as its setting is read from a flag file."""

    syntactic_help = ""

    def __init__(self, owner: type, field: dataclasses.Field[Any]):
        self._owner, self._field = owner, field

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        try:
            return parse(self._owner, self._field, argument)
        except ArgumentError as error:
            # Not a ValueError, whose message absl would put into one of its own.
            raise RunError(f"--{error}") from error


class _SettingSerializer(flags.ArgumentSerializer[Any]):
    def serialize(self, value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _all_fields() -> Fields:
    """Every setting of every method, by name; of one that several have, the first's."""
    found: Fields = {}
    for method in METHODS:
        found = fields_of(method) | found
    return found


def define_run_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for every setting of a run on `values`."""
    images, recordings = (
        ", ".join(name for kind in KINDS if issubclass(kind, of) for name in kind.methods)
        for of in (RunSettings, RecordingRunSettings)
    )
    text = f"What is trained: on images {images}; on recordings over time {recordings}."
    flags.DEFINE_enum(_METHOD, next(iter(METHODS)), list(METHODS), text, values)
    for name, (owner, field) in _all_fields().items():
        define_setting(values, name, owner, field)


def define_setting(
    values: flags.FlagValues, name: str, owner: type, field: dataclasses.Field[Any]
) -> None:
    """Defines the flag of one setting."""
    text = _text(field)
    if kind_of(owner, name)[0] is bool:
        flags.DEFINE_bool(name, bool(field.default), text, flag_values=values)
    else:
        parser, serializer = _SettingParser(owner, field), _SettingSerializer()
        flags.DEFINE(parser, name, field.default, text, values, serializer)


def _text(field: dataclasses.Field[Any]) -> str:
    """What the help says of a setting, its choices included."""
    text, choices = str(field.metadata["text"]), field.metadata["choices"]
    if all(choice in text for choice in choices):
        return text
    return f"{text} One of {', '.join(choices)}."


def settings_of(values: flags.FlagValues = flags.FLAGS) -> AnyRunSettings:
    """The settings that the flags stand for.

    Raises:
      ArgumentError: for a value out of range, or one that was set and that the method has no
        setting for.
    """
    method = str(values[_METHOD].value)
    read = fields_of(method)
    given: dict[str, Any] = {_METHOD: method}
    for name in _all_fields():
        if values[name].using_default_value:
            continue  # each method has defaults of its own
        value = values[name].value
        if name not in read:
            raise ArgumentError(name, value, f"is set, and the method {method} does not read it")
        given[name] = from_anywhere(value) if name in PLACES else value
    return from_mapping(given)


def from_anywhere(path: str | None) -> str | None:
    """A path that means the same from another working directory, since the run stores it."""
    if not path or "://" in path:  # such as gs://bucket/folder, which TFDS reads
        return path
    given = os.path.join(os.getcwd(), os.path.expanduser(path))
    short = os.path.normpath(given)
    # By its shorter name "link/../data" lies beside the link.
    return short if os.path.realpath(short) == os.path.realpath(given) else given


def help_groups(own: Groups) -> Groups:
    """The flags for --help: the few that most runs set, the command's own, the rest by subject.

    Args:
      own: flags of the command itself.
    """
    first = next(iter(METHODS))
    fields = fields_of(first)
    basic = [name for name, (_, field) in fields.items() if field.metadata["basic"]]
    basic.sort(
        key=lambda name: issubclass(fields[name][0], AnyRunSettings)
    )  # data first, the seed last
    groups: dict[str, list[str | Described]] = {"what most runs set": [_METHOD, *basic]}
    groups |= {title: list(names) for title, names in own.items()}
    for title, names in _by_subject(first):
        groups.setdefault(title, []).extend(n for n in names if n not in basic)
    return groups


def _by_subject(first: str) -> Iterator[tuple[str, list[str | Described]]]:
    for subject, owner in groups_of(first).items():
        title = f"method {first}" if subject == "method" else subject
        yield title, [field.name for field in dataclasses.fields(owner)]
    told = {name: field for name, (_, field) in fields_of(first).items()}
    seen = set(groups_of(first).values())
    for method in METHODS:
        for subject, owner in groups_of(method).items():
            if owner in seen:
                continue
            seen.add(owner)
            title, names = _of_group(_title(subject, method, owner), owner, told)
            if names:
                yield title, names
    own = [field.name for field in dataclasses.fields(AnyRunSettings) if field.metadata]
    yield "seeds", list(own)


def _title(subject: str, method: str, owner: type) -> str:
    """The heading of settings of a further method, or of the data that several share."""
    if subject == "method":
        return f"method {method}"
    of = [name for name in METHODS if owner in groups_of(name).values()]
    return f"{subject} of {' and '.join(of)}"


def _of_group(
    title: str, owner: type, told: dict[str, dataclasses.Field[Any]]
) -> tuple[str, list[str | Described]]:
    """The settings of one more group: those that were not told yet, or of which more is to say."""
    names: list[str | Described] = []
    known = []
    for field in dataclasses.fields(owner):
        before = told.get(field.name)
        if before is None:
            told[field.name] = field
            names.append(field.name)
        elif (before.default, before.metadata) == (field.default, field.metadata):
            known.append(field.name)
        else:
            names.append(Described(field.name, field.default, _text(field)))
    also = f" (reads {', '.join(known)} as well)" if known else ""
    return f"{title}{also}", names
