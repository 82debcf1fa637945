"""The cards of the page: one for each topology, with its capacity."""

from typing import Any

from loadstair.report.page import Fact, page
from tests.report.values import mixed_summary


def facts(capacity: dict[str, Any]) -> dict[str, Fact]:
    """Of tp4, with these values in its capacity."""
    summary = mixed_summary()
    summary["topologies"]["tp4"]["capacity"] |= capacity
    card = next(card for card in page(summary, {}).cards if card.topology == "tp4")
    return {fact.name: fact for fact in card.facts}


def estimate(value: float) -> dict[str, Any]:
    return {"value": value, "low": value * 0.9, "high": value * 1.1, "n": 8, "findings": []}


def test_a_failure_point_says_of_what() -> None:
    found = facts({"failure_load": 64, "failure_kind": "out_of_memory"})["First failure at"]
    assert (found.value, found.interval) == ("64 users", "(out of memory)")


def test_without_a_failure_there_is_no_such_line() -> None:
    assert "First failure at" not in facts({"failure_load": None, "failure_kind": None})


def test_both_fitted_knees_are_told_and_which_fit_is_better() -> None:
    found = facts({"usl": {"knee_load": estimate(80)}, "piecewise": {"knee_load": estimate(48)}, "fit": "piecewise"})
    assert found["Knee, fitted (bend, fits better)"].value == "48.0 users"
    assert found["Knee, fitted (USL)"].value == "80.0 users"
