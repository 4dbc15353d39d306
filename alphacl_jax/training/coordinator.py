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
      HostsError: where the address is none, nobody here knows its name, or the port is in use. JAX
        would end the process with a stack trace.
    """
    host, port = host_and_port(address)
    if "JAX_COORDINATOR_BIND_ADDRESS" in os.environ:
        return None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:  # the latter of a name that can be none
        problem = f"is not known on this host; give a name or address that all hosts know ({error})"
        raise HostsError(problem, "coordinator_address", address) from error
    own = [each for each in found if _is_own(each, address)]
    if not own:
        _warn_of_all_interfaces(address, "is no address of this host itself")
        return None
    places = [ipaddress.ip_address(str(place[0]).partition("%")[0]) for *_, place in own]
    if all(place.is_loopback for place in places) and not _is_meant_to_be_local(host):
        _warn_of_all_interfaces(address, f"is {places[0]} on this host, which no other can reach")
        return None
    if len(own) == len(found):
        return address
    # Of a name that has several, the one that the host has: JAX might stumble over the others.
    literal = own[0][4][0]
    return f"[{literal}]:{port}" if places[0].version == 6 else f"{literal}:{port}"


def _is_own(found: tuple[Any, ...], address: str) -> bool:
    """Whether this host can listen at what `getaddrinfo` found.

    It cannot where it has no such interface, or none of this kind: many a container knows its
    localhost as ::1, too, and has no IPv6.
    """
    family, kind, protocol, _, place = found
    try:
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return False
        other_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        advice = "choose another port" if other_port else "give another address of this host"
        problem = f"cannot be listened at; {advice} ({error})"
        raise HostsError(problem, "coordinator_address", address) from error
    return True


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
        except (OSError, UnicodeError) as error:
            if time.monotonic() > deadline:
                raise HostsError(
                    f"cannot be reached after {timeout} s; check it, and that process 0 was "
                    f"started ({error})",
                    "coordinator_address",
                    address,
                ) from error
        time.sleep(0.2)
