"""Who may import whom. The rooms and the rule: docs/architecture.md."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from loadstair.locust_process import CONFIG_VARIABLE

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "loadstair"

ROOT_MODULES = {"errors", "units", "clock", "child", "fetch", "inflate", "locust_process", "plain", "tls", "xdg"}

MAY_IMPORT = {
    "plan": {"serving"},
    "serving": set(),
    "simserver": {"serving"},
    "forecast": {"plan", "samples", "serving", "simserver"},
    "fitting": {"forecast", "plan", "samples", "serving", "simserver"},
    "sizing": {"serving"},
    "calibrate": {"drive", "plan", "samples", "simserver", "topology"},
    "topology": {"plan", "serving", "samples"},
    "load": {"plan", "samples"},
    "explore": {"load", "plan", "samples"},
    "drive": {"plan", "samples", "topology"},
    "samples": {"plan"},
    "telemetry": {"samples", "topology"},
    "analysis": {"samples", "plan", "serving"},
    "report": {"samples", "plan"},
}

ONE_DOOR = {
    "openai": {"loadstair/load/client.py"},
    "msgspec": {"loadstair/load/chunks.py"},
    "geventhttpclient": {"loadstair/load/response.py"},
    "pynvml": {"loadstair/telemetry/gpu.py"},
    "jinja2": {"loadstair/report/render.py"},
    "yaml": {"loadstair/plan/parse.py"},
    "prometheus_client": {"loadstair/telemetry/prometheus.py"},
    "boost_histogram": {"loadstair/samples/histogram.py"},
    "threadpoolctl": {"loadstair/pipeline.py"},
    "aiohttp": {"loadstair/simserver/server.py"},
}

INSIDE_LOCUST = ("loadstair/load/", "loadstair/explore/", "locustfiles/")

LINES_MAX = 600


def sources() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *(ROOT / "locustfiles").glob("*.py")])


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module named in an import statement, wherever it stands (inside functions too)."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("loadstair.")}
    return {room for room in rooms if (PACKAGE / room).is_dir()}


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        strangers = rooms_imported(path) - MAY_IMPORT[room] - {room}
        assert not strangers, f"{relative(path)} imports {strangers}"


def test_every_room_has_its_rule() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(MAY_IMPORT)


def test_rooms_import_no_root_module_but_the_shared_ones() -> None:
    root_modules = {path.stem for path in PACKAGE.glob("*.py")} - ROOT_MODULES - {"__init__"}
    for room in MAY_IMPORT:
        for path in (PACKAGE / room).rglob("*.py"):
            above = {name for name in imports(path) if name.removeprefix("loadstair.") in root_modules and "." in name}
            assert not above, f"{relative(path)} imports {above}"


def test_measuring_and_thinking_never_meet_but_in_samples() -> None:
    measuring = {"topology", "load", "explore", "drive", "telemetry", "simserver", "forecast", "calibrate"}
    thinking = {"analysis", "report"}
    for room in measuring:
        assert not MAY_IMPORT[room] & thinking
    for room in thinking:
        assert not MAY_IMPORT[room] & measuring


def test_only_the_rooms_inside_locust_import_locust_or_gevent() -> None:
    for path in sources():
        if not relative(path).startswith(INSIDE_LOCUST):
            found = {name for name in imports(path) if name.split(".")[0] in ("locust", "gevent")}
            assert not found, f"{relative(path)} imports {found}"


def test_nobody_outside_locust_imports_the_rooms_inside_it() -> None:
    for path in sources():
        if not relative(path).startswith(INSIDE_LOCUST):
            assert not rooms_imported(path) & {"load", "explore"}, relative(path)


@pytest.mark.parametrize("package", sorted(ONE_DOOR))
def test_a_package_has_one_door(package: str) -> None:
    doors = {relative(path) for path in sources() if package in {name.split(".")[0] for name in imports(path)}}
    assert doors <= ONE_DOOR[package], f"{package} is imported in {doors}"


def test_the_analysis_does_no_io_and_asks_no_clock() -> None:
    forbidden = {
        "os",
        "pathlib",
        "io",
        "subprocess",
        "socket",
        "time",
        "random",
        "urllib",
        "loadstair.clock",
        "loadstair.fetch",
    }
    for path in (PACKAGE / "analysis").rglob("*.py"):
        found = set(imports(path)) & forbidden
        assert not found, f"{relative(path)} imports {found}"


def test_only_the_clock_module_and_the_hot_path_ask_the_time() -> None:
    askers = {relative(path) for path in sources() if "time" in set(imports(path))}
    allowed = ("loadstair/clock.py", "loadstair/load/", "loadstair/simserver/")
    assert not {path for path in askers if not path.startswith(allowed)}


def test_the_orchestrator_is_plain_python() -> None:
    code = "import loadstair.cli, sys; print(sorted({'locust', 'gevent'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("driven", [True, False])
def test_what_a_request_takes_is_imported_with_the_locustfile_unless_the_process_is_driven(driven: bool) -> None:
    """It takes seconds: a test that has begun would lose them, in every worker. One that is driven is waited for, and
    may be a master, which needs none of it."""
    code = "import sys, locustfiles.chat; print('openai' in sys.modules)"
    environment = os.environ | ({CONFIG_VARIABLE: "/nowhere"} if driven else {})
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert shown.stdout == f"{not driven}\n"


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "common", "core", "manager", "helpers", "misc"}
    assert not {relative(path) for path in sources() if path.stem in drawers}


def test_no_file_is_too_long_to_read() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert not {path: lines for path, lines in lengths.items() if lines > LINES_MAX}


def test_what_is_installed_is_what_is_in_the_tree() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {path.parent for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    in_tree = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert listed == in_tree | {"loadstair.locustfiles"}


@pytest.mark.parametrize(("room", "beside"), [("statistics", "step"), ("step", "statistics")])
def test_the_statistics_and_a_step_know_nothing_of_what_stands_on_them(room: str, beside: str) -> None:
    for path in (PACKAGE / "analysis" / room).rglob("*.py"):
        named = {name.split(".")[2] for name in imports(path) if name.startswith("loadstair.analysis.")}
        assert named <= {room, beside}, f"{relative(path)} imports {named}"
