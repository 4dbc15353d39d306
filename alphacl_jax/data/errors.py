"""The errors of data that callers may want to tell apart."""

from typing import Any

from alphacl_jax.errors import ArgumentError, RunError


class MissingDataError(ArgumentError, FileNotFoundError):
    """Data that is not where an argument says: a FileNotFoundError that names the argument."""


class NotAFolderError(ArgumentError, NotADirectoryError):
    """A file where an argument needs a folder."""


class MixedSizesError(ArgumentError):
    """Images of several sizes where no size was asked for.

    Attributes:
      suggested: an `image_size` that suits the images.
    """

    def __init__(self, argument: str, value: Any, problem: str, suggested: int):
        super().__init__(argument, value, problem)
        self.args = (argument, value, problem, suggested)
        self.suggested = suggested


class DataAwayError(RunError):
    """Data that cannot be read, for no reason that lies in the data: see `outages`."""
