"""Signals that are answered at once, whatever the main thread is in.

Python runs signal handlers between two steps of its own, and may be waiting for a library or the
devices for long. So a thread hears of signals, too: it answers at once, and can end the process.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

STOPPING = (signal.SIGTERM, signal.SIGINT)
Handler = Callable[[int, FrameType | None], None]

_before_the_end: list[Callable[[], None]] = []


@contextmanager
def handled(
    numbers: tuple[signal.Signals, ...], handle: Handler, answer: Callable[[signal.Signals], None]
) -> Iterator[None]:
    """Handles signals for the time of a block; the second to come ends the process at once.

    Only the main thread is told of signals: in another one nothing is done. Who starts a program in
    the background keeps Ctrl-C from it: a signal that is ignored stays so.

    Args:
      numbers: the signals.
      handle: called in the main thread, once Python gets to it.
      answer: called with the first signal by a thread, as soon as it comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = tuple(n for n in numbers if signal.getsignal(n) not in (None, signal.SIG_IGN))
    reader, writer = socket.socketpair()
    writer.setblocking(False)  # what Python demands, which writes from within the C handler
    listener = threading.Thread(target=_listen, args=(reader, numbers, answer), daemon=True)
    listener.start()
    told_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    before = {name: signal.signal(name, handle) for name in numbers}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        signal.set_wakeup_fd(told_before)
        writer.close()  # which ends the listener
        listener.join()
        reader.close()


def before_the_end(act: Callable[[], None]) -> None:
    """Has `end_at_once` do this first; it must be quick, and may have been done already."""
    _before_the_end.append(act)


def end_at_once(status: int) -> NoReturn:
    """Ends the process from any thread, with no cleaning up."""
    try:
        for act in _before_the_end:
            act()
    finally:
        os._exit(status)


def hand_on(number: signal.Signals) -> None:
    """Has who handles a signal beside a block of `handled` hear of it, if anybody does."""
    if callable(signal.getsignal(number)):  # what the system would do is for no signal of the past
        signal.raise_signal(number)


def _listen(
    reader: socket.socket,
    numbers: tuple[signal.Signals, ...],
    answer: Callable[[signal.Signals], None],
) -> None:
    """Has the first signal answered, and leaves at the second."""
    heard = 0
    while byte := reader.recv(1):
        if byte[0] not in numbers:
            continue
        heard += 1
        number = signal.Signals(byte[0])
        if heard > 1:
            say(f"{number.name} came again: leaving at once")
            end_at_once(128 + number)
        answer(number)


def say(text: str) -> None:
    """Prints a line of its own; a terminal shows "^C", perhaps within the progress bar."""
    start = "\n" if sys.stderr.isatty() else ""
    print(f"{start}{text}", file=sys.stderr, flush=True)
