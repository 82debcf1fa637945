"""What a worker tells the master, without a server: see reporter_probe.py."""

import json
import subprocess
import sys
from typing import Any

from tests.explore.locust_ui import ROOT


def scene(name: str) -> tuple[dict[str, Any], str]:
    """What the board shows, and the log."""
    command = [sys.executable, "-m", "tests.explore.reporter_probe", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_what_came_before_a_reset_does_not_count_after_it_parsed_or_not() -> None:
    shown, _ = scene("reset")
    assert shown["at once"] == {"epoch": 1, "tokens": 0, "ok": 0, "rows": 0}
    assert shown["under way"] == {"epoch": 1, "tokens": 140, "ok": 0, "rows": 0}  # 20 streams x 7 since
    assert shown["at the end"] == {"epoch": 1, "tokens": 140, "ok": 20, "rows": 20}


def test_of_two_resets_the_later_one_counts_whichever_is_done_first() -> None:
    shown, _ = scene("two resets")
    assert shown == {"first was slower": True, "heard": ["w"]}


def test_a_response_that_breaks_the_parser_stops_no_reset() -> None:
    shown, log = scene("broken")
    assert shown == {"heard": ["w"]}
    assert "parsing request" in log


def test_a_test_that_the_master_did_not_announce_measures_nothing_and_says_so() -> None:
    shown, log = scene("untold")
    assert shown == {"lived": True}
    assert "the master did not say which test this is" in log
