"""Addresses of pods on this machine: as on a cluster, each pod has an IP address of its own.

These are loopback addresses. Linux has all of 127.0.0.0/8; on other systems pods share 127.0.0.1
and differ in their ports.
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

# Ports of a sidecar, as in Istio.
_OUTBOUND: Final = 15001
_INBOUND: Final = 15006

# Each run of local lanes takes one network 127.x.0.0/16, with x from this range. It reserves the
# network with a socket on the first address, so that several runs can work side by side.
_NETWORKS: Final = range(16, 64)
_RESERVED_PORT: Final = 15000
# Sockets on this address reserve gateway ports between runs that start at the same time.
_RESERVED_GATEWAYS: Final = "127.15.255.254"
_FIRST_POD: Final = 2
_PER_BLOCK: Final = 250

_PREFERRED_GATEWAY_PORT: Final = 8080
_UNPRIVILEGED: Final = 8000
"""What is added to a port that only root may use: 80 becomes 8080."""


@dataclass(frozen=True, slots=True)
class Place:
    """The IP address of a pod and the ports of its service and its sidecar."""

    number: int
    """Unique among all pods of a run, including those that have ended."""
    ip: str
    port: int
    """The port of the service."""
    outbound: int
    """The sidecar's port for calls from the service."""
    inbound: int
    """The sidecar's port for calls to the service."""


class Network:
    """The loopback addresses of one run of local lanes.

    Raises:
        LanesError: all networks are in use.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._reserved: list[socket.socket] = []
        self._second = self._reserve_network() if _MANY_ADDRESSES else 0

    def _reserve_network(self) -> int:
        for second in _NETWORKS:
            if self._reserve(f"127.{second}.0.1", _RESERVED_PORT):
                return second
        first, last = _NETWORKS[0], _NETWORKS[-1]
        raise LanesError(f"all networks from 127.{first}.0.0 to 127.{last}.0.0 are in use")

    def _reserve(self, ip: str, port: int) -> bool:
        """Reserve an address against other runs; False if another run has it."""
        reserved = socket.socket()
        try:
            reserved.bind((ip, port))
        except OSError:
            reserved.close()
            return False
        self._reserved.append(reserved)
        return True

    def place(self, port: int) -> Place:
        """Return a new place for a pod whose service listens on `port`."""
        number = next(self._numbers)
        if not _MANY_ADDRESSES:
            return Place(number, _SHARED, *_free_ports(3))
        block, last = divmod(number, _PER_BLOCK)
        ip = f"127.{self._second}.{block % 256}.{last + _FIRST_POD}"
        port = _allowed(ip, port)
        # The service itself may use one of the sidecar's ports.
        outbound, inbound = (side + (side == port) for side in (_OUTBOUND, _INBOUND))
        return Place(number, ip, port, outbound, inbound)

    def gateway_port(self, port: int | None) -> int:
        """Choose the gateway's port and reserve it.

        Args:
            port: the requested port; None for 8080 or, if that is in use, any free port.

        Raises:
            RefusedError: the requested port is in use.
        """
        preferred = port or _PREFERRED_GATEWAY_PORT
        if _is_free(preferred) and (
            not _MANY_ADDRESSES or self._reserve(_RESERVED_GATEWAYS, preferred)
        ):
            return preferred
        if port:
            raise RefusedError([f"--port: '{port}': must be free at {_SHARED}"])
        return _free_ports(1)[0]

    def close(self) -> None:
        """Release the network and the gateway's port."""
        for reserved in self._reserved:
            reserved.close()


def _allowed(ip: str, port: int) -> int:
    """The port, or another one where nobody but root may listen at it."""
    with socket.socket() as candidate:
        try:
            candidate.bind((ip, port))
        except PermissionError:
            return port + _UNPRIVILEGED
        except OSError:
            # Whoever listens there is told of it.
            pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((_SHARED, port))
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    candidates = [socket.socket() for _ in range(count)]
    try:
        for candidate in candidates:
            candidate.bind((_SHARED, 0))
        return [int(candidate.getsockname()[1]) for candidate in candidates]
    finally:
        for candidate in candidates:
            candidate.close()
