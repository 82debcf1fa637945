"""Other web pages, and names that point here, reach neither the results nor the buttons."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadstair.explore.web.guard import (
    BODY_BYTES_MAX,
    NAMES_VARIABLE,
    given_names,
    is_loopback,
    own_names,
    reason_to_refuse,
)
from tests.explore.locust_ui import ROOT, LocustUI, free_port, locust_ui

EVIL = "http://evil.example"


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocustUI]:
    with locust_ui(tmp_path_factory.mktemp("guard")) as running:
        yield running


def refused(method: str = "GET", names: frozenset[str] = frozenset(), **headers: str) -> bool:
    sent = {"Host": "127.0.0.1:8089"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return reason_to_refuse(method, sent, names) is not None


def test_a_request_without_a_browser_behind_it_passes() -> None:
    assert not refused("POST")


@pytest.mark.parametrize("host", ["localhost:8089", "127.0.0.1", "[::1]:8089", "127.8.0.1:1"])
def test_loopback_by_any_name_and_through_a_tunnels_port_is_known(host: str) -> None:
    assert not refused(Host=host)


@pytest.mark.parametrize("host", ["10.0.0.1:8089", "[fd00::1]:8089", "0.0.0.0"])
def test_an_address_is_no_name_that_could_be_rebound(host: str) -> None:
    assert not refused("POST", Host=host, Origin=f"http://{host}")


@pytest.mark.parametrize("host", ["evil.example:8089", "localhost.evil.example", "10.0.0.1.evil.example", "[::1", ""])
def test_a_foreign_name_for_this_machine_is_dns_rebinding(host: str) -> None:
    assert refused(Host=host)


def test_a_named_host_is_known_by_host_and_by_origin() -> None:
    names = frozenset({"load.example"})
    assert not refused("POST", names=names, Host="load.example", Origin="https://load.example")
    assert not refused("POST", names=names, Host="localhost", Origin="https://load.example")
    assert refused("POST", names=names, Host="load.example", Origin=EVIL)
    assert refused("POST", names=names, Host="evil.example", Origin=EVIL)


def test_another_port_or_scheme_of_a_named_host_is_another_origin() -> None:
    names = frozenset({"load.example", "proxied.example:8443"})
    for origin in ("http://load.example:9000", "https://load.example:9000", "ftp://load.example", "app://load.example"):
        assert refused("POST", names=names, Host="load.example", Origin=origin), origin
        assert refused("POST", names=names, Host="localhost:8089", Origin=origin), origin
    assert refused("POST", names=names, Host="load.example:8089", Origin="http://load.example")  # port 80
    assert not refused("POST", names=names, Host="load.example:8089", Origin="http://load.example:8089")
    assert not refused("POST", names=names, Host="proxied.example", Origin="https://proxied.example:8443")
    assert not refused("POST", names=names, Host="localhost", Origin="https://proxied.example:8443")
    assert refused("POST", names=names, Host="localhost", Origin="https://proxied.example")


def test_names_are_given_with_commas_between() -> None:
    assert given_names(" Load.example, ,b.example:8443") == {"load.example", "b.example:8443"}
    assert given_names("") == frozenset()


def test_this_machines_own_name_is_known_where_others_may_ask() -> None:
    machine = socket.gethostname().lower()
    assert own_names("127.0.0.1") == frozenset()
    assert {machine, socket.getfqdn().lower()} == own_names("")
    assert own_names("box.example") >= {machine, "box.example"}
    assert not refused("POST", own_names(""), Host=f"{machine}:8089", Origin=f"http://{machine}:8089")


def test_the_origin_must_be_the_host_that_was_asked() -> None:
    box = frozenset({"box.example"})
    assert not refused("POST", Host="10.0.0.1:8089", Origin="http://10.0.0.1:8089")
    assert not refused("POST", box, Host="box.example", Origin="https://box.example:443")
    assert refused("POST", Host="10.0.0.1:8089", Origin="http://10.0.0.1:8090")
    assert refused("POST", Host="10.0.0.1:8089", Origin=EVIL)


@pytest.mark.parametrize("origin", ["null", "", "http://", "file://", "http://[", "http://localhost:8089"])
def test_an_origin_that_is_not_this_very_one_is_refused(origin: str) -> None:
    assert refused(Origin=origin)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_others_may_link_here_but_not_embed_post_or_fetch(site: str) -> None:
    link = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert not refused("GET", **link)
    assert refused("POST", **link)
    assert refused("GET", **link | {"Sec_Fetch_Dest": "iframe"})
    assert refused("GET", **link | {"Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "script"})


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_ones_own_pages_and_typed_addresses_pass(site: str) -> None:
    assert not refused("GET", Sec_Fetch_Site=site, Sec_Fetch_Mode="cors")


@pytest.mark.parametrize("length", [str(BODY_BYTES_MAX + 1), "-1", "many"])
def test_a_body_that_is_too_long_or_says_nonsense_of_itself_is_not_read(length: str) -> None:
    assert refused("POST", Content_Length=length)
    assert not refused("POST", Content_Length=str(BODY_BYTES_MAX))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("", False), ("0.0.0.0", False), ("box", False)],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_both_servers_listen_on_loopback_unless_told(tmp_path: Path) -> None:
    configured, bare = tmp_path / "configured", tmp_path / "bare"
    configured.mkdir()
    bare.mkdir()
    (configured / "locust.conf").write_text("web-host = 10.0.0.3\n")
    code = (
        "import sys; from locust import argument_parser; from loadstair.explore.web.guard import safe_defaults\n"
        "parser = argument_parser.get_empty_argument_parser(); argument_parser.setup_parser_arguments(parser)\n"
        "safe_defaults(parser); options = parser.parse_args(sys.argv[1:])\n"
        "print(options.web_host, options.master_bind_host)"
    )

    def bound(*arguments: str, folder: Path = bare, **variables: str) -> str:
        command = [sys.executable, "-c", code, *arguments]
        env = {"HOME": str(folder), "PYTHONPATH": str(ROOT)} | variables
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout.strip()

    assert bound() == "127.0.0.1 127.0.0.1"
    assert bound("--web-host", "*", "--master-bind-host", "10.0.0.1") == "* 10.0.0.1"
    assert bound(LOCUST_WEB_HOST="10.0.0.2") == "10.0.0.2 127.0.0.1"
    assert bound(folder=configured) == "10.0.0.3 127.0.0.1"


def test_nothing_listens_beyond_loopback_by_itself(tmp_path: Path) -> None:
    with locust_ui(tmp_path, "--master", "--master-bind-port", str(free_port())) as master:
        connections = psutil.Process(master.child.pid).net_connections("inet")
        listening = {entry.laddr.ip for entry in connections if entry.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}


def test_no_answer_may_be_read_by_another_origin(ui: LocustUI) -> None:
    for path in ("/", "/stats/requests", "/loadstair/live.json", "/no-such-page"):
        headers = ui.get(path).headers
        assert not [name for name in headers if name.startswith("access-control-")], path
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_no_button_may_be_pressed_by_another_origin(ui: LocustUI) -> None:
    for path in ("/swarm", "/stop", "/stats/reset", "/user"):
        answer = ui.post(path, {"user_count": 1, "spawn_rate": 1}, Origin=EVIL)
        assert answer.status == 403, path
    assert ui.get("/stats/requests", Origin=EVIL).status == 403
    assert ui.get("/stats/requests", Host="evil.example").status == 403
    assert ui.get("/stats/requests").json()["state"] == "ready"


def test_a_body_of_unknown_length_is_not_read(ui: LocustUI) -> None:
    headers = {"Transfer-Encoding": "chunked", "Content-Type": "application/x-www-form-urlencoded"}
    assert ui.request("POST", "/swarm", headers=headers, body=b"1\r\nx\r\n0\r\n\r\n").status == 411


def test_errors_show_no_source(ui: LocustUI) -> None:
    answer = ui.get("/loadstair/live.json?after=nan")
    assert answer.status == 400
    assert "Traceback" not in answer.text()


def test_listening_to_the_network_without_a_login_is_told_once(tmp_path: Path, ui: LocustUI) -> None:
    with locust_ui(tmp_path, "--web-host", "0.0.0.0", "--master", "--master-bind-port", str(free_port())) as open_ui:
        warnings = [line for line in open_ui.log().splitlines() if "WARNING" in line]
        assert len(warnings) == 1
        assert "without --web-login" in warnings[0]
        assert "--master-bind-host ADDRESS" in open_ui.log()  # workers elsewhere would not reach it
    assert "WARNING" not in "".join(line for line in ui.log().splitlines() if "web-login" in line)


def test_listening_to_every_address_a_foreign_name_is_still_refused(tmp_path: Path) -> None:
    with locust_ui(tmp_path, "--web-host", "0.0.0.0", **{NAMES_VARIABLE: "load.example.org"}) as ui:
        evil = {"Host": "evil.example:18089", "Origin": "http://evil.example:18089", "Sec-Fetch-Site": "same-origin"}
        assert ui.post("/swarm", {"user_count": 1, "spawn_rate": 1}, **evil).status == 403
        assert ui.get("/loadstair/live.json", Host="evil.example:18089").status == 403
        for host in ("load.example.org", "127.0.0.1:8089", "10.0.0.1", "localhost", socket.gethostname()):
            assert ui.get("/loadstair/live.json", Host=host).status == 200, host


def test_the_log_says_where_the_charts_are(ui: LocustUI) -> None:
    assert f"LLM live charts: {ui.url}/loadstair/" in ui.log()
