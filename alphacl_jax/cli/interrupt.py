"""Ctrl-C where no training loop answers it: while a program starts, compiles or evaluates."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """Ends the program with a sentence and status 130 where Ctrl-C breaks off what runs inside.

    Files are written whole or not at all, so that nothing is lost by it but the work in hand.
    """
    heard: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        heard.append(number)
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, stop) if in_main else None
    try:
        yield
    except BaseException as error:
        # A library that is interrupted while it is imported may make another error of it.
        if not heard and not isinstance(error, KeyboardInterrupt):
            raise
        start = "\n" if sys.stderr.isatty() else ""  # a terminal shows "^C"
        print(
            f"{start}interrupted: what was finished before is kept, and the same command goes on",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(128 + signal.SIGINT)
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)
