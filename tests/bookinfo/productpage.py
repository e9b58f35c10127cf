"""A service of somebody's own, to replace productpage: it calls details and reviews.

It knows nothing of lanes: `--carry NAME` makes it pass on a header. Its calls go by `http_proxy`.

    http_proxy=http://127.0.0.1:19000 python3 productpage.py 9000
"""

from __future__ import annotations

import argparse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

UPSTREAMS = ("http://details:9080/", "http://reviews:9080/")

_parser = argparse.ArgumentParser()
_parser.add_argument("port", type=int)
_parser.add_argument("--carry", action="append", default=[])
_options = _parser.parse_args()


class Page(BaseHTTPRequestHandler):
    """Answers with a page."""

    def do_GET(self) -> None:
        """Call both upstreams, one after the other."""
        carried = {name: self.headers[name] for name in _options.carry if name in self.headers}
        for url in UPSTREAMS:
            with urlopen(Request(url, headers=carried)) as response:
                response.read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<h1>The Comedy of Errors</h1>\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is given
        """Say nothing."""


ThreadingHTTPServer(("127.0.0.1", _options.port), Page).serve_forever()
