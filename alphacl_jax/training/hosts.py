"""Training on several hosts: one process on each, all running the same program.

JAX joins the processes (`jax.distributed`), their devices form one mesh, and the step is written
for the whole batch. What is left to do is to join, to leave and to agree here, to have all stop
after the same step (`vote.py`), and to end where a process is lost (`watch.py`).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import jax
import numpy as np
from jax._src import distributed  # what JAX detected has no public name
from jax.experimental import multihost_utils

from alphacl_jax.signals import before_the_end
from alphacl_jax.training.coordinator import (
    HostsError,
    address_to_listen_at,
    host_and_port,
    wait_for_coordinator,
)
from alphacl_jax.training.last_words import LastWords, Words
from alphacl_jax.training.watch import RESUME, Watch

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Cluster:
    """Who takes part. The first three are given together, or left to JAX to detect (all None).

    Attributes:
      coordinator_address: host:port of process 0, where it listens for the others.
      num_processes: of the run.
      process_id: of this process, 0 to num_processes - 1.
      join_timeout: seconds to wait for the other processes at the start.
      heartbeat_timeout: seconds without a sign of life after which a process counts as lost. The
        others end within 5 seconds more; where process 0 hangs without having ended, JAX ends them
        after four times as long.
    """

    coordinator_address: str | None
    num_processes: int | None
    process_id: int | None
    join_timeout: int
    heartbeat_timeout: int


def is_writer() -> bool:
    """Whether this process is the one that writes records, pictures and what the screen shows."""
    return jax.process_index() == 0


def all_agree(yes: bool) -> bool:
    """Whether every process says yes; all must ask. It is a barrier, too."""
    return bool(np.all(multihost_utils.process_allgather(np.int32(yes))))


def own_copy(tree: Tree) -> Tree:
    """A copy on this process's first device of arrays that are the same on all devices."""
    return jax.tree.map(lambda x: jax.device_put(np.array(x)), tree)


@contextmanager
def joined(cluster: Cluster | None) -> Iterator[None]:
    """Joins the processes of a run for the time of a block, or until `leave`.

    Call it before anything asks JAX for devices. What stops this process alone is told to the
    others, which stop too. After an error the program must end: its exit code is 1.

    Args:
      cluster: who takes part; None is this process alone.

    Raises:
      HostsError: where the processes cannot be joined. Some failures end the process with a
        message and no exception: JAX gives up waiting in C++.
    """
    if cluster is None:
        yield
        return
    _join(cluster)
    try:
        yield
    except BaseException as error:
        if _watch is not None:
            _watch.give_up(error)
        raise
    leave()


def leave() -> None:
    """Ends the time together, once all processes are here; does nothing where there is none.

    From here on each process is by itself, and can compute on its own devices.
    """
    global _watch
    if _watch is not None:
        _watch.stop()
        jax.distributed.shutdown()
        _watch.speaker.release()
        _watch = None


_watch: Watch | None = None


def _join(cluster: Cluster) -> None:
    global _watch
    address, count = cluster.coordinator_address, cluster.num_processes
    listen_at = None
    if address is not None:
        if cluster.process_id == 0:
            listen_at = address_to_listen_at(address)
        else:
            wait_for_coordinator(address, cluster.join_timeout)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Its handler would swallow SIGTERM; the loop has its own.
    jax.config.update("jax_enable_preemption_service", False)
    _keep_stdout_for_python()
    speaker = LastWords()
    before_the_end(speaker.release)  # who ends by a signal of one's own was not killed
    speaker.say(_words_while_joining(cluster))
    try:
        jax.distributed.initialize(
            address,
            count,
            cluster.process_id,
            initialization_timeout=cluster.join_timeout,
            # Only for where the watch is stuck. JAX sends heartbeats at half this time, and so may
            # find a process lost after half of it.
            heartbeat_timeout_seconds=4 * cluster.heartbeat_timeout,
            shutdown_timeout_seconds=2 * cluster.heartbeat_timeout,
            coordinator_bind_address=listen_at,
        )
    except (ValueError, RuntimeError, OSError) as error:
        speaker.release()
        if address is None:
            raise HostsError(
                f"no cluster that JAX knows was found ({error}), and nobody said who takes part"
            ) from error
        raise HostsError(f"the processes could not be joined: {error}") from error
    except BaseException:
        speaker.release()
        raise
    speaker.say(_words_while_together())
    _watch = Watch(speaker, cluster.heartbeat_timeout)
    _watch.start()


def _words_while_joining(cluster: Cluster) -> Words:
    address, count = cluster.coordinator_address, cluster.num_processes
    return Words(
        aborted=f"{'the' if count is None else f'not all {count}'} processes of the run came "
        f"together within {cluster.join_timeout} s" + (f" at {address}" if address else ""),
        killed="this process was killed while the processes of the run came together",
        resume="Start the same command on each host, with a process id of its own",
    )


def _words_while_together() -> Words:
    """JAX ends a process that lost the first one, and the first one where it lost another."""
    me, count = jax.process_index(), jax.process_count()
    address = distributed.global_state.coordinator_address
    killed = f"process {me} was killed from outside, as the system does where memory is short"
    if me == 0 or address is None:
        return Words(f"{'process 1' if count == 2 else 'another process'} was lost", killed, RESUME)
    return Words(
        aborted="process 0, which coordinates the others, was lost",
        killed=killed,
        resume=RESUME,
        coordinator=host_and_port(address),
        silent="process 0, which coordinates the others, was lost: it does not answer",
        told="process 0, which coordinates the others, found that a process was lost, or that two "
        "have the same process id",
    )


def _keep_stdout_for_python() -> None:
    """Silences what C++ prints: gloo tells of each connection on standard output."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
