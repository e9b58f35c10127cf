"""Settings: the allowed values of each, and the error for others."""

import subprocess
import sys

import pytest

from mockservice.serve.faults import Delay, Fault
from mockservice.serve.settings import SettingError, Settings
from tests.running import launch, running

_ENV = {"app": "mocka", "version": "v1"}
_URL = "an http or https URL with a host, in ASCII, without user name and fragment"
_NAME = "set, to 1 to 253 printable characters"
_PORT = "a number from 1 to 65535"
_IP = "an IPv4 or IPv6 address, without a scope"
_TIMEOUT = "seconds, more than 0 and at most 3600"
_HEADER = "a header name, or the start of one and '*'"
_DELAY = "seconds, more than 0 and at most 300, or a spread of them such as 0.2-0.8"
_ABORT = "a status from 400 to 599"
_PERCENT = "a number from 0 to 100"
_ENDS = "no hop-by-hop header, and none that a hop sets itself"


def test_defaults() -> None:
    settings = Settings.from_env(_ENV)
    assert (settings.port, settings.upstream_timeout) == (8000, 5.0)
    assert (settings.upstream_urls, settings.host, settings.pod_ip) == ((), None, None)
    assert settings.lane_headers == ()
    assert (settings.faults, settings.fault_header) == ((), False)


def test_an_empty_variable_counts_as_unset() -> None:
    settings = """
        upstream_url port host pod_ip lane_headers upstream_timeout upstream_proxy workers
        fault_delay fault_delay_percent fault_abort fault_abort_percent fault_header
    """.split()
    assert Settings.from_env({**_ENV, **dict.fromkeys(settings, "")}) == Settings.from_env(_ENV)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "target", "hop"),
    [
        ("http://mockb:8000/", "mockb", 8000, "mockb:8000", "/", "mockb"),
        ("http://mockb", "mockb", 80, "mockb", "/", "mockb"),
        ("https://mockb/a/../b?c=%20d", "mockb", 443, "mockb", "/a/../b?c=%20d", "mockb"),
        ("http://[::1]:81?q", "::1", 81, "[::1]:81", "/?q", "[::1]:81"),
        ("http://10.0.0.4:8000/", "10.0.0.4", 8000, "10.0.0.4:8000", "/", "10.0.0.4:8000"),
    ],
)
def test_upstream_url(
    url: str, host: str, port: int, authority: str, target: str, hop: str
) -> None:
    [upstream] = Settings.from_env({**_ENV, "upstream_url": url}).upstream_urls
    assert (upstream.host, upstream.port, upstream.authority) == (host, port, authority)
    assert (upstream.target, upstream.hop, upstream.text) == (target, hop, url)


