"""The cards of the page: one for each topology, with its capacity."""

from typing import Any

from loadstair.report.page import Card, Fact, page
from tests.report.values import mixed_summary


def card(capacity: dict[str, Any]) -> Card:
    """Of tp4, with these values in its capacity."""
    summary = mixed_summary()
    summary["topologies"]["tp4"]["capacity"] |= capacity
    return next(card for card in page(summary, {}).cards if card.topology == "tp4")


def facts(capacity: dict[str, Any]) -> dict[str, Fact]:
    return {fact.name: fact for fact in card(capacity).facts}


def estimate(value: float) -> dict[str, Any]:
    return {"value": value, "low": value * 0.9, "high": value * 1.1, "n": 8, "findings": []}


def test_a_failure_point_says_of_what() -> None:
    found = facts({"failure_load": 64, "failure_kind": "out_of_memory"})["First failure at"]
    assert (found.value, found.interval) == ("64 users", "(out of memory)")


def test_without_a_failure_there_is_no_such_line() -> None:
    assert "First failure at" not in facts({"failure_load": None, "failure_kind": None})


def test_the_fitted_knee_is_the_one_to_believe_and_those_of_other_laws_stand_beside_it() -> None:
    laws = {"usl": {"knee_load": estimate(80)}, "full_batch": {"knee_load": estimate(48), "full_load": estimate(49)}}
    found = facts({**laws, "fit": "full_batch", "knee": {**estimate(48), "low": 43.2, "high": 88.0}})
    knee = found["Knee, fitted (full batch)"]
    assert (knee.value, knee.interval) == ("48.0 users", "[43.2, 88.0]")
    assert found["Knee by USL alone"].value == "80.0 users"
    assert found["Full batch, fitted"].value == "49.0 users"


def test_why_the_knee_spans_several_laws_or_is_none_is_a_note() -> None:
    finding = {"id": "knee.no_law", "severity": "info", "message": "it is off all of them"}
    knee = {"value": None, "low": None, "high": None, "n": 8, "findings": [finding]}
    assert "it is off all of them" in card({"fit": "usl", "knee": knee, "findings": []}).notes
    assert "it is off all of them" not in card({"fit": None, "knee": knee, "findings": []}).notes
    no_knee = {"id": "capacity.no_knee", "severity": "info", "message": "it grew up to load 64"}
    assert card({"fit": "usl", "knee": knee, "findings": [no_knee]}).notes == ("it grew up to load 64",)
