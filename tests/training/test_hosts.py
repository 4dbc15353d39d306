"""Two processes of four devices: what each is given, and what they agree on; joining that fails."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from alphacl_jax.training import hosts
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.records import read_records
from alphacl_jax.training.vote import StopVote

ROOT = Path(__file__).parents[2]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict]:
    """What the two processes say."""
    folder, port = tmp_path_factory.mktemp("hosts"), _free_port()
    script = Path(__file__).with_name("host_process.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder), str(port), str(i)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        ends = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, err) in zip(processes, ends, strict=True):
        assert process.returncode == 0, err
    # Nothing else is on standard output, such as what gloo prints.
    return [json.loads(out) | {"folder": str(folder)} for out, _ in ends]


def test_the_processes_see_each_other_and_one_writes(found):
    assert [f["devices"] for f in found] == [[4, 8], [4, 8]]
    assert [f["writer"] for f in found] == [True, False]
    assert [f["agree"] for f in found] == [[True, False], [True, False]]


def test_each_process_holds_its_part_of_the_batch_and_reads_no_more(found):
    assert found[0]["batches"]["rows"] == [[0, 2], [2, 4], [4, 6], [6, 8]]
    assert found[1]["batches"]["rows"] == [[8, 10], [10, 12], [12, 14], [14, 16]]
    threads = min(os.cpu_count() or 1, 16)
    for each in found:
        # 5 batches of which half are its own, and what its threads read ahead.
        assert 5 * 8 <= each["batches"]["read"] <= (5 + 2 * threads + 2) * 8


def test_damage_that_one_process_meets_is_damage_for_all(found):
    for each in found:
        assert each["checkpoints"] == {"restored": [3, {"at": 3}, 2, {"at": 2}], "left": [1, 2]}


def test_a_signal_to_one_process_stops_all_after_the_same_step(found):
    for each in found:
        assert each["votes"] == [None, None, "SIGTERM", "SIGTERM", "SIGTERM"]


def test_a_process_that_wants_to_save_has_all_save_once_after_the_same_step(found):
    for each in found:
        assert each["saves"] == [[2], [4]]


def test_processes_train_together_and_one_writes_the_records(found):
    one, other = (each["training"] for each in found)
    assert one == other
    assert one["heard"] == [2, 4]
    # Time saves at every step; the last three are kept.
    assert one["steps"] == [2, 3, 4]
    records = read_records(Path(found[0]["folder"]) / "metrics.jsonl")
    assert [(r["step"], "w" in r) for r in records] == [(2, True), (3, False), (4, True)]
    assert records[-1]["w"] == one["w"]
    assert all(r["seen"] > 0 for r in records)
    assert records[1]["seen"] == records[1]["loss"]


def test_processes_that_do_not_agree_all_hear_what_differs(found):
    for each in found:
        assert each["agreement"]["told"] == ["by", 0]
        assert each["agreement"]["differing"] == {"seed": {"0": [0], "1": [1]}}
        assert "seed is 0 in process 0 and 1 in process 1" in each["agreement"]["message"]


def test_the_coordinator_listens_at_its_address_alone(found):
    assert [f["reachable"] for f in found] == [["127.0.0.1"], ["127.0.0.1"]]


def test_after_leaving_each_process_computes_by_itself(found):
    assert [f["alone"] for f in found] == [5.0, 5.0]


def test_one_process_is_the_writer_agrees_with_itself_and_stops_at_once():
    with hosts.joined(None):
        assert hosts.is_writer()
        assert [hosts.all_agree(True), hosts.all_agree(False)] == [True, False]
        vote = StopVote(data_mesh())
        assert vote(None, False, {}) == (None, False)
        assert vote(signal.SIGINT, False, {}) == (signal.SIGINT, False)
        assert vote(None, True, {}) == (None, True)
        vote.saved()
    hosts.leave()


def test_an_own_copy_is_on_one_device_and_no_view():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    x = jax.device_put(np.arange(3.0, dtype=np.float32), everywhere)
    copy = hosts.own_copy({"x": x})["x"]
    assert copy.devices() == {jax.devices()[0]}
    x.delete()
    np.testing.assert_array_equal(copy, [0, 1, 2])


@pytest.mark.parametrize("address", ["node0", "node0:", ":1234", "node0:x", "node0:70000"])
def test_an_address_that_is_none(address):
    with (
        pytest.raises(
            hosts.HostsError, match=f"^coordinator_address={address} must be host:port, such as "
        ) as error,
        hosts.joined(hosts.Cluster(address, 2, 1, 1, 10)),
    ):
        pass
    assert (error.value.argument, error.value.value) == ("coordinator_address", address)
    assert error.value.problem.startswith("must be host:port")


def test_an_error_of_no_argument_alone():
    error = hosts.HostsError("the processes could not be joined")
    assert (error.argument, error.value) == (None, None)
    assert str(error) == error.problem == "the processes could not be joined"


def test_a_coordinator_that_cannot_be_reached():
    cluster = hosts.Cluster(f"127.0.0.1:{_free_port()}", 2, 1, 1, 10)
    with (
        pytest.raises(hosts.HostsError, match=r"cannot be reached after 1 s; .* process 0 was st"),
        hosts.joined(cluster),
    ):
        pass


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        cluster = hosts.Cluster(f"127.0.0.1:{taken.getsockname()[1]}", 2, 0, 1, 10)
        with (
            pytest.raises(hosts.HostsError, match="cannot be listened at; choose another port"),
            hosts.joined(cluster),
        ):
            pass
