"""Batches for tests of the loop that need no data."""

import jax.numpy as jnp


class Counting:
    """Batches that hold their own number, and may do something before one of them."""

    def __init__(self, at=None, act=None, *, steps_per_epoch=5):
        self.position, self._at, self._act = 0, at, act
        self.steps_per_epoch = steps_per_epoch

    def __iter__(self):
        return self

    def __next__(self):
        self.position += 1
        if self.position == self._at:
            self._act()
        return {"images": jnp.float32(self.position), "labels": jnp.int32(-1)}

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]
