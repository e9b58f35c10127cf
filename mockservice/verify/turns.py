"""The order of requests of several kinds, so that each kind comes after each other kind.

A process that keeps something of one request for the next is told only by such an order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def in_turn(counts: Sequence[int]) -> Iterator[int]:
    """The kinds, by their places, in rounds: each that has requests left comes once a round.

    In as many rounds as there are kinds, twice as many for an odd number, each kind comes directly
    after each other one.

    Source: Williams, "Experimental designs balanced for the estimation of residual effects of
    treatments", 1949.

    Args:
        counts: the requests of each kind.
    """
    kinds = len(counts)
    zigzag = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(kinds)]
    for number in range(max(counts, default=0)):
        cycle, shift = divmod(number, kinds)
        ordered = zigzag[::-1] if cycle % 2 else zigzag
        for place in ordered:
            kind = (place + shift) % kinds
            if number < counts[kind]:
                yield kind
