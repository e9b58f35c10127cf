"""Where pods live on this machine: each on a loopback address of its own, as on a cluster.

Linux has all of 127.0.0.0/8; elsewhere pods share 127.0.0.1 and have ports of their own.
"""

from __future__ import annotations

import itertools
import socket
import sys
from dataclasses import dataclass
from typing import Final

from mockservice.lanes.errors import LanesError
from mockservice.mesh.errors import RefusedError

_MANY_ADDRESSES: Final = sys.platform == "linux"
_SHARED: Final = "127.0.0.1"

# Ports of a pod's sidecar, the ones that Istio's have.
_OUTBOUND: Final = 15001
_INBOUND: Final = 15006

# Second numbers of 127.0.0.0/8 to choose a network of; held by a socket at its first address, so
# that several local lanes run side by side.
_NETWORKS: Final = range(16, 64)
_HELD_PORT: Final = 15000
# Where the ports of gateways are held, of those that start at the same moment too.
_GATEWAYS: Final = "127.15.255.254"
_FIRST_POD: Final = 2
_PER_BLOCK: Final = 250

_PREFERRED_GATEWAY_PORT: Final = 8080


@dataclass(frozen=True, slots=True)
class Place:
    """The addresses of one pod and its sidecar, all on the same IP address."""

    number: int
    """Unlike that of any other pod, past ones included."""
    ip: str
    port: int
    """Where the service listens."""
    outbound: int
    """Where the sidecar takes the calls that the service makes."""
    inbound: int
    """Where the sidecar takes the calls that others make to the service."""


class Network:
    """The loopback addresses of one run of local lanes.

    Raises:
        LanesError: too many of them run already.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._held: list[socket.socket] = []
        self._second = 0
        if _MANY_ADDRESSES:
            self._hold()

    def _hold(self) -> None:
        for second in _NETWORKS:
            held = socket.socket()
            try:
                held.bind((f"127.{second}.0.1", _HELD_PORT))
            except OSError:
                held.close()
                continue
            self._held.append(held)
            self._second = second
            return
        raise LanesError(f"all networks from 127.{_NETWORKS[0]}.0.0 to 127.{second}.0.0 are in use")

    def place(self, port: int) -> Place:
        """A place for a pod whose service listens at `port`."""
        number = next(self._numbers)
        if not _MANY_ADDRESSES:
            return Place(number, _SHARED, *_free_ports(3))
        block, last = divmod(number, _PER_BLOCK)
        ip = f"127.{self._second}.{block % 256}.{last + _FIRST_POD}"
        # A service may listen at a sidecar's port itself.
        outbound, inbound = (side + (side == port) for side in (_OUTBOUND, _INBOUND))
        return Place(number, ip, port, outbound, inbound)

    def gateway_port(self, port: int | None) -> int:
        """The port of the gateway: the one asked for, else 8080 or, where that is taken, any.

        Raises:
            RefusedError: the one asked for is taken.
        """
        wanted = port or _PREFERRED_GATEWAY_PORT
        if _is_free(wanted) and self._hold_gateway(wanted):
            return wanted
        if port:
            raise RefusedError([f"port {port}: must be free on {_SHARED}"])
        return _free_ports(1)[0]

    def _hold_gateway(self, port: int) -> bool:
        """Keep other local lanes from a port until the gateway listens there, and after."""
        if _MANY_ADDRESSES:
            held = socket.socket()
            try:
                held.bind((_GATEWAYS, port))
            except OSError:
                held.close()
                return False
            self._held.append(held)
        return True

    def close(self) -> None:
        """Let others have the addresses."""
        for held in self._held:
            held.close()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_SHARED, port))
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((_SHARED, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
