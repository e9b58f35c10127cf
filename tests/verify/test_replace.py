"""`mockservice verify --replace`: a service of somebody's own, judged with all others."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.lanes.running import TIMEOUT, free_port
from tests.verify.test_bookinfo import BOOKINFO, CALLS

pytestmark = pytest.mark.slow


def test_verify_names_a_service_that_drops_the_lane() -> None:
    port = free_port()
    service = subprocess.Popen(
        [sys.executable, BOOKINFO / "productpage.py", str(port)],
        env={"http_proxy": f"http://127.0.0.1:{port + 10000}"},
    )
    command = [sys.executable, "-m", "mockservice", "verify", str(BOOKINFO)]
    options = ["--calls", str(CALLS), "--replace", f"productpage=http://127.0.0.1:{port}"]
    routes = BOOKINFO / "routes" / "reviews-by-user.yaml"
    try:
        result = subprocess.run(
            [*command, str(routes), *options], capture_output=True, text=True, timeout=TIMEOUT
        )
    finally:
        service.kill()
        service.wait()
    assert (result.returncode, result.stderr) == (1, "")
    assert (
        "error: lane jason is owed reviews(v2) but got reviews(v1) after productpage:"
        " productpage(v1) did not pass on end-user: jason (40 requests)"
    ) in result.stdout
