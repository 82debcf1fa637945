import base64
import hashlib
import json
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from loadstair.report.render import data_block, render_report
from tests.report.values import aborted_run, empty_summary, mixed_run, mixed_summary, run_values, summary_of

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}<!--\u2028\"'"


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.contents: dict[str, list[str]] = {}
        self._inside: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style"):
            self.contents.setdefault(self._inside, []).append(data)


def parsed(html: str) -> Elements:
    elements = Elements()
    elements.feed(html)
    return elements


def page() -> str:
    return render_report(mixed_summary(), "name: synthetic\n", run_values(mixed_run()))


def test_the_page_says_the_answer_every_verdict_and_every_reason() -> None:
    summary, html = mixed_summary(), page()
    assert summary["advice"].replace("'", "&#39;") in html
    invalid = summary["topologies"]["tp4"]["steps"][-1]
    assert invalid["verdict"] == "invalid"
    assert "the load generator was too slow" in html
    assert "generator.saturated" in html
    assert "tp4: 2 of 3 steps valid" in html
    assert "threshold failed" in html


def test_the_page_holds_the_command_the_plan_and_the_environment() -> None:
    html = page()
    for text in ("loadstair run plan.yaml", "name: synthetic", "2.47.0", "a CPU"):
        assert text in html


def test_the_page_fetches_nothing() -> None:
    for tag, attributes in parsed(page()).tags:
        assert "src" not in attributes, tag
        assert (attributes.get("href") or "#").startswith("#"), tag
        assert tag not in ("link", "iframe", "object", "embed", "base")


def test_the_policy_allows_the_scripts_and_the_style_in_the_page_and_nothing_else() -> None:
    elements = parsed(page())
    policy = next(
        a["content"] for tag, a in elements.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    run = [text for text in elements.contents["script"] if not text.startswith('{"figures"')]
    digests = {
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in [*run, *elements.contents["style"]]
    }
    assert digests == set(re.findall(r"'sha256-([^']+)'", policy))


def hostile_values() -> tuple[dict[str, Any], dict[str, Any]]:
    """summary.json and run.json with hostile strings in every place that a server, a plan or a host can fill."""
    summary, run = mixed_summary(), run_values(mixed_run())
    finding = {"id": HOSTILE, "severity": "warning", "message": HOSTILE}
    for step in summary["topologies"]["tp4"]["steps"]:
        step["upstreams"] = {HOSTILE: 0.5, "other": 0.5}
        step["warnings"] = step["reasons"] = [finding]
        step["outcomes"] = {"ok": 1, HOSTILE: 2}
        step["slo"] = [{"name": HOSTILE, "limit": 1.0, "share_beyond": 1.0, "met": False}]
    for step in summary["timelines"]["tp4"]["steps"]:
        step["upstreams"] = {HOSTILE: 0.5, "other": 0.5}
    for kind in ("topologies", "timelines"):
        summary[kind][HOSTILE] = summary[kind].pop("tp4")
    comparison = summary["comparisons"]["tp2x2_vs_tp4"]
    comparison.update(first=HOSTILE, findings=[finding])
    comparison["throughput_crossover_load"].update(value=17.2, low=15.1, high=19.0)
    summary["topologies"][HOSTILE]["kind"] = summary["topologies"][HOSTILE]["gpus"]["type"] = HOSTILE
    summary["topologies"][HOSTILE]["capacity"]["findings"] = summary["findings"] = summary["diagnosis"] = [finding]
    summary["name"] = summary["advice"] = summary["started"] = summary["ending_message"] = HOSTILE
    summary["thresholds"][0].update(text=HOSTILE, message=HOSTILE)
    run["command"] = run["started"] = HOSTILE
    run["host"] = run["versions"] = run["topologies"] = {HOSTILE: HOSTILE}
    return summary, run


def test_hostile_strings_are_text_wherever_they_come_from() -> None:
    summary, run = hostile_values()
    html = render_report(summary, HOSTILE, run)
    clean, hostile = parsed(page()), parsed(html)
    for tag in ("script", "img", "style", "iframe"):
        assert [t for t, _ in hostile.tags].count(tag) == [t for t, _ in clean.tags].count(tag)
    assert not any(name.startswith("on") for _, attributes in hostile.tags for name in attributes)
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", html)[0]
    assert HOSTILE not in html


def test_the_data_block_is_json_that_cannot_end_its_element() -> None:
    text = str(data_block({"name": HOSTILE}))
    assert "<" not in text
    assert json.loads(text) == {"name": HOSTILE}


def test_the_data_block_refuses_what_json_has_no_word_for() -> None:
    with pytest.raises(ValueError, match="JSON"):
        data_block({"value": float("nan")})


def test_the_same_values_give_the_same_page() -> None:
    assert page() == page()


def test_a_run_without_a_single_step_still_gives_a_page() -> None:
    html = render_report(empty_summary(), "name: x\n", run_values(mixed_run()))
    assert "Never measured." in html
    assert "No step of any topology is valid" in html


def test_a_run_that_ended_early_says_so_at_the_top_with_the_cause() -> None:
    html = render_report(summary_of(aborted_run()), "name: x\n", run_values(aborted_run()))
    top = html[: html.index("<nav")]
    assert "the run did not complete: topology failed" in top
    assert "tp2x2: engine0 died" in top
    assert "tp2x2: never measured" in top


def test_every_chart_has_a_label_for_those_who_hear_the_page() -> None:
    charts = [attributes for _, attributes in parsed(page()).tags if attributes.get("class") == "chart"]
    assert len(charts) == 1 + 4 + 1 + 2 + 2  # the answer, latencies, requests, over time, balance
    for chart in charts:
        assert chart["role"] == "img"
        assert "stand in the tables" in (chart["aria-label"] or "")


def test_the_links_of_the_page_lead_somewhere() -> None:
    for html in (page(), render_report(empty_summary(), "name: x\n", run_values(mixed_run()))):
        tags = parsed(html).tags
        ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
        links = {(attributes["href"] or "")[1:] for _, attributes in tags if "href" in attributes}
        assert links
        assert links <= ids


def test_only_a_screen_is_dark() -> None:
    (style,) = parsed(page()).contents["style"]
    assert style.count("prefers-color-scheme") == style.count("@media screen and (prefers-color-scheme: dark)") == 1


def read_aloud(html: str) -> str:
    """The words of a piece of the page: a line for each block and each row, cells between bars; no details."""
    html = re.sub(r"<details.*?</details>", "", html, flags=re.DOTALL)
    html = re.sub(r"\s+", " ", html)
    html = re.sub(r"</(p|h\d|li|tr|figcaption|summary|div|caption)>", "\n", html)
    html = re.sub(r"</(td|th|dt|a)>", " | ", html)
    lines = [re.sub(r" +", " ", unescape(re.sub(r"<[^>]*>", "", line))).strip(" |") for line in html.split("\n")]
    return "\n".join(line for line in lines if line) + "\n"


def test_the_page_reads_as_it_was_reviewed(golden: Callable[[str, str], None]) -> None:
    html = page()
    golden("report/page.txt", read_aloud(html[html.index("<header>") : html.index('<section id="repeat">')]))
