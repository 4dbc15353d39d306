"""What all processes of a run do after the same step: save, or save and stop."""

import signal
from collections import deque
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alphacl_jax.methods.method import Metrics

_STEPS_AHEAD = 2  # of the devices' work, that the host may dispatch on accelerators


class StopVote:
    """Has all processes save or stop after the same step, once one of them wants to.

    Each step asks all processes; on accelerators the answer is read a few steps later, so that
    the host need not wait for the devices. With one process the answer is what was asked.
    """

    def __init__(self, mesh: Mesh):
        self._several = jax.process_count() > 1
        if not self._several:
            return
        self._on_cpu = jax.default_backend() == "cpu"
        self._devices, self._spread = mesh.size, NamedSharding(mesh, P("data"))
        self._most = jax.jit(partial(jnp.max, axis=0), out_shardings=NamedSharding(mesh, P()))
        self._asked: deque[jax.Array] = deque()
        self._outdated = 0  # of those, the votes from before the last save

    def __call__(
        self, told: signal.Signals | None, save: bool, metrics: Metrics
    ) -> tuple[signal.Signals | None, bool]:
        """The signal that stops the run after this step, if any, and whether to save after it.

        Args:
          told: the signal that came to this process.
          save: whether this process finds that it is time to.
          metrics: of this step.
        """
        if not self._several:
            return told, save
        if self._on_cpu:
            # Two programs under way at once may meet in the network in a different order on each
            # host, and wait for each other for ever.
            jax.block_until_ready(metrics)
        own = np.array([[told or 0, save]], np.int32)
        votes = jax.make_array_from_callback((self._devices, 2), self._spread, lambda _: own)
        self._asked.append(self._most(votes))
        if len(self._asked) <= (0 if self._on_cpu else _STEPS_AHEAD):
            return None, False
        number, wanted = np.asarray(self._asked.popleft()).tolist()
        outdated, self._outdated = self._outdated > 0, max(0, self._outdated - 1)
        return signal.Signals(number) if number else None, bool(wanted) and not outdated

    def saved(self) -> None:
        """Tells that all have saved: who wanted to until now need not do it again."""
        if self._several:
            self._outdated = len(self._asked)
