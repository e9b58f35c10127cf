"""JUnit XML, which CI systems show as tests: one for each lane, verdict and case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from mockservice.probe.report import plain
from mockservice.probe.verdicts import ISOLATION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mockservice.manifests.documents import Source
    from mockservice.verify.verification import LaneSummary, Verification

_SUITE: Final = "mockservice verify"
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>'


def junit(verification: Verification) -> str:
    """A verification as JUnit XML."""
    suite = _suite(verification.seconds)
    problems = verification.problems()
    for lane in verification.lanes():
        about = [one.located for one in problems if _names(one.text, lane)]
        test = _test(suite, "lane", lane.name, lane.source)
        if lane.holds is False:
            _add(test, "failure", about or [f"see the verdicts: {lane.chain}"])
        elif lane.holds is None:
            _add(test, "skipped", about or ["no request entered it"])
    for verdict in verification.verdicts():
        test = _test(suite, "verdict", verdict.name)
        if verdict.holds is False or (verdict.holds is None and verdict.name == ISOLATION):
            _add(test, "failure", verdict.reasons)
        elif verdict.holds is None:
            _add(test, "skipped", verdict.reasons)
    for result in verification.cases:
        test = _test(suite, "case", result.case.name, result.case.source)
        if not result.holds:
            _add(test, "failure", result.reasons)
    notes = [f"note: {one.located}" for one in problems if one.level == "note"]
    if notes:
        ET.SubElement(suite, "system-out").text = _text(notes)
    return _written(suite)


def junit_of_failure(problems: Iterable[str]) -> str:
    """A verification that did not come about, as JUnit XML."""
    suite = _suite(0)
    _add(_test(suite, "lanes", "start"), "error", problems)
    return _written(suite)


def _suite(seconds: float) -> ET.Element:
    return ET.Element("testsuite", name=_SUITE, time=f"{seconds:.3f}")


def _test(suite: ET.Element, kind: str, name: str, source: Source | None = None) -> ET.Element:
    test = ET.SubElement(suite, "testcase", classname=f"{_SUITE}.{kind}", name=plain(name))
    if source is not None:
        test.set("file", plain(source.path))
        test.set("line", str(source.line))
    return test


def _add(test: ET.Element, outcome: str, lines: Iterable[str]) -> None:
    lines = list(lines)
    ET.SubElement(test, outcome, message=plain(lines[0])).text = _text(lines)


def _text(lines: Iterable[str]) -> str:
    # XML has no way to write most control characters (XML 1.0 section 2.2).
    return "\n".join(map(plain, lines))


def _written(suite: ET.Element) -> str:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for plural, outcome in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(plural, str(len(suite.findall(f"testcase/{outcome}"))))
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return f"{_DECLARATION}\n{ET.tostring(suites, encoding='unicode')}\n"


def _names(text: str, lane: LaneSummary) -> bool:
    """Whether a problem is about a lane, by what it says."""
    return f"lane {lane.name} " in text
