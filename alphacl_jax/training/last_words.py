"""How a process of a run ended that could not say so itself, told by a child process.

JAX's C++ code aborts a process that lost the one that coordinates the run, and the system may kill
one; no Python is left then to say what that means for the run. This file is also the program of
the child, which needs nothing but the standard library.
"""

import dataclasses
import faulthandler
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

_FAULT = "Fatal Python error: "
_SECONDS_TO_ANSWER = 5.0  # of the coordinator, when it is asked whether it is still there


@dataclasses.dataclass(frozen=True)
class Words:
    """What there is to say of a process, by how it ended.

    Attributes:
      aborted: where JAX ended it.
      killed: where it ended without a trace.
      resume: what to do; it follows on each of them.
      coordinator: (host, port) of the process that coordinates the others, or None in that process
        and before there is one.
      silent: where JAX ended it and the coordinator's port is open, and nothing comes of it.
      told: where JAX ended it and the coordinator is there; both are "" without a `coordinator`.
    """

    aborted: str
    killed: str
    resume: str
    coordinator: tuple[str, int] | None = None
    silent: str = ""
    told: str = ""


class LastWords:
    """A child process that says how this one ended, where this one ends without a word.

    While it lives it is told what Python's faulthandler finds, which else prints the stacks of all
    threads and the names of all extension modules.
    """

    def __init__(self) -> None:
        program = [sys.executable, "-I", "-S", __file__]
        self._child = subprocess.Popen(program, stdin=subprocess.PIPE, text=True)
        assert self._child.stdin is not None
        self._pipe, self._faults_were_shown = self._child.stdin, faulthandler.is_enabled()
        faulthandler.enable(self._pipe)

    def say(self, words: Words) -> None:
        """Replaces what there is to say."""
        self._tell(dataclasses.asdict(words))

    def release(self) -> None:
        """Ends the child, which then says nothing."""
        if self._faults_were_shown:
            faulthandler.enable()
        else:
            faulthandler.disable()
        self._tell(None)
        self._child.communicate()

    def _tell(self, what: dict[str, object] | None) -> None:
        try:
            self._pipe.write(json.dumps(what) + "\n")
            self._pipe.flush()
        except (BrokenPipeError, ValueError):
            pass  # somebody ended the child: there is nothing to take back


def sentence(words: Words, trace: Sequence[str]) -> str:
    """What is printed of a process that ended with these lines of faulthandler's, or with none."""
    fault = next((line for line in trace if line.startswith(_FAULT)), "").removeprefix(_FAULT)
    if not fault:
        return f"error: {words.killed}. {words.resume}"
    if fault.strip() != "Aborted":
        stacks = "".join(line for line in trace if not line.startswith("Extension modules:"))
        return f"{stacks.rstrip()}\nerror: this process crashed ({fault.strip()}). {words.resume}"
    found = words.aborted if words.coordinator is None else _asked(words.coordinator, words)
    return f"error: {found}. {words.resume}"


def _asked(coordinator: tuple[str, int], words: Words) -> str:
    """What to say of an abort, by what becomes of a connection: a gRPC server speaks first."""
    try:
        with socket.create_connection(coordinator, _SECONDS_TO_ANSWER) as connection:
            return words.told if connection.recv(1) else words.aborted
    except TimeoutError:
        return words.silent
    except OSError:
        return words.aborted


def _main() -> None:
    for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # they come to the parent too, which may have words yet
    told, trace = None, list[str]()
    for line in sys.stdin:
        if line.startswith(("{", "null")):
            told = json.loads(line)
        else:
            trace.append(line)
    if told is not None:
        if told["coordinator"] is not None:
            told["coordinator"] = tuple(told["coordinator"])
        print(sentence(Words(**told), trace), file=sys.stderr)


if __name__ == "__main__":
    _main()
