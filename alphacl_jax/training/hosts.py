"""Training on several hosts: one process on each, all running the same program.

JAX joins the processes (`jax.distributed`), their devices form one mesh, and the step is written
for the whole batch. What is left to do is to join, to leave and to agree here, to have all stop
after the same step (`vote.py`), and to end where a process is lost (`watch.py`).
"""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from alphacl_jax.training.watch import RESUME, LastWords, Watch

Tree = TypeVar("Tree")


class HostsError(RuntimeError):
    """The processes could not be joined.

    Attributes:
      problem: what is wrong, and what to do.
      argument: the name of what of a `Cluster` is wrong, or None where it is none of it alone.
      value: what it was.
    """

    def __init__(self, problem: str, argument: str | None = None, value: Any = None):
        super().__init__(problem, argument, value)
        self.problem, self.argument, self.value = problem, argument, value

    def __str__(self) -> str:
        return f"{self.argument}={self.value} {self.problem}" if self.argument else self.problem


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
        _watch.speaker.say("")
        _watch = None


_watch: Watch | None = None


def _join(cluster: Cluster) -> None:
    global _watch
    address, count = cluster.coordinator_address, cluster.num_processes
    if address is not None:
        _try_address(address, cluster.process_id == 0, cluster.join_timeout)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Its handler would swallow SIGTERM; the loop has its own.
    jax.config.update("jax_enable_preemption_service", False)
    _keep_stdout_for_python()
    speaker = LastWords()
    speaker.say(
        f"error: {'the' if count is None else f'not all {count}'} processes of the run came "
        f"together within {cluster.join_timeout} s"
        + (f" at {address}" if address else "")
        + ". Start the same command on each host, with a process id of its own"
    )
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
        )
    except (ValueError, RuntimeError, OSError) as error:
        speaker.say("")
        if address is None:
            raise HostsError(
                f"no cluster that JAX knows was found ({error}), and nobody said who takes part"
            ) from error
        raise HostsError(f"the processes could not be joined: {error}") from error
    except BaseException:
        speaker.say("")
        raise
    speaker.say(
        f"error: process {jax.process_index()} was ended from outside: process 0 or another one "
        f"was lost, or this one was killed. {RESUME}"
    )
    _watch = Watch(speaker, cluster.heartbeat_timeout)
    _watch.start()


def _try_address(address: str, listens: bool, timeout: int) -> None:
    """Says what is wrong with an address, where JAX would end the process with a stack trace."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise HostsError("must be host:port, such as node0:1234", "coordinator_address", address)
    try:
        if listens:
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("", int(port)))
            return
        deadline = time.monotonic() + timeout
        while True:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
    except OSError as error:
        problem = (
            "cannot be listened at; choose another port"
            if listens
            else f"cannot be reached after {timeout} s; check it, and that process 0 was started"
        )
        raise HostsError(f"{problem} ({error})", "coordinator_address", address) from error


def _keep_stdout_for_python() -> None:
    """Silences what C++ prints: gloo tells of each connection on standard output."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
