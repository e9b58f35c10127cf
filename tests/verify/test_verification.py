"""What answers come to: lanes, problems, cases, and what is written of them; without Envoy."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from mockservice.chain import Chain, Hop
from mockservice.manifests.documents import Source
from mockservice.verify import github, report
from mockservice.verify.cases import read_cases
from mockservice.verify.junit import junit, junit_of_failure
from mockservice.verify.saving import saved
from mockservice.verify.verification import Problem
from tests.lanes.building import set_env
from tests.probe.gateway import Answer
from tests.verify.answering import answer, verified
from tests.verify.shop import (
    IN_BASE,
    IN_BLUE,
    shop,
    split_shop,
    without_blue_rule_of,
    without_lanes,
    without_rules_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message
    from pathlib import Path

    from mockservice.verify.verification import Verification
    from tests.verify.shop import Json

LEAK = "front(base) -> cart(blue) -> price(base) -> stock(base)"


def sound(_: int, headers: Message) -> Answer:
    return answer(IN_BLUE if headers.get("x-lane") == "blue" else IN_BASE, headers)


def leaking(_: int, headers: Message) -> Answer:
    return answer(LEAK if headers.get("x-lane") == "blue" else IN_BASE, headers)


def split(blue: float) -> Callable[[int, Message], Answer]:
    """A gateway that puts a share of the requests into lane blue."""
    dice = random.Random(7)

    def answers(_: int, headers: Message) -> Answer:
        if "x-lane" not in headers and dice.random() < blue:
            headers["x-lane"] = "blue"
        return sound(0, headers)

    return answers


async def test_a_sound_shop_holds_and_its_saved_cases_hold(tmp_path: Path) -> None:
    first = await verified(tmp_path, shop(), sound)
    assert first.hold
    assert [(lane.name, lane.holds, lane.requests) for lane in first.lanes()] == [
        ("base", True, 40),
        ("blue", True, 20),
    ]
    assert first.problems() == []
    file = tmp_path / "cases.yaml"
    file.write_text(saved(first))
    again = await verified(tmp_path, shop(), sound, read_cases(file))
    assert [result.holds for result in again.cases] == [True] * 3
    # They ask what the entrances of the map ask: no request is sent twice.
    assert again.requests == first.requests == 60


async def test_a_leak_is_told_once_and_fails_its_lane(tmp_path: Path) -> None:
    verification = await verified(tmp_path, shop(), leaking)
    assert not verification.hold
    (problem,) = verification.problems()
    assert problem.about == "isolation"
    assert problem.text.startswith("lane blue is owed price(blue) but got price(base): ")
    assert problem.text.endswith(" (20 requests)")
    assert [lane.holds for lane in verification.lanes()] == [True, False]


async def test_a_lane_that_a_service_brings_in_is_told(tmp_path: Path) -> None:
    def keeping(_: int, headers: Message) -> Answer:
        own, kept = {"x-lane": headers.get("x-lane", "")}, {"x-lane": "blue"}
        hops = [Hop("front", "base", "10.0.0.1", 200, 1.0, own if own["x-lane"] else {})]
        hops += [Hop(app, "blue", "10.0.0.1", 200, 1.0, kept) for app in ("cart", "price")]
        hops.append(Hop("stock", "base", "10.0.0.1", 200, 1.0, kept))
        return Answer(Chain(tuple(hops)).to_json(), 200)

    problems = (await verified(tmp_path, shop(), keeping)).problems()
    assert (
        "lane base is owed cart(base) but got cart(blue): the call of front(base) came with"
        " x-lane: blue, which front(base) had not received (40 requests)"
    ) in [problem.text for problem in problems]


async def test_leaks_of_one_cause_are_one_line_with_all_their_requests(tmp_path: Path) -> None:
    def spread(number: int, headers: Message) -> Answer:
        cart = "blue" if headers.get("x-lane") == "blue" else "base"
        price = "blue" if number % 2 else "base"
        return answer(f"front(base) -> cart({cart}) -> price({price}) -> stock(base)", headers)

    verification = await verified(tmp_path, without_rules_of("price"), spread)
    (problem,) = verification.problems()
    assert "lane base is owed price(base) but got price(blue)" in problem.text
    assert "lane blue is owed price(blue) but got price(base)" in problem.text
    assert problem.text.endswith("they are spread over all pods (20 requests)")


async def test_lanes_that_no_request_gets_to_do_not_hold(tmp_path: Path) -> None:
    objects = shop()
    set_env(objects, "front", upstream_url="")
    verification = await verified(tmp_path, objects, lambda _, got: answer("front(base)", got))
    assert not verification.hold
    (problem,) = verification.problems()
    assert (problem.level, problem.about) == ("error", "reach")
    assert problem.text.startswith("lane blue holds cart(blue) and price(blue), but no hop that")
    assert [lane.holds for lane in verification.lanes()] == [False, False]


async def test_a_shop_without_lanes_is_judged_by_what_looks_the_same(tmp_path: Path) -> None:
    def spread(number: int, headers: Message) -> Answer:
        return answer(f"front(base) -> cart({'base' if number % 4 else 'blue'})", headers)

    verification = await verified(tmp_path, without_lanes(), spread)
    assert [(one.level, one.text.partition(":")[0]) for one in verification.problems()] == [
        ("error", "after front(base), cart is base in 15 and blue in 5 requests"),
        ("note", "no lanes"),
    ]


async def test_a_shop_without_lanes_may_mix_versions(tmp_path: Path) -> None:
    def mixed(_: int, headers: Message) -> Answer:
        return answer("front(base) -> cart(other)", headers)

    verification = await verified(tmp_path, without_lanes(), mixed)
    assert verification.hold


def shop_with(regex: str) -> list[Json]:
    """The shop, whose rules for lane blue ask for an expression."""
    objects = shop()
    for one in objects:
        for rule in one["spec"].get("http", []) if one["kind"] == "VirtualService" else []:
            for match in rule.get("match", []):
                if "headers" in match:
                    match["headers"] = {"x-lane": {"regex": regex}}
    return objects


def blue_or_green(_: int, headers: Message) -> Answer:
    return answer(IN_BLUE if headers.get("x-lane") in ("blue", "green") else IN_BASE, headers)


async def test_each_value_of_an_expression_enters_its_lane(tmp_path: Path) -> None:
    first = await verified(tmp_path, shop_with("blue|green"), blue_or_green)
    assert first.hold
    assert [(lane.name, lane.enters_by, lane.requests) for lane in first.lanes()] == [
        ("base", "/shop", 20),
        ("blue", "/shop with x-lane: blue; /shop with x-lane: green", 40),
    ]
    # Here a rule has lost one of the values.
    second = await verified(tmp_path, shop_with("blue|green"), sound)
    assert [lane.holds for lane in second.lanes()] == [True, False]


async def test_a_case_is_not_in_the_baseline_whose_rule_nobody_can_read(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    request = "{path: /shop, headers: {x-lane: green}}"
    file.write_text(f"cases: [{{request: {request}, chain: {IN_BLUE}}}]\n")
    objects = shop_with(r"\bgreen|\bblue")
    cases = read_cases(file)
    verification = await verified(tmp_path, objects, blue_or_green, cases)
    assert verification.hold
    assert [result.holds for result in verification.cases] == [True]
    texts = [one.text for one in verification.problems()]
    assert any("no value for it can be made up" in text for text in texts)
    # The chain of the case still counts.
    verification = await verified(tmp_path, objects, sound, cases)
    assert [one.about for one in verification.problems() if one.level == "error"] == ["cases"]


CASES = f"""\
cases:
  - name: testers
    request: {{path: /shop, headers: {{x-lane: blue}}}}
    chain: {IN_BLUE}
  - request: {{path: /shop/gone}}
    chain: front(base) -> (no hop)
    status: 404
