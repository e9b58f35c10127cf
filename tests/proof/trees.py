"""Fuzzed answers of one upstream of two: whatever it says stays in its branch."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mockservice.chain import Chain
from tests.proof.finding import Extent, Finding
from tests.proof.grammar import CORPUS
from tests.running import ok, peer, request, running

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

_SOUND = "-> users(version: v1, ip: 10.0.0.9)[-> a(version: v1, ip: ::1); -> b(timeout: x)]"
_PARTS = (
    "[",
    "]",
    "; ",
    ";",
    "\\",
    "-> ",
    "(",
    ")",
    "\n",
    "x",
    "é",
    "-> a(version: v1, ip: ::1)",
    "-> b]; [(version: v2, ip: ::1, fault: delay 1 s)",
    "-> c(timeout: no answer)",
    "; -> d(version: v1, ip: ::1)]",
)
_LONGEST = 2_000


def seeds() -> list[str]:
    """The corpus, and what is too long for a file."""
    files = [path.read_text("utf-8") for path in sorted(Path(CORPUS / "trees").glob("*.txt"))]
    hop = _PARTS[11]
    return [
        *files,
        "[" * 10_000,
        "]" * 10_000,
        f"{hop}[" * 10_000,
        f"{hop}[" + "[]" * 5_000,
        f"{hop}[{'; '.join([hop] * 10_000)}]",
        "\\" * 9_999,
        f"{hop}[{hop}" + "; -> b(version: " * 10_000,
    ]


def prove(extent: Extent) -> Iterator[Finding]:
    """Answer with the corpus, then with what comes of it by mutation."""
    count = 150 if extent.short else 20_000
    chance = random.Random(extent.seed)
    said = b""

    def answer(connection: socket.socket) -> None:
        connection.sendall(ok(said, more="Connection: close\r\n"))

    problems = []
    corpus = seeds()
    begin = time.monotonic()
    with (
        peer(answer) as fuzzed,
        peer(lambda connection: connection.sendall(ok(_SOUND.encode()))) as sound,
        running("web", upstream_url=f"{fuzzed.url},{sound.url}") as hop,
    ):
        for number in range(count):
            text = corpus[number] if number < len(corpus) else _mutated(chance, corpus)
            said = text.encode()
            for headers in ({}, {"Accept": "application/json"}):
                problem = _problem(text, hop.line, request(hop.url, headers).body, headers)
                problems += [f"{problem}: {text[:100]!r}"] if problem else []
        lives = hop.process.poll() is None
    seconds = time.monotonic() - begin
    yield Finding(
        "trees: what an upstream says stays in its branch",
        f"{2 * count:,} answers in {seconds:.0f} s",
        f"{len(problems)} not so{f', {problems[0]}' if problems else ''}",
        "0 not so, the hop lives",
        lives and not problems,
    )


def _mutated(chance: random.Random, corpus: list[str]) -> str:
    text = chance.choice(corpus)[:_LONGEST]
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        place = chance.randint(0, len(text))
        cut = place + chance.choice((0, 0, 1, 5, 40))
        text = text[:place] + chance.choice(_PARTS) + text[cut:]
    return text


def _problem(text: str, line: str, body: bytes, headers: dict[str, str]) -> str:
    """What is wrong with the hop's answer; nothing if nothing is."""
    chain = Chain.from_json(body) if headers else Chain.from_text(body.decode())
    if [str(hop).partition("[")[0] for hop in chain.hops] != [line]:
        return "not one hop at the start"
    if len(chain.hops[0].upstreams) != 2:
        return "not two branches"
    first, second = chain.hops[0].upstreams
    if str(second) != _SOUND:
        return "another branch has changed"
    # In an answer in JSON, what a text says is not read.
    if first != (Chain(upstream_body=text) if headers else Chain.from_text(text)):
        return "not what the upstream said"
    if not headers and str(chain) != body.decode():
        return "reads as another text"
    return ""
