"""Cases, as tables: what a file of them may be, and the one line for each that may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from mockservice.mesh.errors import RefusedError
from mockservice.mesh.load import load
from mockservice.mesh.survey import read_lane_map
from mockservice.verify.cases import MAX_CASES, Case, read_cases
from tests.lanes.building import write
from tests.verify.shop import IN_BLUE, shop

if TYPE_CHECKING:
    from pathlib import Path


def cases(path: Path, text: str) -> list[Case]:
    file = path / "cases.yaml"
    file.write_text(text)
    return read_cases(file)


def test_a_case_is_a_request_and_the_chain_or_the_shares_it_must_get(tmp_path: Path) -> None:
    read = cases(
        tmp_path,
        f"""\
cases:
  - name: testers reach the blue price service
    request: {{path: /shop, headers: {{X-Lane: blue}}}}
    chain: {IN_BLUE}
  - request: {{path: "/shop?a=1", method: POST, host: shop.example}}
    chain: front(base)->(no hop)
    status: 404
  - request: {{path: /shop}}
    shares: {{base: 85, blue: 15}}
  - request: {{path: /down}}
    chain: (no answer)
""",
    )
    assert [one.name for one in read] == [
        "testers reach the blue price service",
        "POST shop.example/shop?a=1",
        "/shop",
        "/down",
    ]
    assert [one.headers for one in read] == [(("x-lane", "blue"),), (), (), ()]
    assert [one.chain for one in read] == [
        IN_BLUE,
        "front(base) -> (no hop)",
        None,
        "(no answer)",
    ]
    assert [one.status for one in read] == [200, 404, 200, None]
    assert read[2].shares == {"base": 85, "blue": 15}
    assert [one.source.line for one in read] == [2, 5, 8, 10]


TREE = "web(v1) -> [orders(v1) -> [stock(unreachable); price(v1) -> users(v1)]; (no hop)]"


@pytest.mark.parametrize(
    ("written", "drawn"),
    [
        (TREE, TREE),
        # Brackets may be in the name of an app.
        ("front(base)->[x](base)", "front(base) -> [x](base)"),
        (TREE.replace(" ", ""), TREE.replace("(no hop)", "(nohop)")),
        (TREE.replace("; ", "\n ;  "), TREE),
        (r"web(v1)->[a\; b(v\]);\[c(1)]", r"web(v1) -> [a\; b(v\]); \[c(1)]"),
    ],
)
def test_the_chain_of_a_case_may_be_a_tree(tmp_path: Path, written: str, drawn: str) -> None:
    case = {"request": {"path": "/shop"}, "chain": written}
    (read,) = cases(tmp_path, yaml.safe_dump({"cases": [case]}))
    assert read.chain == drawn


@pytest.mark.parametrize(
    "chain",
    [
        "web(v1) -> [orders(v1)]",
        "web(v1) -> [orders(v1); ]",
        "web(v1) -> [orders(v1); users]",
        "web(v1) -> [orders(v1); users(v1)",
        "web(v1) -> [orders(v1); users(v1)]]",
        "web(v1) -> [orders(v1); users(v1)] -> stock(v1)",
        "web(v1) -> [[orders(v1); stock(v1)]; users(v1)]",
        "-> [orders(v1); users(v1)]",
        "web(v1) -> [orders(v1); users(v1)]; a(b)",
        "web(v1) -> [orders(v1); users(v1)]\\",
        "web(v1) -> [" * 20_000,
    ],
)
def test_what_is_no_tree_is_told(tmp_path: Path, chain: str) -> None:
    with pytest.raises(RefusedError) as refused:
        cases(tmp_path, yaml.safe_dump({"cases": [{"request": {"path": "/"}, "chain": chain}]}))
    (problem,) = refused.value.problems
    assert problem.endswith(
        "must be hops such as front(base) -> cart(base), or a tree such as"
        " front(base) -> [cart(base); users(base)]"
    )


def test_a_case_takes_the_entrance_of_the_map_that_asks_the_same(tmp_path: Path) -> None:
    lane_map = read_lane_map(load([write(tmp_path / "shop.yaml", *shop())]))
    same, other = cases(
        tmp_path,
        """\
cases:
  - request: {path: /shop, headers: {x-lane: blue}}
    chain: front(base)
  - request: {path: /shop/cart, headers: {x-lane: blue}}
    chain: front(base)