"""


async def test_a_case_may_be_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(CASES)

    asked: list[int] = []

    def gone(number: int, headers: Message) -> Answer:
        # The entrances of the map come first, with 20 requests each.
        asked.append(number)
        return answer("front(base)", headers, 404) if number >= 60 else sound(number, headers)

    verification = await verified(tmp_path, shop(), gone, read_cases(file))
    assert [result.reasons for result in verification.cases] == [(), ()]
    assert verification.hold
    assert verification.requests == len(asked) == 80


async def test_a_case_that_fails_says_what_came_instead(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(CASES)
    verification = await verified(tmp_path, shop(), sound, read_cases(file))
    assert not verification.hold
    assert [result.holds for result in verification.cases] == [True, False]
    (problem,) = verification.problems()
    assert problem.source == Source("case", "/shop/gone", str(file), 5)
    assert problem.text == (
        "case /shop/gone: must get front(base) -> (no hop): 404,"
        f" but got {IN_BASE} in 20 of 20 requests"
    )
    assert problem.located.endswith(f"; see {file}:5")


async def test_a_leak_of_a_case_is_told_as_a_leak(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(
        f"cases: [{{request: {{path: /shop/x, headers: {{x-lane: blue}}}}, chain: '{LEAK}'}}]"
    )

    def answers(number: int, headers: Message) -> Answer:
        return leaking(number, headers) if number >= 60 else sound(number, headers)

    verification = await verified(tmp_path, shop(), answers, read_cases(file))
    assert [result.holds for result in verification.cases] == [True]
    assert [problem.about for problem in verification.problems()] == ["isolation"]


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ("{base: 85, blue: 15}", None),
        ("{base: 170, blue: 30}", None),
        ("{base: 65, blue: 35}", "base: "),
        ("{base: 1}", "blue: "),
        ("{base: 85, blu: 15}", "there is no lane 'blu'; did you mean 'blue'?; "),
    ],
)
async def test_shares_are_those_of_lanes(tmp_path: Path, shares: str, said: str | None) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(f"cases: [{{request: {{path: /shop}}, shares: {shares}}}]")
    objects = split_shop()
    verification = await verified(tmp_path, objects, split(0.15), read_cases(file))
    (result,) = verification.cases
    assert result.holds is (said is None)
    if said is not None:
        assert any(reason.startswith(said.rstrip("; ")) for reason in result.reasons)
    assert "split" not in {problem.about for problem in verification.problems()}


async def test_the_weights_of_the_manifests_are_saved_as_shares(tmp_path: Path) -> None:
    verification = await verified(tmp_path, split_shop(), split(0.15))
    assert verification.hold
    assert "  - request: {path: /shop}\n    shares: {base: 85, blue: 15}\n" in saved(verification)


async def test_what_no_case_can_say_is_saved_as_a_comment(tmp_path: Path) -> None:
    def two(number: int, headers: Message) -> Answer:
        return sound(number, headers) if number % 2 else leaking(number, headers)

    text = saved(await verified(tmp_path, shop(), two))
    assert "# The lanes did not hold" in text
    assert "  # /shop with x-lane: blue: 2 chains came back, none of them always\n" in text


async def test_a_share_that_is_off_by_chance_is_asked_for_again(tmp_path: Path) -> None:
    dice = split(0.15)
    asked: list[int] = []

    def answers(number: int, headers: Message) -> Answer:
        asked.append(number)
        if "x-lane" not in headers and number < 80:
            headers["x-lane"] = "blue"
        return dice(number, headers)

    verification = await verified(tmp_path, split_shop(), answers)
    assert verification.hold
    assert verification.requests < len(asked)


async def test_junit_has_a_test_for_each_lane_verdict_and_case(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(CASES.replace("testers", '"<testers> & \\x1b[31m"'))
    verification = await verified(tmp_path, shop(), leaking, read_cases(file))
    (suite,) = ET.fromstring(junit(verification))
    tests = suite.findall("testcase")
    outcomes = {
        f"{test.get('classname', '').rpartition('.')[2]} {test.get('name')}": test.find("failure")
        for test in tests
    }
    assert list(outcomes) == [
        "lane base",
        "lane blue",
        "verdict isolation",
        "verdict propagation",
        "verdict reach",
        "verdict health",
        "case <testers> & \\x1b[31m",
        "case /shop/gone",
    ]
    failed = [name for name, failure in outcomes.items() if failure is not None]
    assert failed == ["lane blue", "verdict isolation", *list(outcomes)[-2:]]
    for name in failed:
        failure = outcomes[name]
        assert failure is not None
        assert failure.text
        assert failure.text.startswith(failure.get("message", "?"))
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "8",
        "failures": "4",
        "errors": "0",
        "skipped": "0",
    }
    assert tests[-1].get("file") == str(file)
    assert tests[-1].get("line") == "5"


def gone(_: int, headers: Message) -> Answer:
    return answer("front(base)", headers, 503)


def without_lane_header(_: int, headers: Message) -> Answer:
    blue = headers.get("x-lane") == "blue"
    del headers["x-lane"]
    return answer(IN_BLUE if blue else IN_BASE, headers)


def spread(number: int, headers: Message) -> Answer:
    return answer(f"front(base) -> cart({'base' if number % 4 else 'blue'})", headers)


def without_entrance_of_blue() -> list[Json]:
    """The shop whose gateway takes away the header that names the lane."""
    objects = shop()
    (entrance,) = [one for one in objects if one["spec"].get("http") and "gateways" in one["spec"]]
    entrance["spec"]["http"][0]["headers"] = {"request": {"remove": ["x-lane"]}}
    return objects


REMARKS = [
    Problem("error", about, "seen beside the requests")
    for about in ("isolation", "propagation", "split", "reach", "health")
]


@pytest.mark.parametrize(
    ("objects", "answers", "about"),
    [
        (shop, sound, None),
        (split_shop, split(0.15), None),
        (without_lanes, sound, None),
        (shop, leaking, "isolation"),
        (without_lanes, spread, "isolation"),
        (shop, gone, "health"),
        (shop, without_lane_header, "propagation"),
        (split_shop, split(0.9), "split"),
        (without_entrance_of_blue, sound, "reach"),
    ],
)
async def test_all_that_is_written_agrees_on_whether_lanes_hold(
    objects: Callable[[], list[Json]],
    answers: Callable[[int, Message], Answer],
    about: str | None,
    tmp_path: Path,
) -> None:
    verification = await verified(tmp_path, objects(), answers)
    assert verification.hold is (about is None)
    if about is not None:
        assert about in {one.about for one in verification.problems() if one.level == "error"}
    assert_agreement(verification)
    for remark in REMARKS:
        assert_agreement(replace(verification, remarks=(remark,)))
        assert_agreement(replace(verification, remarks=(replace(remark, level="note"),)))
    assert_agreement(replace(verification, entered=()))


async def test_all_that_is_written_agrees_on_whether_cases_hold(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(CASES)
    assert_agreement(await verified(tmp_path, shop(), sound, read_cases(file)))


def assert_agreement(verification: Verification) -> None:
    """Text, JSON, annotations and JUnit all tell failures, or none of them does."""
    holds = verification.hold
    problems = verification.problems()
    errors = [one for one in problems if one.level == "error"]
    data = verification.to_json()
    judged = [
        one["holds"] or (one["holds"] is None and one["name"] != "isolation")
        for one in (*data["verdicts"], *data["cases"])
    ]
    (suite,) = ET.fromstring(junit(verification))
    annotated = [one for one in problems if github.annotation(one).startswith("::error ")]
    assert holds is not bool(errors)
    assert data["hold"] is holds
    assert all(judged) is holds
    assert (suite.get("failures") == "0") is holds
    assert len(annotated) == len(errors)
    failures = "".join(one.text or "" for one in suite.iter("failure"))
    for remark in verification.remarks:
        assert (remark.text in failures) is (remark.level == "error")


def test_junit_of_lanes_that_do_not_start_is_an_error() -> None:
    (suite,) = ET.fromstring(junit_of_failure(["a.yaml:1: <b>\x00", "c"]))
    assert suite.get("errors") == "1"
    (error,) = suite.findall("testcase/error")
    assert error.text == "a.yaml:1: <b>\\x00\nc"


PROBLEM = Problem("error", "isolation", "100% of a, b: gone\r\nnow")


@pytest.mark.parametrize(
    ("problem", "command"),
    [
        (
            PROBLEM,
            "::error title=mockservice verify%3A isolation::100%25 of a, b: gone%0D%0Anow",
        ),
        (
            replace(PROBLEM, level="note", text="so", source=Source("K", "n", "k8s/a,b:c.yaml", 7)),
            "::warning file=k8s/a%2Cb%3Ac.yaml,line=7,title=mockservice verify%3A isolation::"
            "so; see k8s/a,b:c.yaml:7",
        ),
    ],
)
def test_an_annotation_is_escaped_as_github_reads_it(problem: Problem, command: str) -> None:
    assert github.annotation(problem) == command


async def test_in_github_actions_annotations_stand_in_for_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    verification = await verified(tmp_path, shop(), leaking)
    (problem,) = verification.problems()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    report.show(verification)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == github.annotation(problem)
    assert lines[-2].startswith("::error file=shop.yaml,line=")
    assert not any(line.startswith("error: ") for line in lines)


async def test_in_github_actions_what_changes_no_lanes_is_no_annotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"apiVersion": "v1", "metadata": {"name": "web", "namespace": "default"}}
    objects: list[Json] = [
        {**named, "kind": "ServiceAccount"},
        {**named, "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"},
    ]
    verification = await verified(tmp_path, [*objects, *without_blue_rule_of("price")], leaking)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    report.show(verification)
    shown = [
        line.partition(" ")[0]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("::", "note: "))
    ]
    assert shown == ["::error", "::warning", "note:"]
    report.show_json(verification)
    assert capsys.readouterr().err.count("::") == 2 * 2


def test_an_annotation_names_no_file_for_standard_input() -> None:
    problem = replace(PROBLEM, source=Source("K", "n", "-", 7))
    assert github.annotation(problem).startswith("::error title=")
    assert github.annotation_of_refusal("-:7: wrong").startswith("::error title=")


def test_an_annotation_names_the_file_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inside = replace(PROBLEM, source=Source("K", "n", str(tmp_path / "k8s" / "a.yaml"), 7))
    outside = replace(PROBLEM, source=Source("K", "n", "/elsewhere/a.yaml", 7))
    assert github.annotation(inside).startswith("::error file=k8s/a.yaml,line=7,")
    assert github.annotation(outside).startswith("::error file=/elsewhere/a.yaml,line=7,")


def test_a_refused_file_is_annotated_where_it_is_wrong() -> None:
    reason = "k8s/a.yaml:36: VirtualService mock: spec.http: must be set"
    assert github.annotation_of_refusal(reason) == (
        f"::error file=k8s/a.yaml,line=36,title=mockservice verify%3A refused::{reason}"
    )
    assert github.annotation_of_refusal("no pods").startswith("::error title=mockservice verify")
