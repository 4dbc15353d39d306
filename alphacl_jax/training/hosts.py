"""Training on several hosts: one process on each, all running the same program.

JAX joins the processes (`jax.distributed`), their devices form one mesh, and the step is written
for the whole batch. What is left to do is here: to join and to leave, to agree, and to stop where
a process is lost. A process can be lost while the others wait for it inside the step, which the
host cannot interrupt; so a thread of each process watches the others, and ends its own process
with a message. Where JAX's C++ code is quicker to end it, a child process has the last words.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import distributed  # the key-value store of the processes has no public name
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from alphacl_jax.methods.method import Metrics
from alphacl_jax.training.step import data_mesh

Tree = TypeVar("Tree")

_PERIOD = 1.0  # seconds between two looks at the other processes
_STEPS_AHEAD = 2  # of the devices' work, that the host may dispatch on accelerators
_RESUME = "The same command on all hosts resumes the run from its last checkpoint"
# Keeps the newest line that it is given, and prints it once nobody can give it another.
_SPEAKER = """trap '' HUP INT TERM
while read -r line; do words=$line; done
[ -z "$words" ] || echo "$words" >&2"""


class HostsError(RuntimeError):
    """The processes could not be joined; the message names the flags."""


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


class StopVote:
    """Has all processes stop after the same step, once one of them was told to.

    Each step asks all processes; on accelerators the answer is read a few steps later, so that
    the host need not wait for the devices. With one process the answer is what was asked.
    """

    def __init__(self) -> None:
        self._several = jax.process_count() > 1
        if not self._several:
            return
        mesh = data_mesh()
        self._on_cpu = jax.default_backend() == "cpu"
        self._devices, self._spread = mesh.size, NamedSharding(mesh, P("data"))
        self._most = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, P()))
        self._asked: deque[jax.Array] = deque()

    def __call__(self, told: signal.Signals | None, metrics: Metrics) -> signal.Signals | None:
        """The signal that stops the run after this step, if any.

        Args:
          told: the signal that came to this process.
          metrics: of this step.
        """
        if not self._several:
            return told
        if self._on_cpu:
            # Two programs under way at once may meet in the network in a different order on each
            # host, and wait for each other for ever.
            jax.block_until_ready(metrics)
        number = np.array([told or 0], np.int32)
        votes = jax.make_array_from_callback((self._devices,), self._spread, lambda _: number)
        self._asked.append(self._most(votes))
        if len(self._asked) <= (0 if self._on_cpu else _STEPS_AHEAD):
            return None
        answer = int(self._asked.popleft())
        return signal.Signals(answer) if answer else None


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
        if _session is not None:
            _session.give_up(error)
        raise
    leave()


def leave() -> None:
    """Ends the time together, once all processes are here; does nothing where there is none.

    From here on each process is by itself, and can compute on its own devices.
    """
    global _session
    if _session is not None:
        _session.stop()
        jax.distributed.shutdown()
        _session.speaker.say("")
        _session = None


class _LastWords:
    """A child process that prints the line it was told last when this one ends without a word."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(["sh", "-c", _SPEAKER], stdin=subprocess.PIPE, text=True)

    def say(self, words: str) -> None:
        """Replaces the words; none releases the child."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(f"{words}\n")
            self._child.stdin.flush()
            if not words:
                self._child.communicate()
        except (BrokenPipeError, ValueError):
            pass  # somebody ended the child: there is nothing to take back


class _Session(threading.Thread):
    """The time that the processes are together; the thread watches the other ones.

    Each process counts up under a key of its own in the store that process 0 keeps.
    """

    def __init__(self, speaker: _LastWords, heartbeat_timeout: int):
        super().__init__(daemon=True)
        self.speaker, self._timeout = speaker, heartbeat_timeout
        self._me, self._store = jax.process_index(), distributed.global_state.client
        self._others = set(range(jax.process_count())) - {self._me}
        self._stopped = threading.Event()

    def run(self) -> None:
        start = time.monotonic()
        heard = dict.fromkeys(self._others, ("", start))
        count = 0
        while not self._stopped.wait(_PERIOD):
            count += 1
            try:
                self._set(f"alive/{self._me}", str(count))
                alive, failed = self._get("alive/"), self._get("failed/")
            except Exception:  # what is raised depends on how the connection ended
                if not self._stopped.is_set():
                    self._end("process 0, which coordinates the others, was lost")
                return
            now = time.monotonic()
            for process in self._others:
                if process in failed:
                    self._end(f"process {process} stopped: {failed[process]}")
                if alive.get(process, "") != heard[process][0]:
                    heard[process] = alive[process], now
                elif now - heard[process][1] > self._timeout:
                    self._end(f"process {process} was lost: no sign of life for {self._timeout} s")

    def _set(self, key: str, value: str) -> None:
        assert self._store is not None
        self._store.key_value_set(key, value, allow_overwrite=True)

    def _get(self, folder: str) -> dict[int, str]:
        """What each process has set there."""
        assert self._store is not None
        entries = self._store.key_value_dir_get(folder)
        return {int(key.rsplit("/", 1)[1]): value for key, value in entries}

    def _end(self, reason: str) -> None:
        # Not an exception: the main thread may be waiting where it hears of none.
        print(f"\nerror: {reason}. {_RESUME}", file=sys.stderr, flush=True)
        self._let_others_hear()
        self.speaker.say("")
        _exit(1)

    def _let_others_hear(self) -> None:
        # JAX ends the others at once when process 0 goes, which keeps what they know.
        if self._me == 0:
            time.sleep(2 * _PERIOD)

    def stop(self) -> None:
        """Ends the watch."""
        self._stopped.set()
        self.join()

    def give_up(self, error: BaseException) -> None:
        """Tells the other processes why this one stops."""
        if isinstance(error, jax.errors.JaxRuntimeError):
            # Most likely a process was lost within a step: the watch will tell which.
            time.sleep(self._timeout + 2 * _PERIOD)
        reason = " ".join(str(error).split()) or type(error).__name__
        self._set(f"failed/{self._me}", reason[:500])
        self._let_others_hear()
        self.stop()
        self.speaker.say("")
        # Leaving in good order would wait for the others, which are leaving in none.
        atexit.register(_exit, 1)


_session: _Session | None = None


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _join(cluster: Cluster) -> None:
    global _session
    address, count = cluster.coordinator_address, cluster.num_processes
    if address is not None:
        _try_address(address, cluster.process_id == 0, cluster.join_timeout)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Its handler would swallow SIGTERM; the loop has its own.
    jax.config.update("jax_enable_preemption_service", False)
    _keep_stdout_for_python()
    speaker = _LastWords()
    speaker.say(
        f"error: {'the' if count is None else f'not all {count}'} processes of the run came "
        f"together within {cluster.join_timeout} s"
        + (f" at --coordinator_address={address}" if address else "")
        + ". Start the same command on each host, with a --process_id of its own"
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
                f"--distributed found no cluster that JAX knows ({error}). Give "
                "--coordinator_address, --num_processes and --process_id"
            ) from error
        raise HostsError(f"the processes could not be joined: {error}") from error
    except BaseException:
        speaker.say("")
        raise
    speaker.say(
        f"error: process {jax.process_index()} was ended from outside: process 0 or another one "
        f"was lost, or this one was killed. {_RESUME}"
    )
    _session = _Session(speaker, cluster.heartbeat_timeout)
    _session.start()


def _try_address(address: str, listens: bool, timeout: int) -> None:
    """Says what is wrong with an address, where JAX would end the process with a stack trace."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise HostsError(f"--coordinator_address={address} must be host:port, such as node0:1234")
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
        raise HostsError(f"--coordinator_address={address} {problem} ({error})") from error


def _keep_stdout_for_python() -> None:
    """Silences what C++ prints: gloo tells of each connection on standard output."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