def test_several_upstream_urls_are_separated_by_commas() -> None:
    value = "http://orders:8000/a%2Cb,  http://users ,http://orders:8000/a%2Cb"
    upstreams = Settings.from_env({**_ENV, "upstream_url": value}).upstream_urls
    assert [url.text for url in upstreams] == [
        "http://orders:8000/a%2Cb",
        "http://users",
        "http://orders:8000/a%2Cb",
    ]
    assert [url.target for url in upstreams] == ["/a%2Cb", "/", "/a%2Cb"]


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("http://users,", ""),
        (",http://users", ""),
        ("http://users,,http://orders", ""),
        ("http://users/a,b", "b"),
        ("http://users,orders:8000", "orders:8000"),
        ("http://users,\thttp://orders", "\thttp://orders"),
    ],
)
def test_of_several_upstream_urls_the_wrong_one_is_named(value: str, wrong: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings.from_env({**_ENV, "upstream_url": value})
    hint = "a comma ends a URL, and its own comma is written %2C"
    assert str(caught.value) == f"upstream_url={wrong!r}: must be {_URL}; {hint}"


def test_a_hop_has_at_most_32_upstreams() -> None:
    most = ",".join(["http://users"] * 32)
    assert len(Settings.from_env({**_ENV, "upstream_url": most}).upstream_urls) == 32
    with pytest.raises(SettingError, match="must be at most 32 URLs"):
        Settings.from_env({**_ENV, "upstream_url": f"{most},http://users"})


def test_a_proxy_is_for_http_only() -> None:
    env = {**_ENV, "upstream_url": "http://a,https://b", "upstream_proxy": "http://mesh:80"}
    assert Settings.from_env(env).upstream_proxy is not None
    env["upstream_url"] = "https://a,https://b"
    with pytest.raises(SettingError, match="an upstream_url must be http too"):
        Settings.from_env(env)


def test_lane_headers_are_names_and_prefixes() -> None:
    settings = Settings.from_env({**_ENV, "lane_headers": "Cookie, x-team-* ,,authorization"})
    assert settings.lane_headers == ("cookie", "x-team-*", "authorization")


@pytest.mark.parametrize(
    ("env", "faults"),
    [
        ({"fault_delay": "0.5"}, [Fault("mocka", delay=Delay(0.5, 0.5))]),
        ({"fault_delay": "300"}, [Fault("mocka", delay=Delay(300, 300))]),
        ({"fault_delay": "0-0.8"}, [Fault("mocka", delay=Delay(0, 0.8))]),
        ({"fault_abort": "400"}, [Fault("mocka", abort=400)]),
        ({"fault_abort": "599"}, [Fault("mocka", abort=599)]),
        (
            {"fault_abort": "503", "fault_abort_percent": "0"},
            [Fault("mocka", abort=503, percent=0)],
        ),
        (
            {
                "fault_delay": "0.2-0.8",
                "fault_delay_percent": "12.5",
                "fault_abort": "503",
                "fault_abort_percent": "100",
            },
            [Fault("mocka", delay=Delay(0.2, 0.8), percent=12.5), Fault("mocka", abort=503)],
        ),
    ],
)
def test_faults(env: dict[str, str], faults: list[Fault]) -> None:
    assert Settings.from_env({**_ENV, **env}).faults == tuple(faults)


def test_the_fault_header_is_carried_where_it_is_on() -> None:
    settings = Settings.from_env({**_ENV, "fault_header": "on", "lane_headers": "cookie"})
    assert settings.fault_header
    assert settings.lane_headers == ("cookie", "x-mock-fault")
    assert not Settings.from_env({**_ENV, "fault_header": "off"}).fault_header


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("app", "", _NAME),
        ("app", "  ", _NAME),
        ("app", "mock\na", _NAME),
        ("app", "a" * 254, _NAME),
        ("app", "a(b", "without '(', which ends it in the chain"),
        ("version", "", _NAME),
        ("version", "v1\x1b[31m", _NAME),
        ("version", "v1, ip: x", "without ', ip:', which ends it in the chain"),
        ("port", "0", _PORT),
        ("port", "65536", _PORT),
        ("port", "-1", _PORT),
        ("port", "eighty", _PORT),
        ("port", "٨٠", _PORT),
        ("port", "9" * 5000, _PORT),
        ("workers", "0", "a number from 1 to 64"),
        ("workers", "65", "a number from 1 to 64"),
        ("access_log", "yes", "on or off"),
        ("access_log", "ON", "on or off"),
        ("pod_ip", "mocka", _IP),
        ("pod_ip", "fe80::1%eth0", _IP),
        ("pod_ip", "fe80::1%a\r\nb", _IP),
        ("upstream_timeout", "-1", _TIMEOUT),
        ("upstream_timeout", "0", _TIMEOUT),
        ("upstream_timeout", "nan", _TIMEOUT),
        ("upstream_timeout", "inf", _TIMEOUT),
        ("upstream_timeout", "soon", _TIMEOUT),
        ("upstream_url", "mockb:8000", _URL),
        ("upstream_url", "ftp://mockb/", _URL),
        ("upstream_url", "http://", _URL),
        ("upstream_url", "http://:8000/", _URL),
        ("upstream_url", "http://mockb:port/", _URL),
        ("upstream_url", "http://mockb:65536/", _URL),
        ("upstream_url", "http://mockb/ b", _URL),
        ("upstream_url", "http://mockb/\r\nx: y", _URL),
        ("upstream_url", "http://mockb/é", _URL),
        ("upstream_url", "http://user:secret@mockb/", _URL),
        ("upstream_url", "http://mockb/#x", _URL),
        ("upstream_url", "http://mockb:0/", "a URL with a port from 1 to 65535"),
        (
            "upstream_url",
            f"http://{'b' * 254}/",
            "a URL with a host of at most 253 characters",
        ),
        ("upstream_proxy", "https://mesh/", "an http URL, and an upstream_url must be http too"),
        ("lane_headers", "x lane", _HEADER),
        ("lane_headers", "x-*-lane", _HEADER),
        ("lane_headers", "*", _HEADER),
        ("lane_headers", "x:lane", _HEADER),
        ("lane_headers", "Connection", _ENDS),
        ("lane_headers", "transfer-encoding", _ENDS),
        ("lane_headers", "host", _ENDS),
        ("lane_headers", "accept", _ENDS),
        ("lane_headers", "X-Mock-Hops", _ENDS),
        ("lane_headers", "X-Mock-Hops-Remaining", _ENDS),
        ("lane_headers", "Content-Length", _ENDS),
        ("lane_headers", "X-Mock-Fault", "another header: fault_header=on carries this one"),
        ("fault_delay", "0", _DELAY),
        ("fault_delay", "300.1", _DELAY),
        ("fault_delay", "-1", _DELAY),
        ("fault_delay", "0.8-0.2", _DELAY),
        ("fault_delay", "0.2-", _DELAY),
        ("fault_delay", "0.2-0.8-1", _DELAY),
        ("fault_delay", "1s", _DELAY),
        ("fault_delay", "nan", _DELAY),
        ("fault_delay", "1e1", _DELAY),
        ("fault_delay", "٣", _DELAY),
        ("fault_delay", "1" * 5000, _DELAY),
        ("fault_abort", "399", _ABORT),
        ("fault_abort", "600", _ABORT),
        ("fault_abort", "503.0", _ABORT),
        ("fault_abort", "٥٠٣", _ABORT),
        ("fault_abort", "yes", _ABORT),
        ("fault_delay_percent", "101", _PERCENT),
        ("fault_abort_percent", "30%", _PERCENT),
        ("fault_abort_percent", "-1", _PERCENT),
        ("fault_abort_percent", "nan", _PERCENT),
        ("fault_delay_percent", "5", "set together with fault_delay"),
        ("fault_abort_percent", "5", "set together with fault_abort"),
        ("fault_header", "true", "on or off"),
    ],
)
def test_a_bad_value_is_named_in_one_line(setting: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingError) as error:
        Settings.from_env({**_ENV, setting: value})
    assert str(error.value) == f"{setting}={value!r}: must be {allowed}"
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("app", ["mock,a", "mock;a", " mocka", "mocka "])
def test_an_app_that_the_fault_header_cannot_name_is_refused(app: str) -> None:
    with pytest.raises(
        SettingError, match=r"^app='.*': must be without ',', ';' and space at its ends"
    ):
        Settings.from_env({**_ENV, "app": app, "fault_header": "on"})


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({}, f"app='': must be {_NAME}"),
        ({**_ENV, "port": "99999"}, f"port='99999': must be {_PORT}"),
        (
            {**_ENV, "host": "203.0.113.1"},
            "host='203.0.113.1': must be an address or a name of this machine",
        ),
        ({**_ENV, "host": "no such host"}, "host='no such host': must be an address or a name"),
        (
            {
                **_ENV,
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "OTEL_EXPORTER_OTLP_PROTOCOL='grpc': must be http/protobuf",
        ),
        (
            {**_ENV, "OTEL_EXPORTER_OTLP_ENDPOINT": "collector"},
            "OTEL_EXPORTER_OTLP_ENDPOINT='collector': must be an http or https URL with a host",
        ),
        (
            {
                **_ENV,
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
                "OTEL_PROPAGATORS": "b4",
            },
            "OTEL_PROPAGATORS='b4': must be names out of tracecontext, baggage, b3, b3multi, none",
        ),
    ],
)
def test_a_bad_start_ends_with_one_line_and_exit_code_2(env: dict[str, str], line: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "mockservice", "serve"],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"mockservice: {line}")
    assert ended.stderr.count("\n") == 1


def test_a_taken_port_is_named() -> None:
    with running() as hop:
        second = launch("mocka", "v1", host=hop.address)
        line = f"port='8000': must be free on {hop.address} (address already in use)"
        assert line in second.errors(timeout=20)
        assert second.process.returncode == 2
