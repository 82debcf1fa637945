from xml.etree.ElementTree import Element, fromstring

import pytest

from loadstair.report.junit import junit_xml
from tests.report.values import empty_summary, mixed_summary


def suites(text: str) -> dict[str, Element]:
    return {suite.attrib["name"]: suite for suite in fromstring(text.encode())}


def test_each_step_and_each_threshold_is_a_case() -> None:
    found = suites(junit_xml(mixed_summary()))
    assert [case.attrib["name"] for case in found["tp4"]] == ["4 users", "16 users", "64 users"]
    assert len(found["thresholds"]) == 2


def test_an_invalid_step_is_an_error_with_its_reasons() -> None:
    suite = suites(junit_xml(mixed_summary()))["tp4"]
    error = suite.find("testcase[@name='64 users']/error")
    assert error is not None
    assert "too slow" in error.attrib["message"]
    assert (suite.attrib["tests"], suite.attrib["errors"], suite.attrib["failures"]) == ("3", "1", "0")


def test_a_missed_threshold_is_a_failure_and_one_without_a_measurement_an_error() -> None:
    assert suites(junit_xml(mixed_summary()))["thresholds"].attrib["failures"] == "1"
    assert suites(junit_xml(empty_summary()))["thresholds"].attrib["errors"] == "2"


def test_time_is_what_was_held_and_the_root_adds_it_all_up() -> None:
    summary = mixed_summary()
    root = fromstring(junit_xml(summary).encode())
    steps = summary["topologies"]["tp4"]["steps"]
    held_s = sum(visit["hold_end_ns"] - visit["hold_start_ns"] for step in steps for visit in step["visits"]) / 1e9
    assert float(suites(junit_xml(summary))["tp4"].attrib["time"]) == pytest.approx(held_s, abs=0.01)
    assert held_s > 0
    for key in ("tests", "failures", "errors"):
        assert int(root.attrib[key]) == sum(int(suite.attrib[key]) for suite in root)


def test_a_topology_that_was_never_measured_does_not_pass_silently() -> None:
    assert suites(junit_xml(empty_summary()))["tp4"].attrib["errors"] == "1"


def test_characters_that_xml_cannot_hold_do_not_break_the_file() -> None:
    summary = mixed_summary()
    summary["topologies"]["tp4"]["steps"][-1]["reasons"][0]["message"] = 'a\x00b\x1b[31m <&"> \ud800'
    error = suites(junit_xml(summary))["tp4"].find("testcase/error")
    assert error is not None
    assert error.attrib["message"].startswith('a\ufffdb\ufffd[31m <&">')
