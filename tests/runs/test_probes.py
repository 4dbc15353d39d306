"""Looking at the features of several runs that train as one program."""

import jax.numpy as jnp

from alphacl_jax.runs.probes import hook_of_seeds
from alphacl_jax.training.loop import Hook
from alphacl_jax.training.seeds import stack_states
from alphacl_jax.training.state import TrainState


def _state(value):
    """A state whose every part tells the member."""
    return TrainState(*[jnp.float32(value)] * len(TrainState._fields))


def test_each_member_is_shown_its_own_state():
    seen = []

    def look(step, state):
        seen.append((step, float(state.params)))
        return {"knn": float(state.params)}

    hook = hook_of_seeds([Hook(7, look), Hook(7, look)])
    assert hook.every == 7
    assert hook.run(14, stack_states([_state(2.0), _state(3.0)])) == {"knn": [2.0, 3.0]}
    assert seen == [(14, 2.0), (14, 3.0)]


def test_a_process_that_writes_nothing_finds_nothing():
    hook = hook_of_seeds([Hook(1, lambda step, state: {})] * 2)
    assert hook.run(1, stack_states([_state(0.0), _state(1.0)])) == {}
