"""The fields of a settings class: their text, their range, and how they are read from text."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from alphacl_jax.errors import ArgumentError

# Names that other libraries and papers have for what is meant.
_OTHER_NAMES: Mapping[str, Mapping[str, str]] = {
    "loss": {
        "ntxent": "info_nce",
        "nt_xent": "info_nce",
        "simclr": "info_nce",
        "infonce": "info_nce",
        "quadratic": "alpha_uniform",
        "supcon": "supcon_out",
        "triplet": "triplet_all",
        "nca": "nca_log",
    },
    "optimizer": {"adamW": "adamw", "momentum": "sgd"},
}
_NOT_HERE: Mapping[str, Mapping[str, str]] = {
    "loss": dict.fromkeys(
        ("byol", "simsiam"),
        "it has no negatives, and so is no loss of this family but the method siamese. With "
        "negatives, alpha_direct is the default and info_nce is SimCLR's",
    )
    | dict.fromkeys(
        (
            "supcon",
            "supcon_out",
            "supcon_in",
            "nca",
            "nca_log",
            "nca_probability",
            "margin",
            "triplet_all",
            "triplet_hard",
            "triplet_semihard",
        ),
        "it reads labels: the method supervised has it",
    ),
}


def setting(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] = (),
    lower: float | None = None,
    upper: float | None = None,
    above: float | None = None,
    below: float | None = None,
    basic: bool = False,
) -> Any:
    """A field of a settings class.

    Args:
      default: its value where none is given.
      text: what the setting does, as the help prints it.
      choices: the words that it can be.
      lower, upper: the range of a number, or of each of several, ends included.
      above, below: the range, ends left out.
      basic: whether it is among the few that most runs set.
    """
    metadata = {
        "text": text,
        "choices": choices,
        "lower": lower,
        "upper": upper,
        "above": above,
        "below": below,
        "basic": basic,
    }
    return dataclasses.field(default=default, metadata=metadata)


def kind_of(owner: type, name: str) -> tuple[type, bool]:
    """What a field holds, `str`, `int`, `float`, `bool` or `tuple`, and whether it may be None."""
    hint = typing.get_type_hints(owner)[name]
    optional = False
    if isinstance(hint, types.UnionType):
        members = typing.get_args(hint)
        optional = types.NoneType in members
        kept = [member for member in members if member is not types.NoneType]
        hint = str if str in kept else kept[0]
    return typing.get_origin(hint) or hint, optional


def _element_of(owner: type, name: str) -> type:
    """What a tuple of a field holds, `int`, `float` or `str`."""
    element: type = typing.get_args(typing.get_type_hints(owner)[name])[0]
    return element


_WANTED = {
    int: "must be a whole number",
    float: "must be a number",
    bool: "must be True or False",
    str: "must be a string",
}
_ELEMENTS_WANTED = {
    int: "must be whole numbers >= 1, such as 32,64,128",
    float: "must be numbers, such as 0.01,0.1,1",
    str: "must be one or more words, with commas between them",
}


def parse(owner: type, field: dataclasses.Field[Any], text: str) -> Any:
    """The value that a text on the command line or in a flag file stands for.

    Raises:
      ArgumentError: where it stands for none.
    """
    kind, optional = kind_of(owner, field.name)
    if optional and text == "":
        return None
    try:
        if kind is int:
            return int(text)
        if kind is float:
            return float(text)
        if kind is tuple:
            element = _element_of(owner, field.name)
            return tuple(element(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ArgumentError(field.name, text, _wanted(owner, field.name, kind)) from error
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ArgumentError(field.name, text, "must be true or false")
        return text.lower() == "true"
    return int(text) if _is_count(owner, field.name) and text.isdecimal() else text


def _wanted(owner: type, name: str, kind: type) -> str:
    if kind is str and _is_count(owner, name):
        return "must be a whole number >= 1, or auto"
    return _ELEMENTS_WANTED[_element_of(owner, name)] if kind is tuple else _WANTED[kind]


def check_settings(settings: Any) -> None:
    """Checks every field of a settings class against its type and its range.

    Raises:
      ArgumentError: naming the first that does not fit.
    """
    for field in dataclasses.fields(settings):
        if field.metadata:
            _check(type(settings), field, getattr(settings, field.name))


def _check(owner: type, field: dataclasses.Field[Any], value: Any) -> None:
    kind, optional = kind_of(owner, field.name)
    if value is None:
        if not optional:
            raise ArgumentError(field.name, value, "must be given")
        return
    fits = {
        int: isinstance(value, int) and _numeric(value),
        float: _numeric(value),
        bool: isinstance(value, bool),
        tuple: isinstance(value, tuple) and bool(value),
        str: _count_or_auto(value) if _is_count(owner, field.name) else isinstance(value, str),
    }[kind]
    element = _element_of(owner, field.name) if kind is tuple else kind
    if fits and kind is tuple:
        of_its = {int: _whole, float: _numeric, str: _word}[element]
        fits = all(of_its(part) for part in value)
    if not fits:
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        raise ArgumentError(field.name, shown, _wanted(owner, field.name, kind))
    choices = field.metadata["choices"]
    for part in value if kind is tuple else (value,):
        if element in (int, float):
            _check_range(field, part)
        if choices and part not in choices:
            raise ArgumentError(field.name, part, _not_among(field.name, part, choices))


def _is_count(owner: type, name: str) -> bool:
    """Whether a field of texts holds a whole number, or "auto"."""
    return int in typing.get_args(typing.get_type_hints(owner)[name])


def _count_or_auto(value: Any) -> bool:
    return _whole(value) or value == "auto"


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and _numeric(value) and value >= 1


def _word(value: Any) -> bool:
    return isinstance(value, str)


# What is computed with them is float32, in which the rest are infinite or, below, 0.
_LARGEST, _SMALLEST = 3.4e38, 1.2e-38


def _check_range(field: dataclasses.Field[Any], value: float) -> None:
    lower, upper, above, below = (
        field.metadata[name] for name in ("lower", "upper", "above", "below")
    )
    fits = math.isfinite(value)
    fits &= (lower is None or value >= lower) and (upper is None or value <= upper)
    fits &= (above is None or value > above) and (below is None or value < below)
    if not fits:
        bounds = ((">=", lower), ("<=", upper), (">", above), ("<", below))
        wanted = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
        problem = f"is out of range; it must be a finite number {wanted}".rstrip()
        raise ArgumentError(field.name, f"{value:g}", problem)
    if not (value == 0 or _SMALLEST < abs(value) < _LARGEST):
        raise ArgumentError(
            field.name,
            f"{value:g}",
            f"is no number of float32, which holds those from {_SMALLEST:g} to {_LARGEST:g}",
        )


def _not_among(name: str, value: str, choices: tuple[str, ...]) -> str:
    """What to say of a word that is none of the choices, with a guess at what was meant."""
    meant = _OTHER_NAMES.get(name, {}).get(value)
    if meant not in choices and value in _NOT_HERE.get(name, {}):
        return f"is not here: {_NOT_HERE[name][value]}"
    close = [meant] if meant in choices else difflib.get_close_matches(value, choices, n=1)
    guess = f" Did you mean {close[0]}?" if close else ""
    return f"is unknown.{guess} It must be one of {', '.join(choices)}"


def require_default(settings: Any, name: str, readers: str) -> None:
    """Refuses a setting that would have no effect.

    Raises:
      ArgumentError: where it is set.
    """
    (field,) = (field for field in dataclasses.fields(settings) if field.name == name)
    value = getattr(settings, name)
    if value != field.default:
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        raise ArgumentError(name, shown, f"is set, and only {readers} read it")
