"""Blocks that lie on several devices, each two of which are brought together once.

The P devices stand in a ring. In each of ⌊P/2⌋ steps all hand their guest on to the next device: a
copy of a device's block, and what was found for that block on its way. What the step finds for the
guest travels on with it, and goes home at the end. With an even P the last step brings the same two
devices together on both of them, and each does half of the work.

No collective stands in a loop or in a branch. XLA on a CPU lets these run beside the collectives
that follow, and all of a program's meet under one key: there the process ends, or waits for ever.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

# A program has P/2 meetings one after the other: with more devices it was not tried, and embeddings
# are gathered there.
MOST_DEVICES = 8

Meet = Callable[[Any, bool], tuple[Any, Any]]


def around(
    axis_name: Any, meet: Meet, own: Any, found: Any, merge: Callable[[Any, Any], Any]
) -> tuple[Any, Any]:
    """What is found for this device's block: on this device, and as a guest of others.

    Args:
      axis_name: the axis of the devices, at least two.
      meet: of a guest, and whether its host is the guest's guest at the same time; gives what is
        found for one's own block and for the guest's.
      own: this device's block, a tree of arrays.
      found: what is found for it without a guest, a tree of arrays.
      merge: of two findings.
    """
    devices = jax.lax.axis_size(axis_name)
    guest, of_guest = _moved(own, 1, axis_name), None
    for step in range(1, devices // 2 + 1):
        here, there = meet(guest, 2 * step == devices)
        found = merge(found, here)
        of_guest = there if of_guest is None else merge(of_guest, there)
        if step < devices // 2:
            guest, of_guest = _moved((guest, of_guest), 1, axis_name)
    return found, _moved(of_guest, -(devices // 2), axis_name)


def _moved(tree: Any, places: int, axis_name: Any) -> Any:
    devices = jax.lax.axis_size(axis_name)
    to = [(i, (i + places) % devices) for i in range(devices)]
    return jax.tree.map(lambda v: jax.lax.ppermute(v, axis_name, to), tree)


def largest(value: Array, axis_name: Any) -> Array:
    """The largest number in the arrays of all devices; not to be differentiated."""
    highest = jnp.max(value)
    return highest if axis_name is None else jax.lax.pmax(highest, axis_name)


def everywhere(condition: Array, axis_name: Any) -> Array:
    """Whether a condition holds on all devices."""
    if axis_name is None:
        return condition
    return jax.lax.pmin(condition.astype(jnp.int32), axis_name) > 0
