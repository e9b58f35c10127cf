"""The page, in a real browser: what requests do is seen, and only that."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from mockservice.chain import Chain, Failure, Hop
from mockservice.probe.judge import ByVersion
from mockservice.ui.view import View
from tests.probe.gateway import Answer, chain, gateway, hops, text
from tests.ui import axe
from tests.ui.browsing import (
    Browsing,
    free_port,
    nodes,
    requests_seen,
    serving,
    share,
    showing,
    state,
    view_of,
    wait_for_requests,
)
from tests.ui.rules import by_rules, copy_rules, cut
from tests.ui.sending import wait_until_nothing_comes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>"

_WIDTHS = (375, 1280, 3840)
_SCHEMES: tuple[tuple[Literal["light", "dark"], tuple[str, ...]], ...] = (
    ("light", ()),
    ("dark", axe.OF_COLORS),
)
"""Color schemes, and the rules of accessibility that are checked in each; none: all."""


@contextmanager
def page_of(
    browsing: Browsing,
    answer: Callable[[int, Message], Answer],
    *options: str,
    query: str = "?rate=50",
    moving: bool = False,
    **view: Any,
) -> Iterator[Page]:
    """The page of a gateway that answers so: by the options of `mockservice ui`, or of a view.

    Where neither says otherwise, lanes are strict.
    """
    view.setdefault("judge", ByVersion(is_strict=True))
    with (
        gateway(answer) as asked,
        showing(view_of(asked.url, *options) if options else View(asked.url, **view)) as url,
        browsing.open(url + query, moving=moving) as page,
    ):
        yield page


def test_a_request_is_seen_at_every_pod_that_it_passes(browsing: Browsing) -> None:
    with page_of(browsing, lambda *_: chain("v1 v1 v1"), moving=True) as page:
        wait_for_requests(page, 20)
        assert page.locator("#pods thead th").all_text_contents() == [
            "lane",
            "",
            "mocka",
            "mockb",
            "mockc",
        ]
        for place, app in enumerate(("mocka", "mockb", "mockc")):
            expect(nodes(page, "v1", app).locator("strong")).to_have_text("v1")
            expect(nodes(page, "v1", app).locator(".ip")).to_have_text(f"10.0.0.{place}")
        expect(page.locator("#edges .edge")).to_have_count(3)
        expect(page.locator("#moving .dot").first).to_be_attached()
        expect(page.locator("#status")).to_have_text("requests are answered")


def test_apps_stand_in_call_order_even_if_one_is_seen_later(browsing: Browsing) -> None:
    short = Chain((hops("v1 v1 v1")[0], hops("v1 v1 v1")[2])).to_json()

    def answer(number: int, _: Message) -> Answer:
        return Answer(short) if number < 5 else chain("v1 v1 v1")

    with page_of(browsing, answer) as page:
        expect(page.locator("#pods thead th")).to_have_text(["lane", "", "mocka", "mockb", "mockc"])


def test_a_fallback_is_one_and_a_leak_is_another(browsing: Browsing) -> None:
    with page_of(browsing, lambda *_: chain("v2 v1 v2"), "--baseline", "v1") as page:
        wait_for_requests(page, 5)
        expect(page.locator("#edges .fallback")).to_have_count(1)
        expect(page.locator("#edges .leak")).to_have_count(0)
        expect(page.locator("#leak-count")).to_have_text("0")
        expect(page.locator("#request-list .chain .fallback").first).to_have_text("mockb(v1)")
    with page_of(browsing, lambda *_: chain("v2 v1 v2")) as page:
        wait_for_requests(page, 5)
        expect(page.locator("#edges .fallback")).to_have_count(0)
        expect(page.locator("#edges .leak")).to_have_count(1)
        expect(page.locator("#leak-list .chain .leak")).to_have_text("mockb(v1)")
        expect(page.locator("#leak-list .reason")).to_have_text("mockb(v1) left lane v2")
        expect(page.locator("#mixed")).to_be_hidden()
        expect(page.locator("#status")).to_contain_text(re.compile(r" \d+ leaked"))


def test_of_several_versions_the_page_says_what_tells_a_leak(browsing: Browsing) -> None:
    with page_of(browsing, lambda *_: chain("v2 v1 v2"), "--rate", "50", query="") as page:
        expect(page.locator("#mixed")).to_have_text(
            re.compile(
                r"\d+ requests of several versions: a fallback or a leak,"
                r" which --manifests, --baseline or --strict tells"
            )
        )
        expect(page.locator("#edges .edge")).to_have_count(3)
        expect(page.locator("#edges .leak")).to_have_count(0)
        expect(page.locator("#leak-count")).to_have_text("0")
        expect(page.locator("#status")).to_have_text("requests are answered")


def test_calls_that_look_the_same_and_go_several_ways_are_red(
    browsing: Browsing, axe_source: str
) -> None:
    turned = threading.Event()

    def answer(number: int, asked: Message) -> Answer:
        price = "blue" if turned.is_set() and number % 2 else "v1"
        headers = {"x-lane": "base", "my-id": asked["traceparent"]}
        return Answer(Chain(hops(f"base base {price}", headers)).to_json())

    with page_of(browsing, answer, judge=ByVersion()) as page:
        wait_for_requests(page, 20)
        expect(page.locator("#leak-count")).to_have_text("0")
        turned.set()
        reason = re.compile(
            r"after mockb\(base\) with x-lane: base, mockc is v1 in \d+ and blue in \d+ requests:"
            r" no rule keeps the lane at mockc"
        )
        expect(page.locator("#leak-list .reason")).to_have_text(reason)
        # Both ways are.
        expect(page.locator("#edges .leak")).to_have_count(2)
        wait_for_requests(page, requests_seen(page) + 30)
        expect(page.locator("#leak-list button")).to_have_count(1)
        page.locator("#leak-list button").click()
        expect(page.locator("dialog .reason")).to_have_text(reason)
        expect(page.locator("dialog .chain .leak")).to_have_text(re.compile("mockc"))
        assert axe.faults(page, axe_source) == []


def test_a_hop_that_no_rule_leads_to_is_said_where_the_failure_is(
    browsing: Browsing, tmp_path: Path
) -> None:
    cut(copy_rules(tmp_path) / "lane-routes.yaml", "mockb", "    - route:")
    asked = {"x-asm-prefer-tag": "s2"}
    answers = [
        Answer(Chain(hops("v1 v3 v1", {"x-asm-prefer-tag": "s3"})).to_json()),
        # Of a sidecar that has no route: its answer has no body.
        Answer(Chain(hops("v2", asked)).to_json(), 404),
    ]

    def answer(_: int, sent: Message) -> Answer:
        return answers[sent["x-asm-prefer-tag"] == "s2"]

    query = "?rate=50&header=x-asm-prefer-tag:s3"
    with page_of(browsing, answer, judge=by_rules(tmp_path), query=query) as page:
        wait_for_requests(page, 5)
        expect(page.locator("#leak-count")).to_have_text("0")
        page.get_by_label("Headers to send").fill("x-asm-prefer-tag: s2")
        page.get_by_label("Headers to send").blur()
        said = re.compile(
            r"^lane s2 is owed mockb\(v1\) but got no answer: no rule of VirtualService"
        )
        expect(page.locator("#leak-list .reason")).to_have_text(said)
        expect(page.locator("#failure-list .reason")).to_have_text(said)
        # Pods of the baseline were to answer, of which none has been seen.
        expect(nodes(page, "s1", "mockb")).to_have_class("node only-fault failed")
        expect(page.locator("#edges .fault")).to_have_count(1)
        page.locator("#failure-list button").click()
        expect(page.locator("dialog .reason")).to_have_text(said)


def test_notes_on_the_manifests_are_shown_and_those_that_fail_are_red(
    browsing: Browsing, tmp_path: Path, axe_source: str
) -> None:
    rules = copy_rules(tmp_path) / "destination-rules.yaml"
    before, subset, after = rules.read_text().rpartition("version: v2")
    rules.write_text(f"{before}version: v1{after}")
    assert subset
    with page_of(browsing, lambda *_: chain("v1 v1 v1"), judge=by_rules(tmp_path)) as page:
        notes = page.get_by_role("list", name="Notes on the manifests").locator("li")
        expect(notes).to_contain_text(
            [
                "lane s2: rules and subsets lead to mockc(v1)",
                "mockb(v2) gets no request: lane s2 does not hold mockb",
            ]
        )
        expect(notes.and_(page.locator(".bad"))).to_have_count(1)
        expect(notes.first).to_have_class("bad")
        assert axe.faults(page, axe_source) == []


def test_a_leak_stays_listed_when_it_is_over(browsing: Browsing) -> None:
    def answer(number: int, _: Message) -> Answer:
        return chain("v1 v2") if number == 3 else chain("v1 v1")

    with page_of(browsing, answer, query="?rate=100&last=50") as page:
        expect(page.locator("#leak-count")).to_have_text("1")
        wait_for_requests(page, 70)
        expect(page.locator("#edges .leak")).to_have_count(0)
        expect(page.locator("#leak-list button")).to_have_count(1)
        page.locator("#leak-list button").click()
        expect(page.locator("dialog .chain .leak")).to_have_text("mockb(v2)")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Clear").click()
        expect(page.locator("#leak-list button")).to_have_count(0)


FAILURES = {
    "mockb is gone": (
        chain("v1", Failure("mockb", "unreachable", "connection refused")),
        ("v1", "mockb"),
        "502 mockb: unreachable: connection refused",
    ),
    "mockb hangs": (
        chain("v1", Failure("mockb", "timeout", "no answer within 5 s")),
        ("v1", "mockb"),
        "504 mockb: timeout: no answer within 5 s",
    ),
    "mockc is gone, and known by its address": (
        chain("v1 v1", Failure("localhost:8003", "unreachable", "connection refused")),
        ("v1", "mockc"),
        "502 localhost:8003: unreachable: connection refused",
    ),
    "a sidecar has no mockc": (
        Answer(Chain(hops("v1 v1"), upstream_body="no healthy upstream").to_json(), 503),
        ("v1", "mockc"),
        "503 mockb's upstream: no healthy upstream",
    ),
    "mockb fails on demand": (
        chain("v1 v1", Failure("mockb", "injected", "abort 503")),
        ("v1", "mockb"),
        "502 mockb: injected: abort 503",
    ),
    "the gateway has no mocka": (
        text("no healthy upstream", 503),
        None,
        "503 gateway: no chain in the answer: no healthy upstream",
    ),
    "the answer is no chain": (
        text("<h1>hello</h1>"),
        None,
        "200 gateway: no chain in the answer: <h1>hello</h1>",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_red_where_it_happened(browsing: Browsing, failure: str) -> None:
    failed, place, said = FAILURES[failure]

    def answer(number: int, _: Message) -> Answer:
        return failed if number >= 10 and number % 2 else chain("v1 v1 v1")

    with page_of(browsing, answer) as page:
        expect(page.locator("#failure-list button")).to_have_count(1)
        expect(page.locator("#pods .failed")).to_have_count(1)
        where = page.locator("#pods .gateway .node") if place is None else nodes(page, *place)
        expect(where).to_have_class("node failed")
        expect(where.locator("strong")).to_have_text("gateway" if place is None else place[0])
        page.locator("#failure-list button").click()
        expect(page.locator("dialog .chain .leak")).to_have_text(said)


def test_a_failure_stands_behind_the_last_hop_until_the_next_one_is_known(
    browsing: Browsing,
) -> None:
    failed = Answer(Chain(hops("v1"), upstream_body="no healthy upstream").to_json(), 503)
    known = threading.Event()

    def answer(*_: object) -> Answer:
        return chain("v1 v1") if known.is_set() else failed

    with page_of(browsing, answer) as page:
        expect(page.locator("#pods thead th")).to_have_text(["lane", "", "mocka", "next hop"])
        expect(nodes(page, "v1", "next hop")).to_have_class("node only-fault failed")
        known.set()
        expect(page.locator("#pods thead th")).to_have_text(["lane", "", "mocka", "mockb"])
        expect(nodes(page, "v1", "mockb")).to_have_class("node failed")
        expect(page.locator("#pods .failed")).to_have_count(0)


def test_a_failure_moves_nothing(browsing: Browsing) -> None:
    fails = threading.Event()
    failed = chain("v1", Failure("mockb", "unreachable", "connection refused, and much more"))

    def answer(number: int, _: Message) -> Answer:
        return failed if fails.is_set() and number % 2 else chain("v1 v1")

    with page_of(browsing, answer, query="?rate=100") as page:
        wait_for_requests(page, 120)
        box = page.locator("#pods").bounding_box()
        places = [node.bounding_box() for node in page.locator("#pods .node").all()]
        fails.set()
        expect(page.locator("#pods .failed")).to_have_count(1)
        assert page.locator("#pods").bounding_box() == box
        assert [node.bounding_box() for node in page.locator("#pods .node").all()] == places


def test_edges_keep_apart_what_leaks_falls_back_and_does_neither(browsing: Browsing) -> None:
    lanes = ["v1 v1 v1"] * 6 + ["v1 v2 v1"] + ["v2 v1 v3"] * 3
    answers = [chain(versions, lane=versions) for versions in lanes]

    def answer(number: int, _: Message) -> Answer:
        return answers[number % 10]

    with page_of(browsing, answer, query="?rate=50&last=50", judge=ByVersion("v1")) as page:
        wait_for_requests(page, 70)
        page.get_by_role("button", name="Pause").click()
        widths = {
            kind: page.locator(f"#edges .edge{kind}").evaluate_all(
                "paths => paths.map(path => parseFloat(path.style.strokeWidth)).sort()"
            )
            for kind in (".leak", ".fallback")
        }
    # 0.1 rem of none of the requests, 0.9 rem of all.
    assert widths[".leak"] == [pytest.approx(0.1 + 0.8 * 0.3, abs=0.04)]
    falls = [0.1 + 0.8 * share for share in (0.1, 0.1)]
    assert widths[".fallback"] == pytest.approx(falls, abs=0.04)


def test_a_gateway_that_is_gone_is_said_and_its_return_is_seen(browsing: Browsing) -> None:
    with gateway(lambda *_: chain("v1")) as asked:
        url = asked.url
    with serving(url, "--rate", "50") as page_url, browsing.open(f"{page_url}?last=50") as page:
        expect(page.locator("#failure-list .chain")).to_have_text("gateway: connection refused")
        expect(page.locator("#pods .gateway .failed")).to_have_count(1)
        expect(page.locator("#status")).to_contain_text("failed")
        expect(page.locator("#status")).to_have_class("bad")
        with gateway(lambda *_: chain("v1"), urlsplit(url).hostname):
            expect(page.locator("#status")).to_have_text("requests are answered")
            expect(page.locator("#pods .gateway .failed")).to_have_count(0)
            expect(page.locator("#failure-list button")).to_have_count(1)


def test_what_upstreams_say_stays_text(browsing: Browsing, axe_source: str) -> None:
    hostile = Hop(HOSTILE, HOSTILE, HOSTILE, 200, 1.0, {HOSTILE: HOSTILE}, HOSTILE)
    failure = Failure(HOSTILE, HOSTILE, HOSTILE)
    answers = [
        Answer(Chain((hostile, *hops("v1 v2"))).to_json()),
        Answer(Chain((hostile,), failure).to_json(), 502),
        text(HOSTILE),
    ]
    with page_of(browsing, lambda number, _: answers[number % 3]) as page:
        page.on("dialog", lambda dialog: browsing.problems.append(dialog.message))
        wait_for_requests(page, 12)
        expect(page.locator("#pods thead th").nth(2)).to_have_text(HOSTILE)
        expect(page.locator("#pods .ip").first).to_have_text(HOSTILE)
        expect(page.locator("#leak-list, #failure-list").first).to_contain_text(HOSTILE)
        for place in range(3):
            page.locator("#failure-list button, #leak-list button").nth(place).click()
            expect(page.locator("dialog")).to_contain_text(HOSTILE)
            page.keyboard.press("Escape")
        assert page.locator("img").count() == 0
        assert axe.faults(page, axe_source) == []


def test_a_request_opens_with_its_times_its_headers_and_its_curl(browsing: Browsing) -> None:
    def answer(_: int, asked: Message) -> Answer:
        carried = {"traceparent": asked["traceparent"], "x-lane": asked["x-lane"]}
        dropped = {"traceparent": asked["traceparent"]}
        changed = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        ways = zip(hops("v1 v1 v1"), (carried, dropped, changed), strict=True)
        made = [
            Hop(hop.app, hop.version, hop.ip, 200, duration, headers)
            for (hop, headers), duration in zip(ways, (9.0, 5.0, 2.0), strict=True)
        ]
        made[2] = replace(made[2], fault="delay 0.002 s")
        return Answer(Chain(tuple(made)).to_json())

    options = ("--header", "x-lane: it's {id}", "--trace-url", "http://localhost:9/trace/{id}")
    with page_of(browsing, answer, *options) as page:
        wait_for_requests(page, 3)
        page.get_by_role("button", name="Pause").click()
        page.locator("#request-list button").first.click()
        dialog = page.get_by_role("dialog", name="Request")
        expect(dialog.locator(".waterfall .name")).to_have_text(
            ["gateway", "mocka(v1)", "mockb(v1)", "mockc(v1), injected: delay 0.002 s"]
        )
        expect(dialog.locator(".waterfall .own").nth(1)).to_have_text("own 4.0 ms")
        rows = dialog.locator(".headers tbody tr")
        lane = rows.filter(has_text="x-lane").locator("td").all_text_contents()
        trace_id = dialog.locator("a code").text_content() or ""
        assert lane == [f"it's {trace_id}", f"it's {trace_id}", "missing", "missing"]
        trace = rows.filter(has_text="traceparent").locator("td").all_text_contents()
        assert trace[0] == trace[1] == trace[2]
        assert trace[3].startswith("changed: 00-aaaa")
        href = dialog.locator("a").get_attribute("href")
        assert href == f"http://localhost:9/trace/{trace_id}"
        dialog.get_by_role("button", name="Copy").click()
        line = page.evaluate("navigator.clipboard.readText()")
        assert line.startswith(f"curl -H 'traceparent: {trace[0]}' -H 'x-lane: it'\"'\"'s ")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()


def test_hops_that_answer_in_text_are_seen_without_times_and_headers(browsing: Browsing) -> None:
    line = "".join(map(str, hops("v1 v1")))
    with page_of(browsing, lambda *_: text(line)) as page:
        wait_for_requests(page, 3)
        page.locator("#request-list button").first.click()
        expect(page.locator("dialog .headers tbody td").nth(1)).to_have_text("not reported")
        expect(page.locator("dialog .waterfall")).to_have_count(0)


def test_the_controls_do_what_they_say_and_the_address_holds_them(browsing: Browsing) -> None:
    asked_with: list[str | None] = []

    def answer(_: int, asked: Message) -> Answer:
        asked_with.append(asked["x-asm-prefer-tag"])
        return chain("v1")

    with page_of(browsing, answer, query="") as page:
        wait_for_requests(page, 3)
        assert state(page) == {}
        assert set(asked_with) == {None}
        page.get_by_label("Headers to send").fill("x-asm-prefer-tag: v2")
        page.get_by_label("Requests per second").fill("60")
        page.get_by_label("Requests per second").press("Tab")
        page.wait_for_function("() => location.search.includes('rate=60')")
        wait_for_requests(page, requests_seen(page) + 30)
        assert asked_with[-1] == "v2"
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#status")).to_have_text("paused")
        assert state(page) == {
            "rate": ["60"],
            "header": ["x-asm-prefer-tag: v2"],
            "paused": ["1"],
        }
        wait_until_nothing_comes(asked_with)
        sent = len(asked_with)
        page.reload()
        expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
        expect(page.get_by_label("Headers to send")).to_have_value("x-asm-prefer-tag: v2")
        time.sleep(0.5)
        assert len(asked_with) == sent
        page.get_by_role("button", name="Pause").click()
        wait_for_requests(page, 5)
        assert asked_with[-1] == "v2"


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("?rate=1000", "rate: 1000: must be requests per second, from 0.1 to 100"),
        ("?header=nonsense", "header: 'nonsense': must be a header name, a colon and a value"),
        ("?header=host:%20x", "must be given on the command line"),
    ],
)
def test_controls_that_are_not_allowed_are_refused_by_name(
    browsing: Browsing, query: str, problem: str
) -> None:
    with page_of(browsing, lambda *_: chain("v1"), query=query) as page:
        expect(page.get_by_role("alert")).to_contain_text(problem)
        expect(page.locator("#status")).to_have_text("nothing is sent")
        page.get_by_label("Requests per second").fill("50")
        page.get_by_label("Headers to send").fill("")
        page.get_by_label("Headers to send").press("Tab")
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.locator("#status")).to_have_text("requests are answered")
        wait_for_requests(page, 3)


def test_everything_is_reached_by_keyboard(browsing: Browsing) -> None:
    with page_of(browsing, lambda *_: chain("v1")) as page:
        wait_for_requests(page, 3)
        reached: list[str] = []
        for _ in range(9):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate(
                    "document.activeElement.id || document.activeElement.closest('[id]').id"
                )
            )
        controls = ["rate", "headers", "last", "pause", "clear", "stage"]
        assert [name for name in reached if name in controls] == controls
        assert "request-list" in reached
        page.locator("#request-list button").first.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        # Meanwhile other requests come.
        wait_for_requests(page, requests_seen(page) + 60)
        page.keyboard.press("Escape")
        expect(page.locator("#request-list button").first).to_be_focused()


def test_the_page_comes_back_to_a_server_that_comes_back(browsing: Browsing) -> None:
    browsing.forgiven = "ERR_CONNECTION_REFUSED"
    port = ("--port", str(free_port()))
    with gateway(lambda *_: chain("v1")) as asked, ExitStack() as stack:
        with serving(asked.url, *port) as url:
            page = stack.enter_context(browsing.open(f"{url}?rate=50"))
            wait_for_requests(page, 10)
        expect(page.locator("#status")).to_contain_text("no connection to mockservice ui")
        seen = requests_seen(page)
        with serving(asked.url, *port):
            wait_for_requests(page, seen + 10)
            expect(page.locator("#status")).to_have_text("requests are answered")


def test_nothing_is_sent_unless_a_page_is_open(browsing: Browsing) -> None:
    with gateway(lambda *_: chain("v1")) as asked, serving(asked.url, "--rate", "50") as url:
        time.sleep(0.3)
        assert asked.requests == []
        with browsing.open(url) as page:
            wait_for_requests(page, 3)
        wait_until_nothing_comes(asked.requests)


def test_it_fits_and_has_no_serious_accessibility_fault(
    browsing: Browsing, axe_source: str
) -> None:
    answers = [
        chain("v1 v1 v1"),
        chain("v2 v1 v2"),
        chain("v3 v2 v3"),
        chain("v2", Failure("mockb", "unreachable", "connection refused")),
    ]
    weights = {"v1": 1, "v2": 2, "v3": 1}
    judge = ByVersion("v1")
    with page_of(browsing, lambda n, _: answers[n % 4], judge=judge, expected=weights) as page:
        wait_for_requests(page, 12)
        page.get_by_role("button", name="Pause").click()
        for is_open in (False, True):
            if is_open:
                page.locator("#failure-list button").click()
            for width in _WIDTHS:
                page.set_viewport_size({"width": width, "height": 800})
                if is_open:
                    box = page.get_by_role("dialog").bounding_box()
                    assert box is not None
                    assert box["x"] >= 0
                    assert box["x"] + box["width"] <= width
                else:
                    assert page.evaluate("document.documentElement.scrollWidth") == width
                for scheme, rules in _SCHEMES:
                    page.emulate_media(color_scheme=scheme)
                    assert axe.faults(page, axe_source, rules) == [], (width, scheme)


SHOP = {"web": ["orders", "users"], "orders": ["stock", "price"], "price": ["users"]}
TWELVE = {
    "web": ["cart", "catalog", "account", "search"],
    "cart": ["price", "stock"],
    "catalog": ["price", "media", "reviews"],
    "account": ["users", "mail"],
    "search": ["catalog"],
    "price": ["tax"],
    "reviews": ["users"],
}
REFUSED = Failure("stock", "unreachable", "connection refused")


def tree(
    calls: dict[str, list[str]],
    version: str,
    failures: dict[str, Failure] | None = None,
    app: str = "web",
    milliseconds: float = 16.0,
) -> Chain:
    """The chain of an app that calls others, at one version; failures are those of an app."""
    if failures and app in failures:
        return Chain((), failures[app])
    names = list(dict.fromkeys(["web", *calls, *(name for to in calls.values() for name in to)]))
    address = f"10.0.{version.removeprefix('v')}.{names.index(app)}"
    hop = Hop(app, version, address, 200, milliseconds, {"x-lane": version})
    behind = [tree(calls, version, failures, to, milliseconds / 2) for to in calls.get(app, [])]
    if len(behind) == 1:
        return Chain((hop, *behind[0].hops), behind[0].error)
    return Chain((replace(hop, upstreams=tuple(behind)),))


def columns_of(page: Page) -> list[list[str]]:
    """The apps in each column, as the first lane has them."""
    found: list[list[str]] = page.evaluate(
        "() => [...document.querySelector('#pods tbody tr').querySelectorAll('td:not(.gateway)')]"
        ".map(cell => [...cell.querySelectorAll('.app')].map(app => app.textContent))"
    )
    return found


# What overlaps in the picture: labels with what stands there, and edges with nodes that they pass.
OVERLAPS = """() => {
  const found = [];
  const nodes = [...document.querySelectorAll('#pods .node, #pods .app')];
  const labels = [...document.querySelectorAll('#edges .weight')].filter(
    (label) => label.checkVisibility());
  const taken = [...nodes, ...labels].map((one) => [one, one.getBoundingClientRect()]);
  for (const label of labels) {
    const box = label.getBoundingClientRect();
    for (const [one, other] of taken) {
      if (one !== label && box.left < other.right && box.right > other.left
          && box.top + 2 < other.bottom && box.bottom - 2 > other.top) {
        found.push(`${label.textContent} over ${one.textContent}`);
      }
    }
  }
  const origin = document.querySelector('#pods').getBoundingClientRect();
  for (const path of document.querySelectorAll('#edges .edge')) {
    const length = path.getTotalLength();
    for (let gone = 4; gone < length - 4; gone += 5) {
      const at = path.getPointAtLength(gone);
      const [x, y] = [at.x + origin.left, at.y + origin.top];
      for (const node of nodes) {
        const box = node.getBoundingClientRect();
        if (x > box.left && x < box.right && y > box.top && y < box.bottom) {
          found.push(`an edge through ${node.textContent}`);
        }
      }
    }
  }
  return [...new Set(found)];
}"""


def test_a_tree_is_drawn_in_columns_by_depth_and_stays_readable(
    browsing: Browsing, axe_source: str
) -> None:
    failed = Answer(tree(SHOP, "v1", {"stock": REFUSED}).to_json(), 502)
    answers = [Answer(tree(SHOP, version).to_json()) for version in ("v1", "v2", "v3")]

    def answer(number: int, _: Message) -> Answer:
        return failed if number % 6 == 3 else answers[number % 3]

    with page_of(browsing, answer, moving=True) as page:
        wait_for_requests(page, 30)
        # More dots than requests: one for each branch.
        page.wait_for_function(
            "() => [...document.querySelectorAll('#moving .dot')].some("
            "(dot) => dot.cy.baseVal.value > 0)"
        )
        page.emulate_media(reduced_motion="reduce")
        page.get_by_role("button", name="Pause").click()
        assert columns_of(page) == [["web"], ["orders"], ["stock", "price"], ["users"]]
        assert page.locator("#pods thead th").all_text_contents() == [
            "lane",
            "",
            "web",
            "orders",
            "stock, price",
            "users",
        ]
        # Of each version five calls and that of the gateway, and the one that fails.
        expect(page.locator("#edges .edge")).to_have_count(3 * 6 + 1)
        for app in ("orders", "users"):
            expect(
                page.get_by_role("listitem").filter(has_text=f"web v2 calls {app} v2")
            ).to_have_text(re.compile("in 3[0-9] % of the shown requests$"))
        told = page.get_by_role("list", name="Calls between pods").get_by_role("listitem")
        expect(told.filter(has_text="orders v1 calls stock v1").first).to_be_attached()
        expect(told.filter(has_text="requests, and fails")).to_have_count(1)
        # The failure of one branch hides none of the others.
        expect(page.locator("#pods .failed")).to_have_count(1)
        expect(page.locator("[data-app=stock] .failed strong")).to_have_text("v1")
        said = "web(v1) → [orders(v1) → [502 stock: unreachable: connection refused;"
        said += " price(v1) → users(v1)]; users(v1)]"
        expect(page.locator("#failure-list .chain")).to_have_text(said)
        expect(page.locator("#failure-list .reason")).to_have_text(
            "orders → 502 stock: unreachable: connection refused"
        )
        page.locator("#failure-list button").click()
        dialog = page.get_by_role("dialog", name="Request")
        expect(dialog.locator(".chain .leak")).to_have_text(
            "502 stock: unreachable: connection refused"
        )
        lines = ["orders(v1)", "502 stock", "price(v1) → users(v1)", "users(v1)"]
        expect(dialog.locator(".branches li")).to_contain_text(lines)
        expect(dialog.locator(".waterfall .name")).to_have_text(
            ["gateway", "web(v1)", "orders(v1)", "price(v1)", "users(v1)", "users(v1)"]
        )
        expect(dialog.locator(".waterfall .own").nth(2)).to_have_text("own 4.0 ms")
        page.keyboard.press("Escape")
        assert axe.faults(page, axe_source) == []
        for width in _WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(400)
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(OVERLAPS) == [], width
            stage = "(({scrollWidth, clientWidth}) => scrollWidth > clientWidth)"
            scrolls = page.locator("#stage").evaluate(stage)
            assert scrolls is (width == 375)
        page.emulate_media(color_scheme="dark")
        assert axe.faults(page, axe_source) == []


def test_twelve_services_at_three_versions_stay_readable(browsing: Browsing) -> None:
    answers = [Answer(tree(TWELVE, version).to_json()) for version in ("v1", "v2", "v3")]
    with page_of(browsing, lambda number, _: answers[number % 3]) as page:
        wait_for_requests(page, 12)
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#pods .group")).to_have_count(36)
        depths = {app: depth for depth, apps in enumerate(columns_of(page)) for app in apps}
        assert len(depths) == 12
        for app, behind in TWELVE.items():
            assert all(depths[app] < depths[other] for other in behind)
        page.wait_for_timeout(400)
        assert page.evaluate(OVERLAPS) == []
        # From each caller: 14 calls and that of the gateway.
        expect(page.locator("#edges .edge")).to_have_count(3 * 15)
        expect(page.locator("#edges .without-room")).to_have_count(0)


def test_apps_that_call_each_other_in_a_circle_have_an_end(browsing: Browsing) -> None:
    circle = {"web": ["a", "b"], "a": ["b"], "b": []}
    back = {"web": ["a", "b"], "b": ["a"], "a": []}
    answers = [
        Answer(tree(circle, "v1").to_json()),
        Answer(tree(back, "v1").to_json()),
        chain("v1 v1"),
    ]
    with page_of(browsing, lambda number, _: answers[min(number // 5, 2)]) as page:
        wait_for_requests(page, 20)
        expect(page.locator("#pods .app").filter(has_text=re.compile("^[ab]$"))).to_have_text(
            ["a", "b"]
        )
        assert columns_of(page)[:3] == [["mocka", "web"], ["mockb", "a"], ["b"]]


def test_who_asks_for_less_motion_sees_no_dots(browsing: Browsing) -> None:
    with page_of(browsing, lambda *_: chain("v1"), moving=True) as page:
        expect(page.locator("#moving .dot").first).to_be_attached()
        page.emulate_media(reduced_motion="reduce")
        page.reload()
        wait_for_requests(page, 10)
        expect(page.locator("#edges .edge")).to_have_count(1)
        assert page.locator("#moving .dot").count() == 0


def test_a_leak_far_down_a_long_chain_is_seen_there(browsing: Browsing) -> None:
    long = [Hop(f"app{place}", "v1", f"10.0.0.{place}") for place in range(30)]
    long.append(Hop("app30", "v2", "10.0.0.30"))
    answer = Answer(Chain(tuple(long)).to_json())
    with page_of(browsing, lambda *_: answer, moving=True) as page:
        wait_for_requests(page, 5)
        expect(page.locator("#pods thead th")).to_have_count(33)
        expect(page.locator("#edges .leak")).to_have_count(1)
        expect(page.locator("#moving .dot").first).to_be_attached()


def test_names_that_objects_have_are_names_like_others(browsing: Browsing) -> None:
    names = {"constructor": "a", "__proto__": "b"}
    first = Hop("constructor", "__proto__", "10.0.0.1", 200, 2.0, names)
    second = Hop("b", "constructor", "10.0.0.2", 200, 1.0, {"traceparent": "c"})
    answer = Answer(Chain((first, second)).to_json())
    weights = {"constructor": 1, "toString": 1}
    with page_of(browsing, lambda *_: answer, expected=weights) as page:
        wait_for_requests(page, 5)
        expect(page.locator(".share .expected")).to_have_text(
            ["expected 0.0 %", "expected 50.0 %", "expected 50.0 %"]
        )
        page.locator("#leak-list button").click()
        cells = page.locator("dialog .headers tbody tr").filter(has_text="constructor")
        expect(cells.locator("td")).to_have_text(["\N{EN DASH}", "a", "missing"])


def test_what_another_site_leads_to_waits_for_its_user(browsing: Browsing) -> None:
    other = Answer(b"<h1>another site</h1>", content_type="text/html")
    with (
        gateway(lambda *_: other) as site,
        gateway(lambda *_: chain("v1")) as asked,
        showing(View(asked.url)) as url,
        browsing.open(f"{url}?rate=50&header=x-lane:%20a", via=site.url) as page,
    ):
        expect(page.locator("#status")).to_have_text("paused")
        time.sleep(0.3)
        assert asked.requests == []
        page.get_by_role("button", name="Pause").click()
        wait_for_requests(page, 3)
        assert asked.requests[0]["x-lane"] == "a"


def test_the_page_stays_small_whatever_upstreams_make_up(browsing: Browsing) -> None:
    lock, made = threading.Lock(), 0

    def answer(*_: object) -> Answer:
        nonlocal made
        with lock:
            made += 1
            new = [Hop(f"app{made}-{hop}", f"v{made}-{hop}", f"ip{made}") for hop in range(200)]
        failure = Failure(f"hop{made}", "unreachable", "x" * 5000)
        return Answer(Chain(tuple(new), failure).to_json(), 502)

    with page_of(browsing, answer, query="?rate=100") as page:
        wait_for_requests(page, 110)
        assert page.locator("#pods thead th").count() <= 34
        assert page.locator("#pods tbody tr").count() <= 12
        expect(page.locator("#left")).to_contain_text(re.compile(r"and \d+ more lanes"))
        assert page.locator("#failure-list li").count() == 100
        assert page.locator("#request-list li").count() == 50
        said = json.dumps(page.locator("#failure-list li").all_text_contents())
        assert len(said) < 500_000


def sprawling(number: int) -> Answer:
    """A tree of 200 apps at pods of its own, most of which fail."""
    apps = [f"app{(place * (number + 1)) % 90}" for place in range(200)]
    failing = [
        Chain((Hop(app, f"v{number}", f"ip{number}"),), Failure(app, "timeout", f"{number}" * 500))
        for app in apps[2:]
    ]
    branches = tuple(
        Chain((Hop(app, "v1", "ip", upstreams=tuple(failing[place::2])),))
        for place, app in enumerate(apps[:2])
    )
    return Answer(Chain((Hop("web", "v1", "ip", upstreams=branches),)).to_json(), 502)


def test_the_page_stays_small_whatever_trees_upstreams_make_up(browsing: Browsing) -> None:
    answers = [sprawling(number) for number in range(12)]
    with page_of(browsing, lambda number, _: answers[number % 12], query="?rate=20") as page:
        wait_for_requests(page, 18)
        assert page.locator("#pods .group").count() <= 12 * 33
        assert page.locator("#pods .node").count() <= 1 + 200 + 200
        assert page.locator("#pods .passage").count() <= 12 * 100
        assert page.locator("#edges .edge").count() <= 1000
        assert page.locator("#calls li").count() <= 100
        assert page.locator("#failure-list li").count() == 100
        assert len(page.locator("#failure-list").text_content() or "") < 500_000


def test_shares_are_held_against_what_is_expected(browsing: Browsing) -> None:
    with page_of(browsing, lambda *_: chain("v1"), "--expect", "v1=1,v2=1") as page:
        wait_for_requests(page, 40)
        assert share(page, "v1") == 1
        assert share(page, "v2") == 0
        for lane in ("v1", "v2"):
            expected = page.locator(f".share[data-lane={lane}] .expected")
            expect(expected).to_have_text("expected 50.0 %")
