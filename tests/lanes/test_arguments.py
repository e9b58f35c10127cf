"""Arguments that are refused before anything runs."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from mockservice.lanes.addresses import Network
from mockservice.lanes.command import main as lanes
from mockservice.probe.command import main as probe
from mockservice.verify.command import main as verify

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("main", "arguments", "problem"),
    [
        (lanes, ["-", "--watch"], "--watch: must be without -, as standard input is read once"),
        (
            lanes,
            ["x", "--replace", "cart=9000"],
            "argument --replace: 'cart=9000': must be APP=URL",
        ),
        (
            verify,
            ["x", "--replace", "cart=http://127.0.0.1:9000/api"],
            "with a URL such as http://127.0.0.1:9000, without a path",
        ),
        (verify, ["x", "--calls", "=orders"], "argument --calls: '=orders': must be APP=SERVICE,"),
        (probe, ["http://a/", "--calls", "a=b"], "--calls: must be with --manifests"),
        (probe, ["http://a/", "-R"], "--recursive: must be with --manifests"),
    ],
)
def test_a_bad_argument_ends_with_one_line_and_2(
    main: Callable[[list[str]], int],
    arguments: list[str],
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err.splitlines()[-1]


def test_a_port_that_only_root_may_use_becomes_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an image that listens at 80 is run by somebody who is not root."""

    class Socket(socket.socket):
        def bind(self, address: Any) -> None:
            if address[1] < 1024:
                raise PermissionError
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Socket)
    network = Network()
    try:
        assert [network.place(port).port for port in (80, 443, 8000)] == [8080, 8443, 8000]
    finally:
        network.close()
