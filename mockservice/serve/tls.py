"""TLS of upstream calls, and a hop without it.

asyncio and uvloop import `ssl` in any case. With it comes OpenSSL, which takes a fifth of a hop's
memory and a tenth of its start. So a hop that calls no https upstream leaves it out.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

_SSL: Final = "ssl"


class _NoTls(ModuleType):
    """Stands in for `ssl` while asyncio and uvloop are imported.

    They keep classes and numbers of it, but use them for TLS only.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0 if name.isupper() else type(name, (Exception,), {})


@contextmanager
def left_out() -> Iterator[None]:
    """Import asyncio and uvloop without OpenSSL, for a process that uses no TLS in its event loop.

    Does nothing if `ssl` is imported already. Who imports `ssl` afterwards gets the real one.
    """
    if _SSL in sys.modules:
        yield
        return
    sys.modules[_SSL] = _NoTls(_SSL)
    try:
        yield
    finally:
        del sys.modules[_SSL]


def client_context() -> ssl.SSLContext:
    """The context of a client that trusts this machine's certificate authorities."""
    import ssl

    return ssl.create_default_context()


def reason(error: Exception) -> str | None:
    """Why TLS has failed, in a few words; None if `error` is another one."""
    tls: Any = sys.modules.get(_SSL)
    if tls is None:
        return None
    if isinstance(error, tls.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, tls.SSLError):
        return f"TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
    return None