""",
    )
    assert same.entrance(lane_map) in lane_map.entrances
    entrance = other.entrance(lane_map)
    assert entrance not in lane_map.entrances
    assert entrance.weights == {"blue": 1}


REQUEST = "request: {path: /shop}"
CHAIN = "chain: front(base)"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ": must hold one YAML document, not 0"),
        ("a: 1\n---\nb: 1\n", ": must hold one YAML document, not 2"),
        ("cases: [", ":1: invalid YAML: expected the node content, but found '<stream end>'"),
        ("- 1\n", ":1: must be an object, not [1]"),
        ("cases: []\n", ":1: cases: must not be empty"),
        ("case: []\n", ":1: case: unknown field; did you mean 'cases'?"),
        ("cases:\n- chain: a(b)\n", ":2: cases[0].request: must be set"),
        (f"cases:\n- {CHAIN}\n  request: {{}}\n", ":3: cases[0].request.path: must be set"),
        (
            f"cases:\n- {REQUEST}\n  {CHAIN}\n- {CHAIN}\n  request:\n"
            "    method: GET\n    path: shop\n",
            ":7: cases[1].request.path: 'shop':"
            " must be a path such as /shop, in ASCII, without spaces and #",
        ),
        (
            f"cases:\n- {CHAIN}\n  request: {{path: /, method: CONNECT}}\n",
            ":3: cases[0].request.method: 'CONNECT': must be a method such as GET or POST",
        ),
        (
            f"cases:\n- {CHAIN}\n  request: {{path: /, host: a b}}\n",
            ":3: cases[0].request.host: 'a b': must be a host name such as shop.example.com",
        ),
        (
            f"cases:\n- {CHAIN}\n  request: {{path: /, header: {{x-lane: blue}}}}\n",
            ":3: cases[0].request.header: unknown field; did you mean 'headers'?",
        ),
        (
            f"cases:\n- {CHAIN}\n  request:\n    path: /\n    headers: {{x-lane: 1}}\n",
            ":5: cases[0].request.headers.x-lane: must be a string, not 1",
        ),
        (
            f"cases:\n- {CHAIN}\n  request:\n    path: /\n    headers: {{x lane: a}}\n",
            ":5: cases[0].request.headers.x lane: 'x lane: a':"
            " must be a header name, a colon and a value",
        ),
        (
            f"cases:\n- {CHAIN}\n  request: {{path: /, headers: {{Host: a}}}}\n",
            ":3: cases[0].request.headers.Host: must be given as host of the request",
        ),
        (f"cases:\n- {REQUEST}\n", ":2: cases[0]: must have exactly one of chain, shares"),
        (
            f"cases:\n- {REQUEST}\n  {CHAIN}\n  shares: {{base: 1}}\n",
            ":2: cases[0]: must have exactly one of chain, shares",
        ),
        (
            f"cases:\n- {REQUEST}\n  chain: front -> cart\n",
            ":3: cases[0].chain: 'front -> cart': must be hops such as front(base) -> cart(base)",
        ),
        (
            f"cases:\n- {REQUEST}\n  {CHAIN}\n  status: 99\n",
            ":4: cases[0].status: 99: must be from 100 to 599",
        ),
        (
            f"cases:\n- {REQUEST}\n  shares: {{base: 1}}\n  status: 404\n",
            ":4: cases[0].status: must be beside a chain",
        ),
        (
            f"cases:\n- {REQUEST}\n  shares: {{base: 0}}\n",
            ":3: cases[0].shares: must be lanes of which one at least has a share of more than 0",
        ),
        (
            f"cases:\n- {REQUEST}\n  shares: {{base: many}}\n",
            ":3: cases[0].shares.base: must be an integer, not 'many'",
        ),
        (
            "cases:\n" + f"- {{{REQUEST}, {CHAIN}}}\n" * (MAX_CASES + 1),
            ":1: cases: 201 cases: must be at most 200",
        ),
        (" " * 1024 * 1024 + "a", ": must be at most 1048576 bytes"),
    ],
)
def test_what_is_no_case_is_told_in_one_line(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        cases(tmp_path, text)
    assert str(tmp_path / "cases.yaml") + problem in refused.value.problems


def test_a_file_of_cases_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no such file or directory"):
        read_cases(tmp_path / "cases.yaml")
