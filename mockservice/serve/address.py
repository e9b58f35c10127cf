"""The address at which other pods reach this hop, found without sending a packet."""

from __future__ import annotations

import fcntl
import socket
import struct
from contextlib import closing, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.serve.settings import Settings

# Addresses that only the default route leads to. Connecting a datagram socket looks up the route
# and sends nothing. They are reserved for benchmarks (RFC 2544) and for discarding (RFC 6666).
_BEYOND: Final = ((socket.AF_INET, "198.18.0.1"), (socket.AF_INET6, "100::1"))

_SIOCGIFADDR: Final = 0x8915
_IF_INET6: Final = "/proc/net/if_inet6"


def find_pod_ip(settings: Settings) -> str:
    """The `pod_ip` setting, else the `host` setting, else this machine's main address.

    The main address is the source address of the default route, IPv4 before IPv6. Without a default
    route it is the first interface's address, and without a network the loopback address. Never
    raises.
    """
    if settings.pod_ip:
        return settings.pod_ip
    if settings.host and _is_reachable(settings.host):
        return settings.host
    for candidate in _candidates():
        if _is_reachable(candidate) and not ip_address(candidate).is_loopback:
            return candidate
    return "127.0.0.1"


def _candidates() -> Iterator[str]:
    for family, address in _BEYOND:
        with suppress(OSError), closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
            probe.connect((address, 9))
            yield probe.getsockname()[0]
    yield from _interface_addresses()


def _interface_addresses() -> Iterator[str]:
    """The addresses of the network interfaces on Linux (netdevice(7), proc_net(5))."""
    with suppress(OSError), closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                request = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
                yield socket.inet_ntoa(answer[20:24])
    # pathlib would take memory for this alone.
    with suppress(OSError), open(_IF_INET6, encoding="ascii") as lines:  # noqa: PTH123
        for line in lines:
            yield str(ip_address(bytes.fromhex(line.split()[0])))


def _is_reachable(address: str) -> bool:
    """Whether another machine can reach one interface at `address`."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return not (ip.is_unspecified or ip.is_link_local or ip.is_multicast)
