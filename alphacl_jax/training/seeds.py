"""Runs that differ by their seed alone, trained as one program.

Each member keeps what it has when it trains by itself: parameters, optimiser, BatchNorm statistics,
random key, order of the data, and a run folder with its own checkpoints and records. So a member
can be resumed, evaluated and exported as any other run.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alphacl_jax.data.batches import Batches, State
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.training.checkpoint import Checkpoints, UnusableCheckpointsError
from alphacl_jax.training.compiler import compiler_options
from alphacl_jax.training.records import Record, Recorder
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import MakeBatch, step_of


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
    make_batch: MakeBatch,
    learning_rate: optax.Schedule,
    mesh: Mesh,
) -> Callable[[TrainState, Sequence[Batch], bool], tuple[TrainState, Metrics]]:
    """Compiles the step of `make_train_step` for several members at once.

    Args:
      method, optimizer, make_batch, learning_rate: as in `make_train_step`.
      mesh: the devices. Batches are spread over its "data" axis; members are not spread: each
        device works on its part of every member's batch.

    Returns:
      `(stacked state, one raw batch per member, recorded) -> (stacked state, metrics [members])`;
      the state's memory is reused.
    """
    replicated, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    one = step_of(method, optimizer, make_batch, learning_rate)

    @partial(
        jax.jit,
        donate_argnums=0,
        in_shardings=(replicated, spread, replicated),
        out_shardings=(replicated, replicated),
        compiler_options=compiler_options(),
    )
    def train_step(
        state: TrainState, batches: Sequence[Batch], recorded: Array
    ) -> tuple[TrainState, Metrics]:
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
        # One `recorded` for all: a condition that differed by member would be computed both ways.
        return jax.vmap(one, in_axes=(0, 0, None))(state, stacked, recorded)

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

    def damage_since(self, step: int) -> str:
        """What was found to be damaged, by each member; see `Batches`."""
        return ". ".join(filter(None, (member.damage_since(step) for member in self._members)))

    def get_state(self) -> State:
        return {"members": [member.get_state() for member in self._members]}

    def set_state(self, state: State) -> None:
        for member, position in zip(self._members, state["members"], strict=True):
            member.set_state(position)


class SeedsCheckpoints:
    """What `Checkpoints` is to a state, for a stacked one: each member's lie in its own folder."""

    def __init__(self, folders: Sequence[Path]):
        """Opens them.

        Args:
          folders: where the members' checkpoints are, in the order of the stacked state.
        """
        self._members = [Checkpoints(folder) for folder in folders]

    def steps(self) -> list[int]:
        """The steps that have a checkpoint of every member, in rising order."""
        return sorted(set.intersection(*(set(member.steps()) for member in self._members)))

    def save(self, state: TrainState, position: State) -> None:
        """Saves each member's state, and its part of the loop's position."""
        for member, one, place in zip(
            self._members, unstack_states(state), _parts(position), strict=True
        ):
            member.save(one, place)

    def restore(self, like: TrainState) -> tuple[TrainState, State] | None:
        """The newest step of which every member has a good checkpoint.

        Members that got further are taken back to it: their newer checkpoints are deleted.

        Args:
          like: a stacked state of the same shapes, types and placement.

        Returns:
          The stacked state and the position, or None where the members have no checkpoint in
          common, which means starting from the first step.

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
                return stack_states(states), _whole(positions)
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


def _parts(position: State) -> list[State]:
    """Each member's part of the loop's position: as if it had trained by itself."""
    values = position["unrecorded"]
    return [
        {"data": data, "unrecorded": {name: [v[i] for v in of] for name, of in values.items()}}
        for i, data in enumerate(position["data"]["members"])
    ]


def _whole(parts: Sequence[State]) -> State:
    """The position that `_parts` took apart.

    Where members were last recorded at different steps, each by itself, the values of the last
    steps that they have in common are kept.
    """
    unrecorded = {}
    for name in parts[0]["unrecorded"]:
        members = [part["unrecorded"][name] for part in parts]
        common = min(len(of) for of in members)
        latest = [of[len(of) - common :] for of in members]
        unrecorded[name] = [list(values) for values in zip(*latest, strict=True)]
    return {"data": {"members": [part["data"] for part in parts]}, "unrecorded": unrecorded}


class SeedsRecorder:
    """Writes each member's part of a record into its own run folder."""

    def __init__(self, workdirs: Sequence[Path]):
        self.runs = [Recorder(workdir) for workdir in workdirs]

    @property
    def members(self) -> int:
        return len(self.runs)

    def begin(self, step: int) -> None:
        """Opens the files of all members."""
        for run in self.runs:
            run.begin(step)

    def write(self, record: Record) -> None:
        """Appends one record; what is a list holds one value per member."""
        for i, run in enumerate(self.runs):
            run.write({k: v[i] if isinstance(v, list) else v for k, v in record.items()})

    def sync(self) -> None:
        """Has the records of all members reach the disk."""
        for run in self.runs:
            run.sync()

    def close(self) -> None:
        """Closes all files."""
        for run in self.runs:
            run.close()
