"""Closes what Locust's web server leaves open to other web pages.

Locust answers every origin (CORS `*`) and obeys a form post from anywhere, so any page that the user has open could
read the results and start load. Here an answer goes to its own origin only, whatever the address bound: what listens
on every address of a container is often published on a browser's own machine.
"""

import ipaddress
import logging
import socket
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
BODY_BYTES_MAX: Final = 64 * 1024
NAMES_VARIABLE: Final = "LOADSTAIR_WEB_HOSTS"
"""Names by which the UI is reached, with commas between: `name`, or `name:port` where a reverse proxy serves it at a
port that is not the usual one."""

SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
    # "no-referrer" would make browsers send `Origin: null` with the login form.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_USUAL_PORT: Final = {"http": 80, "https": 443}

_BOUND_BY_DEFAULT: Final = {
    "web_host": "Host to bind the web interface to. Defaults to 127.0.0.1; '*' is all interfaces",
    "master_bind_host": "IP address for the master to listen on. Defaults to 127.0.0.1; '*' is all interfaces",
}


def safe_defaults(parser: ArgumentParser) -> None:
    """Locust's web server and its unauthenticated worker port listen on loopback, unless the user says otherwise (on
    the command line, in the environment or in a configuration file)."""
    for action in parser._actions:
        if action.dest in _BOUND_BY_DEFAULT:
            action.default = LOOPBACK
            action.help = _BOUND_BY_DEFAULT[action.dest]


def is_loopback(host: str) -> bool:
    """Of a name or address as given to `--web-host` or in a Host header; empty is every interface."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def warn_of_open_doors(*, host: str, port: int, login: bool) -> None:
    if not is_loopback(host) and not login:
        logger.warning(
            "the web UI listens on %s:%d without --web-login: whoever reaches this port can start load and read all "
            "results",
            host or "all interfaces",
            port,
        )


def given_names(text: str) -> frozenset[str]:
    """Of the value of `LOADSTAIR_WEB_HOSTS`."""
    return frozenset(name.strip().lower() for name in text.split(",") if name.strip())


def own_names(bound: str) -> frozenset[str]:
    """Of this machine, where others may ask. `bound`: the name or address listened on."""
    if is_loopback(bound):
        return frozenset()
    return frozenset(name.lower() for name in (bound, socket.gethostname(), socket.getfqdn()) if name)


def reason_to_refuse(method: str, headers: Mapping[str, str], names: frozenset[str]) -> tuple[int, str] | None:
    """Status and message, or None. `names`: `name` or `name:port` that are ours, besides localhost."""
    host = headers.get("Host")
    if host is not None and not _is_ours(_host_and_port(f"//{host}")[0], names):
        return 403, f"unknown Host: use localhost or an IP address, or name it in {NAMES_VARIABLE}"
    origin = headers.get("Origin")
    if origin is not None and not _same(origin, host, names):
        return 403, "requests of other origins are refused"
    if origin is None and headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
        followed = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
        if method not in ("GET", "HEAD") or not followed:  # a link that a person followed reads nothing out
            return 403, "requests of other origins are refused"
    if "Transfer-Encoding" in headers:
        return 411, "a body must tell its length"
    length = headers.get("Content-Length") or "0"
    if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
        return 413, f"the body is longer than {BODY_BYTES_MAX} bytes"
    return None


class Guard:
    """Around the whole WSGI application: flask-cors adds its headers after every hook that Flask offers."""

    def __init__(self, app: "WSGIApplication", names: frozenset[str]) -> None:
        self._app = app
        self._names = names

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        refused = reason_to_refuse(environ["REQUEST_METHOD"], _headers(environ), self._names)
        if refused is not None:
            status, message = refused
            body = f"{message}\n".encode()
            head = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
            start_response(f"{status} Refused", [*head, *SECURITY_HEADERS.items()])
            return [body]

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            return start_response(status, _secured(headers), exc_info)

        return self._app(environ, start)


def _secured(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    kept = [(name, value) for name, value in headers if not name.lower().startswith("access-control-")]
    given = {name.lower() for name, _ in kept}
    return kept + [(name, value) for name, value in SECURITY_HEADERS.items() if name.lower() not in given]


def _headers(environ: "WSGIEnvironment") -> dict[str, str]:
    names = ("Host", "Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Transfer-Encoding")
    found = {name: environ.get("HTTP_" + name.upper().replace("-", "_")) for name in names}
    found["Content-Length"] = environ.get("CONTENT_LENGTH")
    return {name: value for name, value in found.items() if value is not None}


def _is_ours(name: str, names: frozenset[str]) -> bool:
    """An address cannot be rebound: only names are asked of a DNS."""
    if name == "localhost" or name in {ours.partition(":")[0] for ours in names}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(origin: str, host: str | None, names: frozenset[str]) -> bool:
    """`null`, the origin of files and sandboxes, is nobody's."""
    scheme = origin.partition("://")[0]
    name, port = _host_and_port(origin)
    if scheme not in _USUAL_PORT or not name:
        return False
    asked = ("", None) if host is None else _host_and_port(f"{scheme}://{host}")
    if (name, port) == asked or f"{name}:{port}" in names:
        return True
    # A reverse proxy may put a Host of its own; then a name without a port means the usual one.
    return name in names and name != asked[0] and port == _USUAL_PORT[scheme]


def _host_and_port(url: str) -> tuple[str, int | None]:
    """Empty and None for what is no URL; the scheme's own port where none stands."""
    try:
        split = urlsplit(url)
        return split.hostname or "", split.port or _USUAL_PORT.get(split.scheme)
    except ValueError:
        return "", None
