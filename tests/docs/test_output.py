"""What counts as the output that a page shows."""

from __future__ import annotations

import pytest

from tests.docs.output import unlike


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("-> mocka(version: v1, ip: 10.0.0.4)", "-> mocka(version: v1, ip: 127.0.0.1)"),
        ("v1  45  45.0%   9.45", "v1 503 9.3%  1.2"),
        ("came up 45:55, (p = 0.37)", "came up 101:99, (p = 1e-09)"),
        ("a\nb", "b\na\n\n"),
        ("a\n...", "a\nb\nc"),
        ("a ... d", "a b c d"),
        ("isolation fails   a\n   b", "isolation fails   b\n   a"),
        ('"time": "2026-11-23T15:36:10.264Z"', '"time": "2025-01-01T00:00:00.001Z"'),
        ("id 00f067aa0ba902b7", "id 1111111111111111"),
    ],
)
def test_what_differs_by_chance_is_alike(shown: str, printed: str) -> None:
    assert unlike(shown.splitlines(), printed) == []


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("mocka(v1) -> mockb(v1)", "mocka(v1) -> mockb(v2)"),
        ("injected: abort 503", "injected: abort 500"),
        ("http://127.0.0.1:8080/mock", "http://127.0.0.1:8081/mock"),
        ("isolation holds", "isolation fails"),
        ("a", "a\nb"),
        ("a\nb", "a"),
        ("a\na", "a"),
        ("a\n...", "b"),
    ],
)
def test_what_means_something_else_is_not(shown: str, printed: str) -> None:
    assert unlike(shown.splitlines(), printed)
