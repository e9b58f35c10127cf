"""What the probe shows to people at its end: tables and verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mockservice.probe.tally import quantile
from mockservice.probe.verdicts import headers_received

if TYPE_CHECKING:
    from mockservice.probe.findings import Findings
    from mockservice.probe.tally import Tally

_MAX_ROWS: Final = 20
"""Chains, and reasons of one verdict, that are shown; `--json` has all of them."""

_UNFOLDED: Final = 10_000
"""Columns where no terminal limits them."""

_SIGNS: Final = {True: ("holds", "green"), False: ("fails", "red"), None: ("unknown", "yellow")}


def show(findings: Findings) -> None:
    """Print the findings to standard output."""
    console = console_for_data()
    tally = findings.tally
    tables = [_chains(findings), _hops(tally), _headers(tally)]
    for table in tables:
        if table.row_count:
            console.print(table)
            console.print()
    for verdict in findings.verdicts:
        word, colour = _SIGNS[verdict.holds]
        first, *more = verdict.reasons
        left_out = len(more) - _MAX_ROWS
        if left_out > 0:
            more[_MAX_ROWS:] = [f"and {left_out} more (--json has all)"]
        console.print(Text.assemble(f"{verdict.name:12}", (f"{word:8}", colour), plain(first)))
        for reason in more:
            console.print(Text(" " * 20 + plain(reason)))
    asked = findings.load.requests
    if asked is not None and tally.requests < asked:
        console.print(Text(f"stopped after {tally.requests} of {asked} requests"))


def console_for_data() -> Console:
    """Standard output, unfolded where no terminal limits its width."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _UNFOLDED
    return console


def plain(text: str) -> str:
    """Text from elsewhere, without what a terminal would act on."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


def _chains(findings: Findings) -> Table:
    table = _table("chain", "lane", numbers=("requests", "share", "p50 ms", "p99 ms"))
    chains = findings.chains()
    for (outline, status), seen in chains[:_MAX_ROWS]:
        count = len(seen.seconds)
        answered = f"{outline}: {status}" if seen.failed and status else outline
        table.add_row(
            Text(plain(answered), "red" if seen.failed else ""),
            Text(plain(seen.lane or "-")),
            str(count),
            f"{count / findings.tally.requests:.1%}",
            *(f"{quantile(seen.seconds, part) * 1000:.2f}" for part in (0.5, 0.99)),
        )
    if len(chains) > _MAX_ROWS:
        table.add_row(f"and {len(chains) - _MAX_ROWS} more (--json has all)")
    return table


def _hops(tally: Tally) -> Table:
    table = _table("hop", numbers=("own p50 ms", "own p99 ms"))
    for app, own in list(tally.own_ms.items())[:_MAX_ROWS]:
        table.add_row(Text(plain(app)), *(f"{quantile(own, part):.2f}" for part in (0.5, 0.99)))
    return table


def _headers(tally: Tally) -> Table:
    apps = list(tally.told)[:_MAX_ROWS]
    table = _table("header received by", numbers=tuple(map(plain, apps)))
    for name in headers_received(tally):
        cells = (f"{tally.received[app, name]} of {tally.told[app]}" for app in apps)
        table.add_row(Text(plain(name)), *cells)
    return table


def _table(*names: str, numbers: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for name in numbers:
        table.add_column(Text(name), justify="right")
    return table
