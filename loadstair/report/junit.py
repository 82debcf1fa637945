"""junit.xml: one case for each step's verdict and one for each threshold."""

import re
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from loadstair.report import view
from loadstair.report.matrix import reasons, times
from loadstair.units import NS_PER_S

# What XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(summary_json: Mapping[str, Any]) -> str:
    """A threshold that failed is a failure; an invalid step, or a threshold that needed one, is an error.

    A matrix has a case for each test instead: a failed test is a failure, one without a result an error.
    A forecast says so in the name of the whole and in a property of each suite.
    `time` is seconds: a step's is its holds over all repeats, a threshold takes none.
    """
    root = Element("testsuites", name=_clean(view.run_name(summary_json)))
    unit = view.load_unit(summary_json["mode"])
    for name, topology in summary_json["topologies"].items():
        suite = SubElement(root, "testsuite", name=_clean(name))
        if view.is_predicted(summary_json):
            SubElement(SubElement(suite, "properties"), "property", name="predicted", value="true")
        tests = (summary_json.get("matrix") or {}).get(name, {}).get("tests", [])
        for test in tests:
            _test(SubElement(suite, "testcase", classname=_clean(name), name=_clean(test["id"])), test)
        for step in topology["steps"]:
            case = SubElement(suite, "testcase", classname=_clean(name), name=view.load_words(step["load"], unit))
            case.set("time", f"{_held_s(step):.3f}")
            if step["verdict"] != "valid":
                _problem(case, "error", "; ".join(reason["message"] for reason in step["reasons"]))
        if not topology["steps"] and not tests:
            case = SubElement(suite, "testcase", classname=_clean(name), name="measured")
            _problem(case, "error", "never measured")
        _count(suite)
    thresholds = SubElement(root, "testsuite", name="thresholds")
    for result in summary_json["thresholds"]:
        case = SubElement(thresholds, "testcase", classname="thresholds", name=_clean(result["text"]), time="0")
        if result["status"] == "failed":
            _problem(case, "failure", f"{result['text']}: {result['message']}")
        elif result["status"] != "met":
            _problem(case, "error", f"{result['text']}: {result['message']}")
    _count(thresholds)
    _sum_up(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _test(case: Element, test: Mapping[str, Any]) -> None:
    """Of a matrix. A warning passes, its words in the output; a test without a valid burst is an error."""
    case.set("time", f"{test['duration_s']:.3f}")
    told = "; ".join(one["message"] for one in reasons(test))
    if test["status"] == "failure":
        _problem(case, "failure", told)
    elif test["status"] is None:
        _problem(case, "error", told or test["verdict"])
    elif test["status"] == "warning":
        SubElement(case, "system-out").text = _clean(f"warning: {times(test)} the baseline's latency. {told}".strip())


def _problem(case: Element, kind: str, message: str) -> None:
    problem = SubElement(case, kind, message=_clean(message))
    problem.text = _clean(message)


def _count(suite: Element) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in suite.findall('testcase')):.3f}")


def _held_s(step: Mapping[str, Any]) -> float:
    return float(sum(visit["hold_end_ns"] - visit["hold_start_ns"] for visit in step["visits"])) / NS_PER_S


def _sum_up(root: Element) -> None:
    suites = root.findall("testsuite")
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in suites):.3f}")


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
