"""Checkpoints that survive being killed: written whole, verified when read, the last few kept."""

import errno
import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from logging import LogRecord
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from alphacl_jax.files import in_words, is_full, sync_folder, system_error
from alphacl_jax.training.hosts import all_agree, is_writer
from alphacl_jax.training.place import Place
from alphacl_jax.training.state import TrainState

# What the system says of files that may be whole, and are not to be set aside.
_NO_DAMAGE = (
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.ESTALE, errno.ETIMEDOUT),
)


class UnusableCheckpointsError(RuntimeError):
    """There are checkpoints, and none of them can be read."""


class UnsavedError(RuntimeError):
    """A checkpoint could not be written; those before it are as they were."""


class Checkpoints:
    """The checkpoints of one run.

    Each holds the train state (parameters, optimiser, BatchNorm, step, random key), the loop's
    position (that in the data, and what is not recorded yet), and a checksum of every array.
    Orbax writes to a temporary folder and renames it, so a save that was cut off leaves no
    checkpoint behind.

    Where several processes train, all of them save and restore together, in a folder that all see.
    """

    def __init__(self, directory: Path, *, keep: int = 3, read_only: bool = False):
        """Opens the checkpoints in a folder.

        Args:
          directory: of the checkpoints.
          keep: how many to keep, the newest.
          read_only: change nothing in the folder, where another process may be training.
        """
        self._directory, self._read_only = directory.absolute(), read_only
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=not read_only,
            cleanup_tmp_directories=not read_only,  # what saves that were cut off left behind
            # The state's memory is donated to the next step: a save must be done before that.
            enable_async_checkpointing=False,
        )
        self._manager = self._reader = ocp.CheckpointManager(self._directory, options=options)
        self._place = None if read_only else Place(self._directory)
        if jax.process_count() > 1:
            # Reads without the others: one that finds damage must not leave them waiting for it.
            alone = ocp.options.MultiprocessingOptions(
                primary_host=jax.process_index(), active_processes={jax.process_index()}
            )
            self._reader = ocp.CheckpointManager(
                self._directory,
                options=ocp.CheckpointManagerOptions(
                    create=False,
                    cleanup_tmp_directories=False,
                    enable_async_checkpointing=False,
                    multiprocessing_options=alone,
                ),
            )

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in rising order."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, position: dict[str, Any]) -> None:
        """Saves a state and the loop's position (a JSON-able dict), unless the step is there.

        Raises:
          LostFolderError: where the folder was deleted or replaced since it was opened.
          UnsavedError: where there is no room, or no right to write.
        """
        assert self._place is not None, "opened to be read only"
        self._place.require()
        step = int(state.step)
        if step in self.steps():
            return
        tree = state._asdict()
        extra = {"position": position, "checksums": _checksums(tree, position)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(tree), extra=ocp.args.JsonSave(extra))
        try:
            with _threads_unheard():
                self._manager.save(step, args=args)
            # Orbax has given the files their names; the disk need not have them yet.
            sync_folder(self._directory / str(step))
        except Exception as error:  # tensorstore's are ValueErrors
            if (cause := system_error(error, self._directory)) is None:
                raise
            raise UnsavedError(self._unsaved(step, tree, cause)) from error

    def _unsaved(self, step: int, tree: Any, cause: OSError) -> str:
        kept = [saved for saved in self.steps() if saved != step]
        # Of the folder that people know, and not of some file deep in it.
        cause = OSError(cause.errno, cause.strerror, str(self._directory))
        return (
            f"step {step} could not be saved in "
            f"{in_words(cause, sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))}. "
            + (f"Step {kept[-1]} is kept there" if kept else "No step was saved before it")
            + f". {'Make room' if is_full(cause) else 'Put that right'}, and give the same command "
            + ("again to go on from there" if kept else "again")
        )

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest checkpoint that can be read and whose checksums hold.

        Damaged ones are passed over with a warning each and, unless `read_only`, moved aside into
        `damaged/` beside the others.

        Args:
          like: a state of the same shapes, types and placement.

        Returns:
          The state and the position, or None where there is no checkpoint.

        Raises:
          UnusableCheckpointsError: where there are checkpoints and none of them can be used.
        """
        steps = self.steps()
        for step in reversed(steps):
            if (found := self.read(step, like)) is not None:
                return found
        if steps:
            moved = (
                ""
                if self._read_only
                else "; they were moved to its folder 'damaged'. The same command now starts the "
                "run from its first step"
            )
            raise UnusableCheckpointsError(
                f"none of the checkpoints of steps {steps} in {self._directory} can be read{moved}"
            )
        return None

    def read(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The checkpoint of one step, or None where it is damaged; see `restore`.

        One that any process finds damaged is damaged for all.
        """
        found, problem = None, "another process: see its log"
        try:
            found = self._read(step, like)
        except Exception as error:  # what orbax raises depends on which byte is wrong
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                raise  # the memory is short, not the checkpoint damaged
            cause = system_error(error, self._directory / str(step))
            if cause is not None and cause.errno in _NO_DAMAGE:
                raise cause from error
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            problem = f"{type(error).__name__}: {reason:.80}"
        if all_agree(found is not None):
            return found
        logging.warning(
            "The checkpoint of step %d is damaged (%s); it %s and the one before it is tried.",
            step,
            problem,
            "is passed over" if self._read_only else f"was moved to {self._set_aside(step)}",
        )
        return None

    def forget_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps, so that these can be taken anew."""
        for later in [saved for saved in self.steps() if saved > step]:
            logging.warning(
                "The run of %s goes back to step %d; its checkpoint of step %d is deleted.",
                self._directory.parent,
                step,
                later,
            )
            self._manager.delete(later)

    def _read(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
        restored = self._reader.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(target), extra=ocp.args.JsonRestore()
            ),
        )
        found = _checksums(restored.state, restored.extra["position"])
        wanted = restored.extra["checksums"]
        wrong = [name for name in wanted if found.get(name) != wanted[name]]
        if wrong or len(found) != len(wanted):
            raise ValueError(f"checksums differ in {len(wrong)} entries, first {wrong[:1]}")
        return TrainState(**restored.state), restored.extra["position"]

    def _set_aside(self, step: int) -> Path:
        target = self._directory / "damaged" / str(step)
        if is_writer():
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            shutil.move(self._directory / str(step), target)
        all_agree(True)
        self._manager.reload()
        return target

    def close(self) -> None:
        """Releases what the manager holds."""
        for manager in {self._manager, self._reader}:
            manager.close()
        if self._place is not None:
            self._place.close()
            self._place = None


@contextmanager
def _threads_unheard() -> Iterator[None]:
    """Keeps the tracebacks that orbax's threads log to themselves: their errors are raised, too."""

    def is_heard(record: LogRecord) -> bool:
        return "orbax" not in Path(record.pathname).parts

    logger = logging.get_absl_logger()
    logger.addFilter(is_heard)
    try:
        yield
    finally:
        logger.removeFilter(is_heard)


def _checksums(tree: Any, position: dict[str, Any]) -> dict[str, int]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    sums = {
        jax.tree_util.keystr(path): zlib.crc32(np.ascontiguousarray(leaf).tobytes())
        for path, leaf in leaves
    }
    return {**sums, "position": zlib.crc32(json.dumps(position, sort_keys=True).encode())}
