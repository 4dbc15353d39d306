"""What the processes of a run must have in common before they compute their first step together.

Programs that differ between processes do not fail: they train something wrong, or wait for each
other for ever. So what each is about to train is compared beforehand, as text, through the store
that process 0 keeps; nothing is computed together for it.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax._src import distributed  # the key-value store of the processes has no public name

from alphacl_jax.errors import RunError
from alphacl_jax.training.hosts import leave

_WAIT_MS = 10_000  # between two looks; the watch ends the process where another one is lost
_SHOWN = 6
_CALLS = itertools.count()  # the same in all processes, which ask for the same things in turn

# Name → text of a value → the processes that have it.
Differing = dict[str, dict[str, list[int]]]


class DisagreementError(RunError):
    """The processes of a run are not about to train the same; it comes to all of them alike.

    Attributes:
      differing: name → text of a value → the processes that have it.
    """

    def __init__(self, differing: Differing):
        self.differing = differing
        super().__init__(self.of(str))

    def of(self, called: Callable[[str], str]) -> str:
        """The message, with names as `called` gives them."""
        shown = [
            _in_words(called(name), values)
            for name, values in list(self.differing.items())[:_SHOWN]
        ]
        more = f"; and {len(self.differing) - _SHOWN} more" if len(self.differing) > _SHOWN else ""
        return (
            f"the processes of the run do not agree: {'; '.join(shown)}{more}. Start the same "
            "command on each host, with the same packages and the same data"
        )


def _in_words(name: str, values: Mapping[str, Sequence[int]]) -> str:
    parts = [f"{value} in {_processes(having)}" for value, having in values.items()]
    return f"{name} is {', '.join(parts[:-1])} and {parts[-1]}"


def _processes(numbers: Sequence[int]) -> str:
    """Such as "process 3", or "processes 0, 1, 2, ... (8)"."""
    if len(numbers) == 1:
        return f"process {numbers[0]}"
    more = f", ... ({len(numbers)})" if len(numbers) > _SHOWN else ""
    return f"processes {', '.join(map(str, numbers[:_SHOWN]))}{more}"


def differing_values(found: Sequence[Mapping[str, Any]]) -> Differing:
    """What is not the same in all processes, in the order of their names.

    Args:
      found: of each process, values by name; one that a process has not is None there.
    """
    names = dict.fromkeys(name for values in found for name in values)
    differing: Differing = {}
    for name in names:
        having: dict[str, list[int]] = {}
        for process, values in enumerate(found):
            having.setdefault(repr(values.get(name)), []).append(process)
        if len(having) > 1:
            differing[name] = having
    return differing


def require_agreement(own: Callable[[], Mapping[str, Any]]) -> None:
    """Compares what each process is about to train; all processes of a run must call it.

    Args:
      own: makes this process's values by name, as JSON can hold them; not called where there is
        one process.

    Raises:
      DisagreementError: where a value is not the same in all processes, which have then left.
    """
    if jax.process_count() == 1:
        return
    values, call = {"num_processes": distributed.global_state.num_processes, **own()}, next(_CALLS)
    _set(f"agreement/{call}/{jax.process_index()}", json.dumps(values))

    def compare() -> Differing:
        every = [_get(f"agreement/{call}/{process}") for process in range(jax.process_count())]
        return differing_values([json.loads(text) for text in every])

    if differing := from_first(compare):
        leave()
        raise DisagreementError(differing)


def from_first(make: Callable[[], Any]) -> Any:
    """What process 0 makes, in every process, as JSON can hold it; all of them must call it."""
    if jax.process_count() == 1:
        return make()
    key = f"from_first/{next(_CALLS)}"
    if jax.process_index() == 0:
        _set(key, json.dumps(make()))
    return json.loads(_get(key))


def _set(key: str, value: str) -> None:
    store = distributed.global_state.client
    assert store is not None
    store.key_value_set(key, value)


def _get(key: str) -> str:
    """What a process has set, or will."""
    store = distributed.global_state.client
    assert store is not None
    while True:
        try:
            return store.blocking_key_value_get(key, _WAIT_MS)
        except Exception as error:  # its type is no public one
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
