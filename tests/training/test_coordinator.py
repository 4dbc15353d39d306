"""Where process 0 listens: at the address that was given, and at no other unless it must."""

import errno
import os
import socket

import pytest

from alphacl_jax.training import coordinator
from alphacl_jax.training.coordinator import (
    HostsError,
    address_to_listen_at,
    host_and_port,
    wait_for_coordinator,
)


@pytest.fixture(autouse=True)
def port(monkeypatch) -> int:
    monkeypatch.delenv("JAX_COORDINATOR_BIND_ADDRESS", raising=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_parts_of_an_address():
    assert host_and_port("node0:1234") == ("node0", 1234)
    assert host_and_port("[::1]:1234") == ("::1", 1234)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_an_address_of_this_host_is_the_one_to_listen_at(host, port, caplog):
    assert address_to_listen_at(f"{host}:{port}") == f"{host}:{port}"
    assert not caplog.records


def test_an_address_of_no_interface_of_this_host(port, caplog):
    """As of a host that others know by an address outside."""
    assert address_to_listen_at(f"192.0.2.1:{port}") is None
    (record,) = caplog.records
    assert f"192.0.2.1:{port} is no address of this host itself, so" in record.getMessage()


def test_a_name_that_only_this_host_takes_for_itself(port, caplog, monkeypatch):
    """As Debian writes it into /etc/hosts: bound to it, no other host would reach it."""
    place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", port))
    monkeypatch.setattr(coordinator.socket, "getaddrinfo", lambda *args, **kwargs: [place])
    assert address_to_listen_at(f"node0:{port}") is None
    (record,) = caplog.records
    assert "is 127.0.1.1 on this host, which no other can reach, so" in record.getMessage()


def test_where_jax_was_told_to_listen(port, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "0.0.0.0:1234")
    assert address_to_listen_at(f"127.0.0.1:{port}") is None


@pytest.mark.parametrize("host", ["no.such.invalid", "a..b"])
def test_a_name_that_nobody_knows(host, port):
    problem = rf"^coordinator_address={host}:{port} is not known on this host; give a name or addr"
    with pytest.raises(HostsError, match=problem):
        address_to_listen_at(f"{host}:{port}")
    with pytest.raises(HostsError, match=f"^coordinator_address={host}:{port} cannot be reached"):
        wait_for_coordinator(f"{host}:{port}", 0)


def _refuses(monkeypatch, refusals: dict[str, int]) -> None:
    """Has a name stand for several addresses, of which some cannot be listened at."""

    class Refusing(socket.socket):
        def __init__(self, family, kind, protocol):
            super().__init__(socket.AF_INET, kind, protocol)  # the tests' own host may lack IPv6

        def bind(self, place):
            if number := refusals[place[0]]:
                raise OSError(number, os.strerror(number))

    kinds = {host: socket.AF_INET6 if ":" in host else socket.AF_INET for host in refusals}

    def places(host, port, **_):
        ends = {socket.AF_INET: (), socket.AF_INET6: (0, 0)}
        return [
            (kind, socket.SOCK_STREAM, 6, "", (host, port, *ends[kind]))
            for host, kind in kinds.items()
        ]

    monkeypatch.setattr(coordinator.socket, "getaddrinfo", places)
    monkeypatch.setattr(coordinator.socket, "socket", Refusing)


@pytest.mark.parametrize("refusal", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
@pytest.mark.parametrize(
    ("host", "bad", "good", "listens_at"),
    [
        ("localhost", "::1", "127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1", "::1", "[::1]"),
        ("node0", "2001:db8::1", "10.0.0.1", "10.0.0.1"),
    ],
)
def test_what_this_host_has_of_a_name_with_several_addresses(
    monkeypatch, caplog, refusal, host, bad, good, listens_at
):
    """As in a container, whose localhost is ::1, too, and which has no IPv6."""
    _refuses(monkeypatch, {bad: refusal, good: 0})
    assert address_to_listen_at(f"{host}:1234") == f"{listens_at}:1234"
    assert not caplog.records


def test_where_nothing_of_a_name_is_this_host_itself(monkeypatch, caplog):
    _refuses(monkeypatch, {"2001:db8::1": errno.EAFNOSUPPORT, "192.0.2.1": errno.EADDRNOTAVAIL})
    assert address_to_listen_at("node0:1234") is None
    (record,) = caplog.records
    assert "node0:1234 is no address of this host itself, so" in record.getMessage()


@pytest.mark.parametrize(
    ("refusal", "advice"),
    [
        (errno.EADDRINUSE, "choose another port"),
        (errno.EACCES, "choose another port"),
        (errno.EINVAL, "give another address of this host"),
    ],
)
def test_another_port_is_advised_where_it_is_the_port(monkeypatch, refusal, advice):
    _refuses(monkeypatch, {"127.0.0.1": 0, "::1": refusal})
    with pytest.raises(HostsError, match=f"localhost:1234 cannot be listened at; {advice} "):
        address_to_listen_at("localhost:1234")
