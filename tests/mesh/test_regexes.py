"""Values that are made up for regular expressions."""

from __future__ import annotations

import pytest

from mockservice.mesh.regexes import MAX_VALUES, values_of


@pytest.mark.parametrize(
    ("pattern", "values"),
    [
        ("v2|beta", ["v2", "beta"]),
        ("^(v2|beta)$", ["v2", "beta"]),
        ("(?:v2|beta)-.+", ["v2-x", "beta-x"]),
        ("(a|b)(c|d)", ["ac", "ad", "bc", "bd"]),
        ("v2.*", ["v2"]),
        (".*", [""]),
        ("v[23]", ["v2", "v3"]),
        (r"[0-9]+\.[^.]{2}", ["0.aa"]),
        ("[a-z]{2,3}(-canary)?", ["aa"]),
        (r"v\d+\w", ["v0a"]),
        ("(?i)beta", ["beta"]),
        (r"^(.*?;)?(user=jason)(;.*)?$", ["user=jason"]),
        ("(?P<lane>blue)", ["blue"]),
        ("/shop/[0-9]+/items", ["/shop/0/items"]),
        ("((a|b)|c)x", ["ax", "bx", "cx"]),
    ],
)
def test_simple_expressions(pattern: str, values: list[str]) -> None:
    assert values_of(pattern) == values


@pytest.mark.parametrize(
    "pattern",
    [
        "(?!v1).+",
        r"\bv2",
        r"(a)\1",
        "[[:alpha:]]+",
        r"\pN",
        "a**",
        "a++",
        "(",
        "[",
        "a{9999}",
        "((a{100}){100}){100}",
        "(" * 600 + "a" + ")" * 600,
        " a",
        "é",
        "a$b",
        "a" * 2000,
    ],
)
def test_of_others_nothing_is_made_up(pattern: str) -> None:
    assert values_of(pattern) == []


def test_values_are_few() -> None:
    assert values_of("[abcdef][abcdef]")[:3] == ["aa", "ab", "ac"]
    assert len(values_of("(1|2|3|4|5|6|7|8|9|10|11|12)")) == MAX_VALUES
