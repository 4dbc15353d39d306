"""SIGTERM and SIGINT (Ctrl-C) while a run trains: the first asks to save and stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from alphacl_jax.signals import STOPPING, handled, say


@contextmanager
def stop_requests() -> Iterator[Callable[[], signal.Signals | None]]:
    """Turns the first signal into a question that the loop asks between steps.

    The second ends the process at once, with status 128 + its number and no cleaning up: a
    checkpoint is whole or not there. Only the main thread is told of signals; in another one the
    answer is always None.
    """
    received: list[signal.Signals] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(signal.Signals(number))

    def answer(number: signal.Signals) -> None:
        say(f"{number.name} came: saving after this step; once more to leave at once")

    with handled(STOPPING, handle, answer):
        yield lambda: received[0] if received else None
