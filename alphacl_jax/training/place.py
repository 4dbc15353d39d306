"""Whether a folder that is written to for hours is still the one that it was at the start."""

import errno
import os
from pathlib import Path

from alphacl_jax.errors import RunError

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


class LostFolderError(RunError):
    """The folder that a run writes to was deleted, moved away or replaced by another one."""


class Place:
    """A folder that is held open, so that another one under its path is told from it."""

    def __init__(self, folder: Path):
        """Opens it; `close` lets go of it."""
        self._folder, self._descriptor = folder, os.open(folder, os.O_RDONLY)

    def require(self) -> None:
        """Does nothing where the path still leads to the folder.

        Raises:
          LostFolderError: where it does not: what is written there would be lost, or spoil
            somebody else's folder.
        """
        try:
            if os.path.samestat(os.stat(self._folder), os.fstat(self._descriptor)):
                return
        except OSError as error:
            if error.errno not in _GONE:
                raise
        raise LostFolderError(
            f"{self._folder} was deleted, moved or replaced while the run wrote to it, so the run "
            "ends here. Put it back, and the same command goes on from its last checkpoint; else "
            "it starts anew"
        )

    def close(self) -> None:
        """Lets go of the folder."""
        os.close(self._descriptor)
