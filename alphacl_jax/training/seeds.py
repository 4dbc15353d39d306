"""Runs that differ by their seed alone, trained as one program.

Each member keeps what it has when it trains by itself: parameters, optimiser, BatchNorm statistics,
random key, order of the data, and a run folder with its own checkpoints and records. So a member
can be resumed, evaluated and exported as any other run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alphacl_jax.data.batches import Batches, State
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.models.conv import compiler_options
from alphacl_jax.training.checkpoint import Checkpoints, UnusableCheckpointsError
from alphacl_jax.training.records import Recorder
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import MakeViews, step_of


@jax.jit
def stack_states(members: Sequence[TrainState]) -> TrainState:
    """One state whose every array has a leading axis over members, `[members, ...]`."""
    return jax.tree.map(lambda *x: jnp.stack(x), *members)


@jax.jit
def unstack_states(stacked: TrainState) -> list[TrainState]:
    """The members that `stack_states` put together."""
    leaves, structure = jax.tree.flatten(stacked)
    members = range(len(stacked.step))
    return [jax.tree.unflatten(structure, [x[i] for x in leaves]) for i in members]


def make_seeds_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    make_views: MakeViews,
    mesh: Mesh,
) -> Callable[[TrainState, Sequence[Batch]], tuple[TrainState, Metrics]]:
    """Compiles the step of `make_train_step` for several members at once.

    Args:
      method, optimizer, make_views: as in `make_train_step`.
      mesh: the devices. Batches are spread over its "data" axis; members are not spread: each
        device works on its part of every member's batch.

    Returns:
      `(stacked state, one batch per member) -> (stacked state, metrics [members])`; the state's
      memory is reused.
    """
    replicated, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    one = step_of(method, optimizer, make_views)

    @partial(
        jax.jit,
        donate_argnums=0,
        in_shardings=(replicated, spread),
        out_shardings=(replicated, replicated),
        compiler_options=compiler_options(),
    )
    def train_step(state: TrainState, batches: Sequence[Batch]) -> tuple[TrainState, Metrics]:
        return jax.vmap(one)(state, jax.tree.map(lambda *x: jnp.stack(x), *batches))

    return train_step


class SeedsBatches:
    """The members' batches side by side; each member has its own order of the data."""

    def __init__(self, members: Sequence[Batches]):
        self._members = members
        self.steps_per_epoch = members[0].steps_per_epoch

    def __iter__(self) -> Iterator[list[Batch]]:
        return self

    def __next__(self) -> list[Batch]:
        return [next(member) for member in self._members]

    def get_state(self) -> State:
        return {"members": [member.get_state() for member in self._members]}

    def set_state(self, state: State) -> None:
        for member, position in zip(self._members, state["members"], strict=True):
            member.set_state(position)


class SeedsCheckpoints:
    """What `Checkpoints` is to a state, for a stacked one: each member's lie in its own folder."""

    def __init__(self, workdirs: Sequence[Path]):
        self._members = [Checkpoints(workdir / "checkpoints") for workdir in workdirs]

    def steps(self) -> list[int]:
        """The steps that have a checkpoint of every member, in rising order."""
        return sorted(set.intersection(*(set(member.steps()) for member in self._members)))

    def save(self, state: TrainState, position: State) -> None:
        """Saves each member's state, and its position in the data."""
        for member, one, place in zip(
            self._members, unstack_states(state), position["members"], strict=True
        ):
            member.save(one, place)

    def restore(self, like: TrainState) -> tuple[TrainState, State] | None:
        """The newest step of which every member has a good checkpoint.

        Members that got further are taken back to it: their newer checkpoints are deleted.

        Args:
          like: a stacked state of the same shapes, types and placement.

        Returns:
          The stacked state and the positions in the data, or None where the members have no
          checkpoint in common, which means starting from the first step.

        Raises:
          UnusableCheckpointsError: where damaged checkpoints are the reason for that.
        """
        likes = unstack_states(like)
        damaged = False
        while steps := self.steps():
            found = [m.read(steps[-1], one) for m, one in zip(self._members, likes, strict=True)]
            good = [pair for pair in found if pair is not None]
            if len(good) == len(found):
                self._forget_after(steps[-1])
                states, positions = zip(*good, strict=True)
                return stack_states(states), {"members": list(positions)}
            damaged = True
        if damaged:
            raise UnusableCheckpointsError(
                "no checkpoint that all seeds have can be read; the damaged ones were moved to "
                "their runs' folders 'checkpoints/damaged'. The same command now starts these "
                "runs from their first step"
            )
        self._forget_after(0)
        return None

    def _forget_after(self, step: int) -> None:
        for member in self._members:
            member.forget_after(step)

    def close(self) -> None:
        """Releases what the managers hold."""
        for member in self._members:
            member.close()


class SeedsRecorder:
    """Writes each member's part of a record into its own run folder."""

    def __init__(self, workdirs: Sequence[Path], step: int):
        self._members = [Recorder(workdir, step) for workdir in workdirs]

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record; what is a list holds one value per member."""
        for i, member in enumerate(self._members):
            member.write({k: v[i] if isinstance(v, list) else v for k, v in record.items()})

    def close(self) -> None:
        """Flushes and closes all files."""
        for member in self._members:
            member.close()
