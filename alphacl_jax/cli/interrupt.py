"""Ctrl-C where no training loop answers it: while a program starts, compiles or evaluates."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STATUS = 128 + signal.SIGINT
_SECONDS_TO_END = 5.0


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """Ends the program with a sentence and status 130 where Ctrl-C breaks off what runs inside.

    What is being written is cleaned away, for which there are some seconds; a second Ctrl-C does
    not wait for it. Files are whole or not there, so that nothing is lost but the work in hand. Of
    several processes that train together all stop, with status 1.
    """
    heard: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        if heard:
            os._exit(_STATUS)
        heard.append(number)
        start = "\n" if sys.stderr.isatty() else ""  # a terminal shows "^C"
        print(
            f"{start}interrupted. What was finished is kept; give the same command again to go on",
            file=sys.stderr,
            flush=True,
        )
        # A library that is in the middle of a callback drops the exception.
        ender = threading.Timer(_SECONDS_TO_END, os._exit, [_STATUS])
        ender.daemon = True
        ender.start()
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) in (None, signal.SIG_IGN):
        yield  # who started this in the background keeps Ctrl-C from it
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    except BaseException:
        # A library that is interrupted while it is imported may make another error of it.
        if heard:
            sys.exit(_STATUS)
        raise
    finally:
        signal.signal(signal.SIGINT, before)
