"""What is logged in a test is its own."""

import threading

import pytest


@pytest.fixture(autouse=True)
def only_own_threads_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    """Readers of the tests before may still be at work on their damaged images."""
    others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
    caplog.handler.addFilter(lambda record: record.thread not in others)
