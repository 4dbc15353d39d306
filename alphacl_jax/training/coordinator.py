"""The address of process 0 of a run on several hosts, at which the others find it."""

import errno
import ipaddress
import os
import socket
import time
from typing import Any

from absl import logging


class HostsError(RuntimeError):
    """The processes could not be joined.

    Attributes:
      problem: what is wrong, and what to do.
      argument: the name of what of a `Cluster` is wrong, or None where it is none of it alone.
      value: what it was.
    """

    def __init__(self, problem: str, argument: str | None = None, value: Any = None):
        super().__init__(problem, argument, value)
        self.problem, self.argument, self.value = problem, argument, value

    def __str__(self) -> str:
        return f"{self.argument}={self.value} {self.problem}" if self.argument else self.problem


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of host:port.

    Raises:
      HostsError: where it is none.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise HostsError("must be host:port, such as node0:1234", "coordinator_address", address)
    return host.strip("[]"), int(port)


def address_to_listen_at(address: str) -> str | None:
    """What process 0 binds to: the address that the others were given, and no other of this host.

    Whoever reaches the port can join the run or disturb it. None leaves the choice to JAX, which
    listens on all network interfaces: where its own variable JAX_COORDINATOR_BIND_ADDRESS says at
    which, and, with a warning, where the others know this host by an address that is not its own.

    Raises:
      HostsError: where the address is none, or the port is in use. JAX would end the process with a
        stack trace.
    """
    host, port = host_and_port(address)
    if "JAX_COORDINATOR_BIND_ADDRESS" in os.environ:
        return None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, place in found:
            with socket.socket(family, kind, protocol) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(place)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            _warn_of_all_interfaces(address, "is no address of this host itself")
            return None
        problem = f"cannot be listened at; choose another port ({error})"
        raise HostsError(problem, "coordinator_address", address) from error
    places = [ipaddress.ip_address(str(place[0]).partition("%")[0]) for *_, place in found]
    if all(place.is_loopback for place in places) and not _is_meant_to_be_local(host):
        _warn_of_all_interfaces(address, f"is {places[0]} on this host, which no other can reach")
        return None
    return address


def _is_meant_to_be_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _warn_of_all_interfaces(address: str, why: str) -> None:
    logging.warning(
        "%s %s, so process 0 listens on all of its network interfaces. Keep the port from networks "
        "that are not trusted, or give an address of this host's own",
        address,
        why,
    )


def wait_for_coordinator(address: str, timeout: int) -> None:
    """Waits until process 0 listens there.

    Raises:
      HostsError: where the address is none, or nobody listens after `timeout` seconds.
    """
    place, deadline = host_and_port(address), time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(place, timeout).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise HostsError(
                    f"cannot be reached after {timeout} s; check it, and that process 0 was "
                    f"started ({error})",
                    "coordinator_address",
                    address,
                ) from error
        time.sleep(0.2)
