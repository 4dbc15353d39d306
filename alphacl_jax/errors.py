"""The errors that callers may want to tell apart."""

from collections.abc import Mapping
from typing import Any

# What a message has room for: items of a tuple one by one, and characters of anything else.
_FEW, _LONG = 3, 120


def differences(found: Mapping[str, tuple[Any, Any]]) -> str:
    """Such as "seed is 1 there and 2 here", of name → (the value there, the value here)."""
    return "; ".join(
        f"{name} is {there!r} there and {here!r} here" for name, (there, here) in found.items()
    )


def shown(value: Any) -> str:
    """A value as a message shows it: what it is and how large, not what it holds."""
    shape = getattr(value, "shape", None)
    if shape:
        return f"<array of shape {shape}>"
    if isinstance(value, tuple) and len(value) <= _FEW:
        return f"({', '.join(map(shown, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list | tuple | dict | set):
        return f"<{type(value).__name__} of {len(value)}>"
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


class ArgumentError(ValueError):
    """An argument has a value that it cannot take: "temperature=-1 must be ...".

    Attributes:
      argument: the argument's name, which the command line turns into a flag.
      value: what it was, as shown.
      problem: what is wrong with it, and what to do: the rest of the message.
    """

    def __init__(self, argument: str, value: Any, problem: str):
        super().__init__(argument, value, problem)
        self.argument, self.value, self.problem = argument, value, problem

    def __str__(self) -> str:
        return f"{self.argument}={self.value} {self.problem}"


class RunError(Exception):
    """Something that the person at the keyboard can put right; shown without a traceback."""
