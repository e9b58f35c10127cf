"""What a client can do to a hop, over and over again, for as long as it is let."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

from tests import shapes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Attack = Callable[[str, int], Awaitable[None]]
    """Attacks an address over so many connections, without end."""

_DRIBBLE_EVERY = 0.05
_AGAIN = 0.001
_READ = 65536
_FLOOD = 1000
_HEAD = b"GET /slow HTTP/1.1\r\nHost: a\r\nx-lane: "
_LONG_LINE = b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
_LONG_HEADER = shapes.get(b"x-lane: " + b"x" * 60_000)
_LONG_HEAD = shapes.get(*[b"x-env: %d" % number + b"x" * 500 for number in range(127)])
_TINY_CHUNKS = shapes.chunked(b"1;a=b\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
_LISTS = shapes.get(*[b"baggage: " + b"a=b," * 2000 for _ in range(6)])


def dribbling(begin: bytes) -> Attack:
    """Begin a request, and go on with a byte now and then."""

    async def attack(address: str, connections: int) -> None:
        async def one() -> None:
            async with _connected(address) as (reader, writer):
                writer.write(begin)
                while not reader.at_eof() and not writer.is_closing():
                    writer.write(b"x")
                    with suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(_READ), _DRIBBLE_EVERY)

        await _all(one, connections)

    return attack


async def idle(address: str, connections: int) -> None:
    """Open connections and say nothing."""

    async def one() -> None:
        async with _connected(address) as (reader, _):
            await reader.read()

    await _all(one, connections)


def sending(*whole: bytes) -> Attack:
    """Send each of these over a connection of its own, and read what comes, again and again."""

    async def attack(address: str, connections: int) -> None:
        async def one() -> None:
            for sent in whole:
                async with _connected(address) as (reader, writer):
                    writer.write(sent)
                    writer.write_eof()
                    while await reader.read(_READ):
                        pass

        await _all(one, connections)

    return attack


async def flooding(address: str, connections: int) -> None:
    """Send many requests at once over a kept connection, and read the answers."""
    flood = shapes.get() * _FLOOD

    async def read(reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while await reader.read(_READ):
                pass

    async def one() -> None:
        async with _connected(address) as (reader, writer):
            reading = asyncio.create_task(read(reader))
            while not reading.done():
                writer.write(flood)
                await writer.drain()

    await _all(one, connections)


async def flooding_unread(address: str, connections: int) -> None:
    """Send many requests at once over a kept connection, and read nothing."""
    flood = shapes.get(b"Accept: application/json") * _FLOOD

    async def one() -> None:
        async with _connected(address) as (reader, writer):
            cast("asyncio.Transport", writer.transport).pause_reading()
            while not reader.at_eof():
                writer.write(flood)
                await writer.drain()

    await _all(one, connections)


ATTACKS: dict[str, tuple[Attack, int]] = {
    "slow headers": (dribbling(_HEAD), 200),
    "slow bodies": (dribbling(shapes.post(b"Content-Length: 1000000")), 200),
    "idle connections": (idle, 5000),
    "connections without a request": (sending(b""), 8),
    "oversized request lines": (sending(_LONG_LINE), 8),
    "oversized headers": (sending(_LONG_HEADER, _LONG_HEAD), 8),
    "oversized lists": (sending(_LISTS), 8),
    "smuggling shapes": (sending(*(it + shapes.SMUGGLED for it in shapes.REFUSED.values())), 8),
    "bodies in tiny chunks": (sending(_TINY_CHUNKS), 8),
    "pipelining floods": (flooding, 8),
    "pipelining floods, answers unread": (flooding_unread, 8),
}
"""By name, with the connections that each takes."""


@asynccontextmanager
async def _connected(
    address: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, reset with the block."""
    reader, writer = await asyncio.open_connection(address, 8000)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _all(one: Callable[[], Awaitable[None]], connections: int) -> None:
    """As many of `one` at once, each begun anew whenever it ends."""

    async def again() -> None:
        while True:
            with suppress(OSError):
                await one()
            await asyncio.sleep(_AGAIN)

    await asyncio.gather(*(again() for _ in range(connections)))
