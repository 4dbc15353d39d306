"""The errors that callers may want to tell apart."""

from typing import Any


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
