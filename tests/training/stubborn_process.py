"""A run whose every step takes minutes, for tests/training/test_signals.py to send signals to.

python stubborn_process.py FOLDER
"""

import signal
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from alphacl_jax.training.loop import Schedule
from alphacl_jax.training.state import TrainState
from tests.training.loops import Counting, train_in


def _step(state, batch, recorded):
    print("stepping", flush=True)
    time.sleep(300)
    raise AssertionError("nobody waits for this")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may be in the background
    key = jax.random.key_data(jax.random.key(0))
    state = TrainState(jnp.int32(0), jnp.zeros(3), {}, (), key)
    train_in(Path(sys.argv[1]), state, _step, Counting(), Schedule(2, 1, 1))
