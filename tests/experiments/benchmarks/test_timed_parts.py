"""Parts with a time limit each: what was measured is kept, what failed is named, others go on."""

import functools
import os
import time

import pytest

from alphacl_jax.errors import RunError
from experiments.benchmarks import timed_parts
from experiments.benchmarks.timed_parts import NO_TIME, Part

LONG = 100.0


def good():
    yield {"figure": 1}
    yield {"figure": 2}


def fails_after_one():
    yield {"figure": 1}
    raise ValueError("no such\nthing")


def never_ends():
    yield {"figure": 1}
    time.sleep(LONG)


def dies():
    yield {"figure": 1}
    os._exit(9)


@pytest.mark.parametrize(
    ("rows", "count", "problem"),
    [
        (good, 2, ""),
        (fails_after_one, 1, "ValueError: no such thing"),
        (dies, 1, "its process was killed"),
    ],
)
def test_what_a_process_measured_is_kept_whatever_becomes_of_it(rows, count, problem):
    found, said = timed_parts.collect(rows, time.monotonic() + LONG)
    assert found == [{"figure": 1}, {"figure": 2}][:count]
    assert said.startswith(problem)
    assert bool(said) == bool(problem)


def test_a_process_is_ended_when_its_time_is_over():
    started = time.monotonic()
    found, problem = timed_parts.collect(never_ends, started + 0.2)
    assert found in ([], [{"figure": 1}])  # as quick as the machine was
    assert problem == NO_TIME
    assert time.monotonic() - started < LONG / 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: while trying"), "out of memory: RESOURCE_EXHAUSTED:"),
        (RuntimeError("CUDA out of memory. Tried to"), "CUDA out of memory. Tried to"),
        (MemoryError(), "out of memory:"),
        (RunError("PyTorch sees no device"), "PyTorch sees no device"),
        (ModuleNotFoundError("No module named 'lightly'"), "ModuleNotFoundError: No module named"),
    ],
)
def test_errors_are_one_line(error, words):
    assert timed_parts.in_words(error).startswith(words)


def test_an_error_fits_into_a_table():
    assert len(timed_parts.in_words(ValueError("word " * 1000))) <= 160


class Clock:
    """Time that passes when somebody takes it."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timed_parts, "time", clock)
    return clock


def part(clock, name, seconds, takes, problem=""):
    def measure(end):
        ends[name] = end - 1000
        clock.now += takes
        return [{"took": takes}], problem

    ends = {}
    return Part("some", name, seconds, measure), ends


def test_time_that_a_part_leaves_goes_to_the_next(clock):
    parts = [part(clock, "quick", 10, 2), part(clock, "failing", 20, 5, "failed")]
    parts.append(part(clock, "last", 30, 20))
    found = list(timed_parts.run_parts([one for one, _ in parts], 1000 + 120))
    assert [ends for _, ends in parts] == [{"quick": 20}, {"failing": 60}, {"last": 120}]
    assert [(row["name"], row["problem"], row["seconds"]) for row in found] == [
        ("quick", "", 2), ("failing", "failed", 5), ("last", "", 20),
    ]  # fmt: skip


def test_a_part_without_time_is_left_out(clock):
    parts = [part(clock, "slow", 10, 25)[0], part(clock, "next", 10, 1)[0]]
    parts.append(part(clock, "last", 10, 1)[0])
    found = list(timed_parts.run_parts(parts, 1000 + 30))
    assert [(row["rows"], row["problem"]) for row in found] == [
        ([{"took": 25}], ""), ([], NO_TIME), ([{"took": 1}], ""),
    ]  # fmt: skip
    assert next(timed_parts.run_parts(parts, 900.0))["problem"] == NO_TIME


def test_parts_are_told_of_as_they_end(clock, capsys):
    list(timed_parts.run_parts([part(clock, "it", 1, 3, "broken")[0]], 2000))
    assert capsys.readouterr().err == "it: broken, 3 s\n"


def test_functions_with_arguments_can_be_sent():
    rows = functools.partial(iter, [{"figure": 3}])
    assert timed_parts.collect(rows, time.monotonic() + LONG) == ([{"figure": 3}], "")
