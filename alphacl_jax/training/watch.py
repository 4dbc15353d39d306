"""The watch of each process of a run over the others, which ends it where one of them is lost.

A process can be lost while the others wait for it inside the step, which the host cannot
interrupt; so a thread of each process watches the others, and ends its own process with a message.
Where JAX's C++ code is quicker to end it, a child process has the last words (`last_words.py`).
"""

import atexit
import os
import sys
import threading
import time

import jax
from jax._src import distributed  # the key-value store of the processes has no public name

from alphacl_jax.training.last_words import LastWords

_PERIOD = 1.0  # seconds between two looks at the other processes
RESUME = "The same command on all hosts resumes the run, from its last checkpoint if there is one"


class Watch(threading.Thread):
    """The time that the processes are together; the thread watches the other ones.

    Each process counts up under a key of its own in the store that process 0 keeps.
    """

    def __init__(self, speaker: LastWords, heartbeat_timeout: int):
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
                    self._end(f"process {process} {failed[process]}")
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
        print(f"\nerror: {reason}. {RESUME}", file=sys.stderr, flush=True)
        self._let_others_hear()
        self.speaker.release()
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
        if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
            # Most likely a process was lost within a step: the watch will tell which.
            time.sleep(self._timeout + 2 * _PERIOD)
        self._set(f"failed/{self._me}", how_it_ended(error)[:500])
        self._let_others_hear()
        self.stop()
        self.speaker.release()
        # Leaving in good order would wait for the others, which are leaving in none.
        atexit.register(_exit, 1)


def how_it_ended(error: BaseException) -> str:
    """What to say of a process that an error ended: "process 3 ..."."""
    reason = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt):
        return f"was interrupted ({reason or 'SIGINT'})"
    if isinstance(error, SystemExit):
        return f"ended with status {reason or 0}"
    return f"stopped: {reason or type(error).__name__}"


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
