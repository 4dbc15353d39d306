"""SIGTERM and SIGINT (Ctrl-C) while a run trains: the first asks to save and stop, the second ends.

Python runs signal handlers between two steps of its own, and may be waiting for the devices for
long. So a thread hears of signals, too: it answers at once, and can end the process at once.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_requests() -> Iterator[Callable[[], signal.Signals | None]]:
    """Turns the first signal into a question that the loop asks between steps.

    The second ends the process at once, with status 128 + its number and no cleaning up: a
    checkpoint is whole or not there. Only the main thread is told of signals; in another one the
    answer is always None.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: list[signal.Signals] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(signal.Signals(number))

    reader, writer = socket.socketpair()
    writer.setblocking(False)  # what Python demands, which writes from within the C handler
    listener = threading.Thread(target=_answer, args=(reader,), daemon=True)
    listener.start()
    told_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    before = {name: signal.signal(name, handle) for name in _STOPPING}
    try:
        yield lambda: received[0] if received else None
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        signal.set_wakeup_fd(told_before)
        writer.close()  # which ends the listener
        listener.join()
        reader.close()


def _answer(reader: socket.socket) -> None:
    """Says that the first signal was heard, and leaves at the second."""
    heard = 0
    while number := reader.recv(1):
        if number[0] not in _STOPPING:
            continue
        heard += 1
        name = signal.Signals(number[0]).name
        # A terminal shows "^C", perhaps within the progress bar.
        start = "\n" if sys.stderr.isatty() else ""
        if heard > 1:
            print(f"{start}{name} came again: leaving at once", file=sys.stderr, flush=True)
            os._exit(128 + number[0])
        print(
            f"{start}{name} came: saving after this step; once more to leave at once",
            file=sys.stderr,
            flush=True,
        )
