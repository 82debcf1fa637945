"""report.html and calibration.html: each one file that needs no network, and in which no measured string can run.

The one door to jinja2. The page forbids itself everything (default-src 'none') but the scripts and the style sheet
that were written into it, by their hashes; style *attributes* are allowed because the charts set them.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from loadstair.report import view
from loadstair.report.calibration import calibration_figures, ceiling_lines, failure_lines
from loadstair.report.charts import chart_data, figure_data
from loadstair.report.page import page
from loadstair.samples.calibration import Calibration


def render_report(summary_json: Mapping[str, Any], plan_yaml: str, run: Mapping[str, Any]) -> str:
    """From the values of summary.json, plan.yaml (as resolved) and run.json. The same values give the same page."""
    content = page(summary_json, run)
    data = chart_data(summary_json, content.figures)
    return _rendered("report.html.j2", data, page=content, summary=summary_json, run=run, plan_yaml=plan_yaml)


def render_calibration(calibration: Calibration) -> str:
    figures = calibration_figures(calibration)
    data = {"x": "users", "loads": [], "figures": figure_data(figures)}
    lines = {"lines": ceiling_lines(calibration), "failures": failure_lines(calibration)}
    return _rendered("calibration.html.j2", data, calibration=calibration, figures=figures, **lines)


def _rendered(template: str, data: Mapping[str, Any], **values: object) -> str:
    folder = resources.files("loadstair.report")
    vendor = resources.files("loadstair.vendor")
    scripts = [
        _script(vendor.joinpath("echarts.min.js").read_text(encoding="utf-8")),
        _script(folder.joinpath("templates", "charts.js").read_text(encoding="utf-8")),
    ]
    style = Markup(folder.joinpath("templates", "report.css").read_text(encoding="utf-8"))  # noqa: S704 our own file
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath("templates", name).read_text(encoding="utf-8")),
    )
    environment.globals["view"] = view
    return environment.get_template(template).render(
        policy=_policy(scripts, style), style=style, scripts=scripts, data=data_block(data), **values
    )


def data_block(value: object) -> Markup:
    """JSON that cannot end its script element, whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, sort_keys=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 escaped here


def _script(text: str) -> Markup:
    if "</script" in text.lower():
        raise ValueError("a script that is to be inlined must not end its own element")
    return Markup(text)  # noqa: S704 our own file


def _policy(scripts: list[Markup], style: Markup) -> str:
    allowed = " ".join(_source(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src-elem {_source(style)}; style-src-attr 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
