"""A verdict as JUnit XML, which build servers show as tests."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from edge_deit.common.text import visible
from edge_deit.report.report import Report
from edge_deit.report.verdict import Check, Verdict

__all__ = ["junit"]


def junit(report: Report, verdict: Verdict) -> str:
    """JUnit XML: a suite for each artefact, a case for each of its limits, one more for each problem."""
    root = ET.Element("testsuites", name="edge-deit")
    for artefact in dict.fromkeys(check.artefact for check in verdict.checks):
        checks = [check for check in verdict.checks if check.artefact == artefact]
        suite = _suite(root, artefact, report, [_check_case(check) for check in checks])
        properties = ET.Element("properties")
        for result in report.artefacts:
            if artefact in (result.name, result.path):
                for name in ("sha256", "weights_sha256", "runner"):
                    value = visible(str(getattr(result, name)))
                    ET.SubElement(properties, "property", name=name, value=value)
        if len(properties):
            suite.insert(0, properties)
    problems = list(verdict.problems)
    if not verdict.checks and not problems:
        problems = ["no limit was checked, so nothing was judged"]
    if problems:
        _suite(root, "gate", report, [_case("gate", "could judge", "error", p) for p in problems])
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _suite(root: ET.Element, name: str, report: Report, cases: list[ET.Element]) -> ET.Element:
    suite = ET.SubElement(root, "testsuite", name=visible(name), timestamp=report.created)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", str(sum(case.find("error") is not None for case in cases)))
    suite.extend(cases)
    return suite


def _check_case(check: Check) -> ET.Element:
    return _case(check.artefact, check.limit, check.status, check.message)


def _case(suite: str, name: str, status: str, message: str) -> ET.Element:
    case = ET.Element("testcase", classname=visible(suite), name=visible(name))
    if tag := {"failed": "failure", "error": "error"}.get(status):
        ET.SubElement(case, tag, message=visible(message)).text = visible(message)
    return case
