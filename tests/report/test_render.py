import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from loadstair.report.charts import chart_data
from loadstair.report.render import data_block, render_report
from tests.report.values import empty_summary, mixed_run, mixed_summary, run_values

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
        assert "href" not in attributes, tag
        assert tag not in ("link", "iframe", "object", "embed", "base")


def test_the_policy_allows_the_scripts_and_the_style_in_the_page_and_nothing_else() -> None:
    elements = parsed(page())
    policy = next(
        a["content"] for tag, a in elements.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    run = [text for text in elements.contents["script"] if not text.startswith('{"charts"')]
    digests = {
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in [*run, *elements.contents["style"]]
    }
    assert digests == set(re.findall(r"'sha256-([^']+)'", policy))


def test_hostile_strings_are_text_wherever_they_come_from() -> None:
    summary, run = mixed_summary(), run_values(mixed_run())
    for step in summary["topologies"]["tp4"]["steps"]:
        step["upstreams"] = {HOSTILE: 0.5, "other": 0.5}
        step["warnings"] = [{"id": HOSTILE, "severity": "warning", "message": HOSTILE}]
    summary["topologies"][HOSTILE] = summary["topologies"].pop("tp4")
    summary["name"] = summary["advice"] = summary["thresholds"][0]["text"] = HOSTILE
    run["command"] = HOSTILE
    run["host"] = {HOSTILE: HOSTILE}
    html = render_report(summary, HOSTILE, run)
    clean, hostile = parsed(page()), parsed(html)
    for tag in ("script", "img"):
        assert [t for t, _ in hostile.tags].count(tag) == [t for t, _ in clean.tags].count(tag)
    assert not any(name.startswith("on") for _, attributes in hostile.tags for name in attributes)
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", html)[0]


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


def test_charts_have_a_point_for_each_known_value_and_tell_invalid_ones() -> None:
    data = chart_data(mixed_summary())
    throughput = data["charts"][0]["series"]
    assert [(one["name"], [point["load"] for point in one["points"]]) for one in throughput] == [
        ("tp4", [4, 16, 64]),
        ("tp2x2", [4, 16, 64]),
    ]
    assert [point["valid"] for point in throughput[0]["points"]] == [True, True, False]


def test_a_step_without_a_p99_has_no_point_but_one_of_its_p50() -> None:
    summary = mixed_summary()
    summary["topologies"]["tp4"]["steps"][0]["ttft_ms"]["p99"] = {"value": None, "low": None, "high": None, "n": 3}
    throughput, ttft = chart_data(summary)["charts"]
    assert [point["load"] for point in ttft["series"][0]["points"]] == [16, 64]
    assert [point["load"] for point in ttft["series"][0]["dashed"]] == [4, 16, 64]
    assert (
        ttft["series"][0]["dashed"][0]["value"] == summary["topologies"]["tp4"]["steps"][0]["ttft_ms"]["p50"]["value"]
    )
    assert throughput["series"][0]["dashed"] == []
