"""A run's settings as text, one `--name=value` a line: absl's flag file format.

A run folder keeps them so: `--flagfile=RUN/flags.txt` repeats the run.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs.common_settings import AnyRunSettings
from alphacl_jax.runs.fields import kind_of, parse
from alphacl_jax.runs.method_settings import MethodSettings
from alphacl_jax.runs.recording_settings import (
    CEBRARunSettings,
    CPCRunSettings,
    RecordingRunSettings,
)
from alphacl_jax.runs.settings import RunSettings

# The settings of a run by what it is trained on.
KINDS: tuple[type[AnyRunSettings], ...] = (RunSettings, CPCRunSettings, CEBRARunSettings)
# Every method that can be trained, by name.
METHODS: Mapping[str, type[MethodSettings]] = {
    name: owner for kind in KINDS for name, owner in kind.methods.items()
}
# In the order in which people are told of them.
_SUBJECTS = ("data", "augmentation", "model", "method", "optimizer", "evaluation")

Fields = dict[str, tuple[type, dataclasses.Field[Any]]]


def kind_of_run(method: str) -> type[AnyRunSettings]:
    """The class of the settings of a run with this method."""
    return next(kind for kind in KINDS if method in kind.methods)


def of_images(settings: AnyRunSettings) -> RunSettings:
    """The same settings, where they are of a run on images.

    Raises:
      RunError: where they are of another.
    """
    if isinstance(settings, RunSettings):
        return settings
    raise RunError(
        f"the method {method_name(settings)} is trained on recordings over time, and this is for "
        "images: `alphacl evaluate` looks at such a run, and load_recording_encoder loads it"
    )


def of_recordings(settings: AnyRunSettings) -> RecordingRunSettings:
    """The same settings, where they are of a run on recordings.

    Raises:
      RunError: where they are of another.
    """
    if isinstance(settings, RecordingRunSettings):
        return settings
    raise RunError(
        f"the method {method_name(settings)} is trained on images, and this is for recordings over "
        "time: load_encoder loads it"
    )


def groups_of(method: str) -> dict[str, type]:
    """The settings classes of a run with this method, by their field of the run's settings."""
    fields = {field.name: field for field in dataclasses.fields(kind_of_run(method))}
    return {
        name: METHODS[method] if name == "method" else type(fields[name].default)
        for name in _SUBJECTS
        if name in fields
    }


def fields_of(method: str) -> Fields:
    """Every setting of a run with this method: name → (its class, its field)."""
    kind = kind_of_run(method)
    found: Fields = {f.name: (kind, f) for f in dataclasses.fields(kind) if f.metadata}
    for owner in groups_of(method).values():
        found |= {field.name: (owner, field) for field in dataclasses.fields(owner)}
    return found


def method_name(settings: AnyRunSettings) -> str:
    """What the settings' method is called."""
    return next(name for name, owner in METHODS.items() if type(settings.method) is owner)


def as_mapping(settings: AnyRunSettings) -> dict[str, Any]:
    """All settings by name, the method among them."""
    values: dict[str, Any] = {"method": method_name(settings)}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        values |= {field.name: value} if field.metadata else vars(value)
    return values


def from_mapping(values: Mapping[str, Any]) -> AnyRunSettings:
    """The settings that `as_mapping` gave; those left out have their defaults.

    Raises:
      ArgumentError: for a method or a setting that there is not, and a value out of range.
    """
    method = values.get("method", next(iter(METHODS)))
    if method not in METHODS:
        raise ArgumentError("method", method, f"is none of {', '.join(METHODS)}")
    known = fields_of(method)
    for name, value in values.items():
        if name != "method" and name not in known:
            raise ArgumentError(name, value, f"is no setting of the method {method}")

    def filled(owner: type) -> Any:
        names = {field.name for field in dataclasses.fields(owner) if field.metadata}
        return owner(**{name: values[name] for name in names & values.keys()})

    groups = {name: filled(owner) for name, owner in groups_of(method).items()}
    kind = kind_of_run(method)
    own = {f.name for f in dataclasses.fields(kind) if f.metadata}
    return kind(**groups, **{name: values[name] for name in own & values.keys()})


def to_text(settings: AnyRunSettings) -> str:
    """The settings as a flag file; what is None is left out.

    Raises:
      ArgumentError: for a value of several lines, which a flag file cannot hold.
    """
    lines = []
    for name, value in sorted(as_mapping(settings).items()):
        if isinstance(value, bool):
            lines.append(f"--{name}" if value else f"--no{name}")
        elif value is not None:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            if len(str(shown).splitlines()) > 1:
                raise ArgumentError(name, repr(value), "must be one line")
            lines.append(f"--{name}={shown}")
    return "\n".join(lines) + "\n"


def from_text(text: str) -> AnyRunSettings:
    """The settings that a flag file holds.

    Raises:
      ArgumentError: for a value that a setting cannot take.
      ValueError: for a line that is none of `to_text`.
    """
    given = dict(map(_entry, filter(_is_entry, text.splitlines())))
    method = given.pop("method", None) or next(iter(METHODS))
    if method not in METHODS:
        raise ArgumentError("method", method, f"is none of {', '.join(METHODS)}")
    known = fields_of(method)
    values: dict[str, Any] = {"method": method}
    for name, value in given.items():
        if value is None and name.startswith("no") and _is_switch(known, name[2:]):
            values[name[2:]] = False
        elif name not in known:
            raise ValueError(f"unknown setting {name!r}")
        elif value is None and not _is_switch(known, name):
            raise ValueError(f"{name!r} has no value")
        else:
            values[name] = True if value is None else parse(*known[name], value)
    return from_mapping(values)


def _is_entry(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _entry(line: str) -> tuple[str, str | None]:
    """`--name=value`, or a switch, whose value is None."""
    name, equals, value = line.removeprefix("--").partition("=")
    if not line.startswith("--"):
        raise ValueError(f"it holds {line!r}")
    return name, value if equals else None


def _is_switch(known: Fields, name: str) -> bool:
    return name in known and kind_of(known[name][0], name)[0] is bool
