"""Where process 0 listens: at the address that was given, and at no other unless it must."""

import socket

import pytest

from alphacl_jax.training import coordinator
from alphacl_jax.training.coordinator import HostsError, address_to_listen_at, host_and_port


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


def test_a_name_that_nobody_knows(port):
    with pytest.raises(HostsError, match=f"^coordinator_address=no.such.invalid:{port} cannot be"):
        address_to_listen_at(f"no.such.invalid:{port}")
