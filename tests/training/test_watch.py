"""What the other processes are told of one that ended by itself."""

import pytest

from alphacl_jax.training.watch import RESUME, how_it_ended


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyboardInterrupt(), "was interrupted (SIGINT)"),
        (KeyboardInterrupt("SIGTERM"), "was interrupted (SIGTERM)"),
        (SystemExit(2), "ended with status 2"),
        (SystemExit(), "ended with status 0"),
        (ValueError("two\n  lines"), "stopped: two lines"),
        (AssertionError(), "stopped: AssertionError"),
    ],
)
def test_how_a_process_ended(error, told):
    assert how_it_ended(error) == told


def test_no_checkpoint_is_promised():
    assert RESUME.endswith("from its last checkpoint if there is one")
