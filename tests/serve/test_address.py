"""The `ip` of a hop, in network namespaces of the test."""

import os
import subprocess
import sys

import pytest

from mockservice.serve.address import find_pod_ip
from mockservice.serve.settings import Settings

_ENV = {"app": "mocka", "version": "v1"}


def _find(**env: str) -> str:
    return find_pod_ip(Settings.from_env({**_ENV, **env}))


def test_the_setting_wins() -> None:
    assert _find(pod_ip="10.9.8.7", host="127.0.0.5") == "10.9.8.7"


@pytest.mark.parametrize("host", ["127.0.0.5", "10.1.2.3", "::1"])
def test_the_host_setting_is_the_ip(host: str) -> None:
    assert _find(host=host) == host


@pytest.mark.skipif(os.getuid() != 0, reason="making a network namespace takes root")
@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("", "127.0.0.1"),
        ("ip link set lo up", "127.0.0.1"),
        (
            "link eth0; ip addr add 10.0.239.73/24 dev eth0; ip route add default via 10.0.239.1",
            "10.0.239.73",
        ),
        (
            # The default route uses the second interface.
            "link eth0; ip addr add 172.17.0.1/16 dev eth0;"
            "link eth1; ip addr add 10.0.0.4/24 dev eth1;"
            "ip route add default via 10.0.0.1",
            "10.0.0.4",
        ),
        (
            # No default route, as on an internal network.
            "link eth0; ip addr add 10.0.0.4/24 dev eth0",
            "10.0.0.4",
        ),
        (
            "link eth0; "
            "ip addr add fd00:10::4/64 dev eth0 nodad; ip -6 route add default via fd00:10::1",
            "fd00:10::4",
        ),
        (
            "link eth0; ip addr add fd00:10::4/64 dev eth0 nodad",
            "fd00:10::4",
        ),
        (
            "link eth0; "
            "ip addr add 10.0.0.4/24 dev eth0; ip addr add fd00:10::4/64 dev eth0 nodad;"
            "ip route add default via 10.0.0.1; ip -6 route add default via fd00:10::1",
            "10.0.0.4",
        ),
    ],
    ids=[
        "no network",
        "loopback alone",
        "a pod",
        "two interfaces",
        "no default route",
        "IPv6 alone",
        "IPv6 alone without default route",
        "both families",
    ],
)
def test_without_settings_it_is_the_machines_main_address(network: str, expected: str) -> None:
    find = (
        "from mockservice.serve.address import find_pod_ip;"
        "from mockservice.serve.settings import Settings;"
        "print(find_pod_ip(Settings(app='a', version='v')))"
    )
    link = (
        "link() { ip link add $1 type veth peer name $1-end;"
        " ip link set $1 up; ip link set $1-end up; }"
    )
    script = f'set -e; {link}; {network or ":"}; exec "$0" -c "{find}"'
    found = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, sys.executable],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert found.stdout.strip() == expected
