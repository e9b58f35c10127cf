"""What counts as an Envoy or a browser, so that `make test-fast` starts neither."""

import pytest

from tests.conftest import is_heavy


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("/venv/envoy/_bin/envoy -c bootstrap.json", True),
        ("/usr/bin/chromium --headless", True),
        ("/usr/bin/chromium-headless-shell", True),
        ("/venv/playwright/driver/node cli.js run-driver", True),
        ("/venv/bin/python -m mockservice lanes k8s/workloads", True),
        ("/venv/bin/python -m mockservice serve", False),
        ("/venv/bin/python -m mockservice ui http://127.0.0.1/", False),
        ("openssl req -out /tmp/test_envoy/cert.pem", False),
    ],
)
def test_a_command_is_heavy_if_it_starts_an_envoy_or_a_browser(command: str, heavy: bool) -> None:
    assert is_heavy(command.split()) == heavy
