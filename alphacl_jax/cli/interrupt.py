"""Ctrl-C and SIGTERM where no training loop answers: while a program starts, compiles, evaluates.

The signal is answered at once, with what is kept and the command that goes on, also where Python
is waiting for a library.
"""

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from alphacl_jax.signals import STOPPING, end_at_once, handled, say

_SECONDS_TO_END = 5.0

_kept: list[Callable[[], str]] = []  # at most one


def own_command() -> list[str]:
    """The words of this process's command line, as they were typed."""
    words = list(sys.orig_argv)
    if len(words) > 1 and Path(words[1]).name == "alphacl":  # the console script, run by Python
        return ["alphacl", *words[2:]]
    return words


def tell_kept(what: Callable[[], str]) -> None:
    """From here on, an interruption says what is kept, as `what` does in a clause.

    Until the end of the program: a thread asks it, when the block that knew may have been left.
    """
    _kept[:] = [what]


@contextmanager
def plain_interrupts(command: Sequence[str] = ()) -> Iterator[None]:
    """Ends the program with a sentence where Ctrl-C or SIGTERM breaks off what runs inside.

    Its status is 130 or 143. What is being written is cleaned away, for which there are some
    seconds; a second signal does not wait for it. Files are whole or not there, so that nothing is
    lost but the work in hand. Of several processes that train together all stop, with status 1.

    Args:
      command: the words of the one that goes on, for the sentence.
    """
    heard: list[int] = []
    answered = threading.Event()
    told_before, _kept[:] = list(_kept), []

    def stop(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        if _is_importing(frame):
            # C++ libraries abort where an exception comes while they are loaded, and nothing is
            # being written that would have to be cleaned away.
            answered.wait(_SECONDS_TO_END)
            end_at_once(128 + number)
        raise KeyboardInterrupt(signal.Signals(number).name)

    def answer(number: signal.Signals) -> None:
        # The main thread may be in a library for long, which may drop the exception besides.
        ender = threading.Timer(_SECONDS_TO_END, end_at_once, [128 + number])
        ender.daemon = True
        ender.start()
        start = "interrupted" if number == signal.SIGINT else f"{number.name} came"
        kept = _kept[0]() if _kept else "What was finished is kept"
        again = f": {shlex.join(command)}" if command else ""
        say(f"{start}. {kept}; give the same command again to go on{again}")
        answered.set()

    try:
        with handled(STOPPING, stop, answer):
            yield
    except BaseException:
        # A library that is interrupted while it is imported may make another error of it.
        if not heard:
            raise
    finally:
        _kept[:] = told_before
    if heard:
        sys.exit(128 + heard[0])


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being loaded where a signal came."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
