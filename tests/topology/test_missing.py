from pathlib import Path

from loadstair.topology.missing import missing_here
from tests.topology.plans import plan_of, process, processes


def test_a_plan_that_has_everything_misses_nothing(tmp_path: Path) -> None:
    assert missing_here(plan_of(processes("good", "good")), tmp_path) == []


def test_each_missing_thing_has_its_line(tmp_path: Path) -> None:
    plan = plan_of(
        processes("good", "good", name="a"),
        processes(name="b", processes=[process(command="no-such-engine --port {port}")]),
        processes("good", name="c", api_key_env="LOADSTAIR_TEST_NO_SUCH_KEY"),
        {"name": "d", "kind": "external", "url": "https://host", "tls": {"ca": "ca.pem"}},
    )
    nginx, program, key, ca = missing_here(plan, tmp_path, environ={}, nginx_search=str(tmp_path))
    assert nginx.startswith("topology a: nginx not found: install it")
    assert program == "topology b: processes[0].command: no program 'no-such-engine' on PATH"
    assert key.startswith("topology c: api_key_env: the environment variable LOADSTAIR_TEST_NO_SUCH_KEY is not set")
    assert ca == f"topology d: tls.ca: ca.pem is not a file in {tmp_path}"


def test_a_command_line_with_an_open_quote_is_told(tmp_path: Path) -> None:
    plan = plan_of(processes(processes=[process(command="serve 'half")]))
    (line,) = missing_here(plan, tmp_path)
    assert line.startswith("topology arm: processes[0].command: No closing quotation")
