"""The settings of a hop, read from the environment once, at start."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar
from urllib.parse import SplitResult, urlsplit

from mockservice.propagation import FAULT_HEADER, HEADER_NAME, NEVER_CARRIED
from mockservice.serve import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mockservice.serve.faults import Fault

_MAX_NAME_LENGTH: Final = 253
_MAX_TIMEOUT: Final = 3600.0
_MAX_WORKERS: Final = 64
_MAX_HOST_LENGTH: Final = 253
"""RFC 1035 section 2.3.4, without the dot at the end."""

MAX_UPSTREAMS: Final = 32
"""Cap on the upstreams of a hop."""

_T = TypeVar("_T")


class SettingError(ValueError):
    """A setting has a value that is not allowed. The text is one line for the user."""

    def __init__(self, setting: str, value: str, allowed: str) -> None:
        super().__init__(f"{setting}={value!r}: must be {allowed}")


class UpstreamUrl(NamedTuple):
    """An `http` or `https` URL, and its parts."""

    text: str
    """The URL as configured."""
    secure: bool
    """Whether the scheme is https."""
    host: str
    port: int
    authority: str
    """Host and port as written in the URL: the value of the `Host` header."""
    target: str
    """Path and query, for the request line (RFC 9112 section 3.2.1)."""

    @property
    def hop(self) -> str:
        """How a failure names this upstream: by host, with the port if the host is not unique."""
        if self.host == "localhost":
            return self.authority
        try:
            ip_address(self.host)
        except ValueError:
            return self.host
        return self.authority


class Settings(NamedTuple):
    """The settings of one hop. `Settings.from_env` checks their values."""

    app: str
    version: str
    upstream_urls: tuple[UpstreamUrl, ...] = ()
    """The upstreams, which are called at the same time. Without any, this is the last hop."""
    port: int = 8000
    host: str | None = None
    """None: all interfaces, IPv4 and IPv6."""
    pod_ip: str | None = None
    """None: `mockservice.serve.address` finds it."""
    lane_headers: tuple[str, ...] = ()
    """More headers to carry, in lower case: names, and prefixes that end in `*`."""
    upstream_timeout: float = 5.0
    """Seconds for an upstream call, from its start to the end of the answer."""
    upstream_proxy: UpstreamUrl | None = None
    """The HTTP proxy for calls to http URLs. None: no proxy."""
    workers: int = 1
    """Processes that share the port."""
    faults: tuple[Fault, ...] = ()
    """Faults injected into all requests."""
    fault_header: bool = False
    """Whether the `x-mock-fault` header injects faults. If so, it is one of `lane_headers`."""
    access_log: bool = False
    """Whether all requests are logged. If not, only failures are."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings from environment variables of the same names, in lower case.

        An empty variable counts as unset.

        Raises:
            SettingError: a value is missing or not allowed.
        """
        upstream_urls = _upstream_urls(env)
        upstream_proxy = _upstream_proxy(env)
        all_secure = bool(upstream_urls) and all(url.secure for url in upstream_urls)
        if upstream_proxy and (upstream_proxy.secure or all_secure):
            raise SettingError(
                "upstream_proxy",
                env["upstream_proxy"],
                "an http URL, and an upstream_url must be http too",
            )
        app = _name(env, "app", reserved="(")
        fault_header = _fault_header(env, app)
        return cls(
            app=app,
            version=_name(env, "version", reserved=", ip:"),
            upstream_urls=upstream_urls,
            port=_number(env, "port", default=8000, most=65535),
            host=env.get("host") or None,
            pod_ip=_pod_ip(env),
            lane_headers=_lane_headers(env, fault_header),
            upstream_timeout=_upstream_timeout(env),
            upstream_proxy=upstream_proxy,
            workers=_number(env, "workers", default=1, most=_MAX_WORKERS),
            faults=_faults(env, app),
            fault_header=fault_header,
            access_log=_switch(env, "access_log"),
        )


def _name(env: Mapping[str, str], setting: str, reserved: str) -> str:
    value = env.get(setting, "")
    if not value.strip() or not value.isprintable() or len(value) > _MAX_NAME_LENGTH:
        allowed = f"set, to 1 to {_MAX_NAME_LENGTH} printable characters"
        raise SettingError(setting, value, allowed)
    if reserved in value:
        raise SettingError(setting, value, f"without {reserved!r}, which ends it in the chain")
    return value


def _number(env: Mapping[str, str], setting: str, default: int, most: int) -> int:
    value = env.get(setting) or str(default)
    # int() of very long texts is slow or fails; nine digits are more than any limit here.
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= most):
        raise SettingError(setting, value, f"a number from 1 to {most}")
    return int(value)


def _switch(env: Mapping[str, str], setting: str) -> bool:
    value = env.get(setting) or "off"
    if value not in ("on", "off"):
        raise SettingError(setting, value, "on or off")
    return value == "on"


def _pod_ip(env: Mapping[str, str]) -> str | None:
    value = env.get("pod_ip") or None
    if value is not None:
        try:
            is_scoped = "%" in str(ip_address(value))
        except ValueError:
            is_scoped = True
        if is_scoped:
            raise SettingError("pod_ip", value, "an IPv4 or IPv6 address, without a scope")
    return value


def _upstream_timeout(env: Mapping[str, str]) -> float:
    value = env.get("upstream_timeout") or "5"
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1
    if not 0 < seconds <= _MAX_TIMEOUT:
        allowed = f"seconds, more than 0 and at most {_MAX_TIMEOUT:g}"
        raise SettingError("upstream_timeout", value, allowed)
    return seconds


def _lane_headers(env: Mapping[str, str], fault_header: bool) -> tuple[str, ...]:
    names = [name.strip() for name in env.get("lane_headers", "").split(",")]
    lane_headers = []
    for name in filter(None, names):
        token = name.removesuffix("*")
        if not HEADER_NAME.fullmatch(token) or "*" in token:
            raise SettingError("lane_headers", name, "a header name, or the start of one and '*'")
        if name.lower().encode() in NEVER_CARRIED:
            raise SettingError(
                "lane_headers", name, "no hop-by-hop header, and none that a hop sets itself"
            )
        if name.lower().encode() == FAULT_HEADER:
            raise SettingError(
                "lane_headers", name, "another header: fault_header=on carries this one"
            )
        lane_headers.append(name.lower())
    if fault_header:
        lane_headers.append(FAULT_HEADER.decode())
    return tuple(lane_headers)


def _faults(env: Mapping[str, str], app: str) -> tuple[Fault, ...]:
    delay = _read(env, "fault_delay", faults.read_delay)
    delay_percent = _percent(env, "fault_delay")
    abort = _read(env, "fault_abort", faults.read_abort)
    abort_percent = _percent(env, "fault_abort")
    found = []
    if delay is not None:
        found.append(faults.Fault(app, delay=delay, percent=delay_percent))
    if abort is not None:
        found.append(faults.Fault(app, abort=abort, percent=abort_percent))
    return tuple(found)


def _percent(env: Mapping[str, str], fault: str) -> float:
    setting = f"{fault}_percent"
    percent = _read(env, setting, faults.read_percent)
    if percent is None:
        return 100.0
    if not env.get(fault):
        raise SettingError(setting, env[setting], f"set together with {fault}")
    return percent


def _fault_header(env: Mapping[str, str], app: str) -> bool:
    is_on = _switch(env, "fault_header")
    if is_on and not faults.is_hop_name(app):
        allowed = "without ',', ';' and space at its ends, if fault_header=on"
        raise SettingError("app", app, allowed)
    return is_on


def _read(env: Mapping[str, str], setting: str, read: Callable[[str], _T]) -> _T | None:
    """Read a setting by `read`, whose ValueError says which values are allowed."""
    value = env.get(setting)
    if not value:
        return None
    try:
        return read(value)
    except ValueError as error:
        raise SettingError(setting, value, str(error)) from None


def _upstream_urls(env: Mapping[str, str]) -> tuple[UpstreamUrl, ...]:
    value = env.get("upstream_url")
    if not value:
        return ()
    texts = [text.strip(" ") for text in value.split(",")]
    if len(texts) > MAX_UPSTREAMS:
        raise SettingError("upstream_url", value, f"at most {MAX_UPSTREAMS} URLs")
    urls = []
    for text in texts:
        try:
            urls.append(_url(text))
        except ValueError as error:
            hint = "; a comma ends a URL, and its own comma is written %2C"
            allowed = f"{error}{hint if len(texts) > 1 else ''}"
            raise SettingError("upstream_url", text, allowed) from None
    return tuple(urls)


def _upstream_proxy(env: Mapping[str, str]) -> UpstreamUrl | None:
    return _read(env, "upstream_proxy", _url)


def _url(text: str) -> UpstreamUrl:
    """Read a URL.

    Raises:
        ValueError: it is not allowed; the text says which URLs are.
    """
    allowed = "an http or https URL with a host, in ASCII, without user name and fragment"
    # urlsplit silently drops some of these characters.
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(allowed)
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(allowed) from None
    if url.scheme not in ("http", "https") or not url.hostname or "#" in text or "@" in url.netloc:
        raise ValueError(allowed)
    if len(url.hostname) > _MAX_HOST_LENGTH:
        raise ValueError(f"a URL with a host of at most {_MAX_HOST_LENGTH} characters")
    if port == 0:
        raise ValueError("a URL with a port from 1 to 65535")
    secure = url.scheme == "https"
    return UpstreamUrl(
        text=text,
        secure=secure,
        host=url.hostname,
        port=port or (443 if secure else 80),
        authority=url.netloc,
        target=_target(url),
    )


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")
