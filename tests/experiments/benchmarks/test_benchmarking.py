"""What the benchmarks share: turns in fresh processes, memory, tables, aims, reports."""

import functools
import json
import os
import time

import jax
import numpy as np
import pytest

from alphacl_jax.errors import RunError
from experiments.benchmarks import benchmarking, memory
from experiments.benchmarks.benchmarking import Aim, Measurement

MEGABYTE = 2**20


def make_sleeper(seconds):
    return functools.partial(time.sleep, seconds)


def make_hungry(megabytes):
    return lambda: np.ones(megabytes * MEGABYTE, np.uint8)


def fail():
    raise ValueError("no such thing")


def die():
    os._exit(9)


def make_dying():
    return die


@pytest.fixture(scope="module")
def measured():
    makers = {
        "short": functools.partial(make_sleeper, 0.002),
        "long": functools.partial(make_sleeper, 0.02),
        "hungry": functools.partial(make_hungry, 64),
    }
    return benchmarking.measure_in_turn(makers, rounds=3, seconds=0.06)


def test_competitors_are_timed_over_several_turns(measured):
    assert 0.002 <= measured["short"].seconds < measured["long"].seconds
    assert measured["long"].seconds >= 0.02
    assert len(measured["short"].times) > len(measured["long"].times) >= 2


def test_memory_of_a_call_is_what_it_takes_beyond_the_process(measured):
    if measured["hungry"].peak_bytes is None:
        pytest.skip("the system does not tell")
    assert 60 < measured["hungry"].peak_bytes / MEGABYTE < 80  # the kernel counts roughly
    assert measured["short"].peak_bytes < 8 * MEGABYTE


class Device:
    """What JAX says of an accelerator, or of one whose allocator does not count."""

    def __init__(self, counted):
        self.counted = counted

    def memory_stats(self):
        return self.counted


def test_memory_of_a_call_on_an_accelerator_is_what_jax_has_allocated(monkeypatch):
    counted = {"bytes_in_use": 5, "peak_bytes_in_use": 7}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(counted)])
    call = memory.of_jax(lambda: counted.update(bytes_in_use=6, peak_bytes_in_use=30))
    assert memory.peak_bytes(call) == 25
    assert memory.peak_bytes_of_jax() == 30


@pytest.mark.parametrize("counted", [None, {"bytes_in_use": 5}])
def test_an_accelerator_that_does_not_count_its_memory_has_no_figure(monkeypatch, counted):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(counted)])
    assert memory.peak_bytes(memory.of_jax(lambda: None)) is None
    assert memory.peak_bytes_of_jax() is None


def test_on_a_cpu_the_process_is_what_counts():
    assert memory.of_jax(fail) is fail
    assert memory.of_torch(fail, "cpu") is fail
    assert memory.peak_bytes_of_jax() == pytest.approx(memory.peak_resident_bytes(), rel=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [(fail, "'it' failed: ValueError: no such thing"), (die, "the process of 'it' was killed")],
)
def test_a_competitor_that_fails_is_named(make, message):
    with pytest.raises(RunError, match=message):
        benchmarking.measure_in_turn({"it": make}, rounds=1, seconds=0.1)


def test_one_that_may_end_ends_without_the_others():
    makers = {"first": make_dying, "second": die, "third": functools.partial(make_sleeper, 0.001)}
    measured = benchmarking.measure_in_turn(
        makers, rounds=2, seconds=0.01, may_end=("first", "second")
    )
    assert list(measured) == ["third"]
    assert len(measured["third"].times) >= 2


def test_the_median_of_all_calls_counts():
    assert Measurement((5.0, 1.0, 2.0), None).seconds == 2.0


def test_calls_within_a_process_take_turns():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = benchmarking.time_in_turn(calls, rounds=2)
    assert order == list("ababab")
    assert {name: len(each) for name, each in times.items()} == {"a": 2, "b": 2}


def test_what_is_not_installed_is_named_with_what_to_do():
    with pytest.raises(RunError, match=r"no-such-peer not installed.*'\.\[bench\]'.*--peers="):
        benchmarking.require_installed(["numpy", "no-such-peer"])
    benchmarking.require_installed(["numpy"])


def test_the_description_names_machine_and_versions():
    description = benchmarking.describe(("numpy", "no-such-peer"))
    assert description["versions"] == {"numpy": np.__version__, "no-such-peer": None}
    line = benchmarking.heading(description)
    assert f"{benchmarking.usable_cores()} cores" in line
    assert f"numpy {np.__version__}" in line
    assert "no-such-peer" not in line


def test_bytes_are_shown_as_megabytes():
    assert benchmarking.megabytes(None) == "n/a"
    assert benchmarking.megabytes(2_500_000_000) == "2,500"


def test_aims_say_whether_they_are_met():
    assert str(Aim("time", 0.95, 0.9)) == "time: 0.95 (aim <= 0.9: NOT met)"
    assert str(Aim("speed", 5.0, 5.0, at_most=False)) == "speed: 5 (aim >= 5: met)"
    assert Aim("time", 0.8, 0.9).as_json()["met"]


def test_reports_are_json_and_an_impossible_place_is_named(tmp_path):
    path = tmp_path / "report.json"
    benchmarking.write_report(str(path), {"times": (1.0, 2.0)})
    assert json.loads(path.read_text()) == {"times": [1.0, 2.0]}
    with pytest.raises(RunError, match=r"--json=.*absent.*cannot be written"):
        benchmarking.write_report(str(tmp_path / "absent" / "report.json"), {})
