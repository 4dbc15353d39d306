"""What is logged in a test is its own."""

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def only_own_threads_are_heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Readers of the tests before may still be at work on their damaged images."""
    others = set(threading.enumerate()) - {threading.current_thread()}

    # By the thread itself: a new one may be given the number of one that has ended.
    def is_own(_: object) -> bool:
        return threading.current_thread() not in others

    caplog.handler.addFilter(is_own)
    yield
    caplog.handler.removeFilter(is_own)
