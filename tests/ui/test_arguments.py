"""The arguments: what is not allowed is named in one line, and ends with 2."""

import socket

import pytest

from mockservice.cli import main


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "the following arguments are required: URL"),
        (["gateway/mock"], "'gateway/mock': must be an http or https URL with a host"),
        (["http://gateway/", "--rate", "0"], "--rate: '0': must be requests per second, from 0.1"),
        (["http://gateway/", "--rate", "101"], "'101': must be requests per second"),
        (["http://gateway/", "--rate", "nan"], "'nan': must be requests per second"),
        (["http://gateway/", "--rate", "fast"], "'fast': must be requests per second"),
        (["http://gateway/", "--header", "x-lane"], "must be a header name, a colon and a value"),
        (["http://gateway/", "--expect", "v1"], "'v1': must be lanes, each once, with weights"),
        (["http://gateway/", "--trace-url", "http://ui/"], "'http://ui/': must be a URL with {id}"),
        (["http://gateway/", "--trace-url", "javascript:{id}"], "must be an http or https URL"),
        (["http://gateway/", "--port", "0"], "--port: '0': must be a number from 1 to 65535"),
        (["http://gateway/", "--port", "65536"], "'65536': must be a number from 1 to 65535"),
        (["http://gateway/", "--host", "no.such.host.invalid"], "--host: 'no.such.host.invalid'"),
        (["http://gateway/", "--host", ""], "--host: '': must be an address or a name"),
        (["http://gateway/", "--host", "0"], "--host: '0': must be an address or a name"),
        (["http://gateway/", "--host", "me@here"], "--host: 'me@here': must be an address"),
    ],
)
def test_bad_arguments(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert line in printed.err.splitlines()[-1]


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["ui", "http://gateway/", "--port", port]) == 2
    assert capsys.readouterr().err == (
        f"mockservice ui: --port: '{port}': must be free at 127.0.0.1 (address already in use)\n"
    )


def test_help_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--help"]) == 0
    assert "--trace-url" in capsys.readouterr().out
