"""`--web-login`, ready to use: one password, from the environment. A locustfile with a login of its own keeps it."""

import hmac
import ipaddress
import logging
import os
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import gevent
from flask import Blueprint, redirect, request, session, url_for
from flask_login import UserMixin, login_user
from werkzeug.wrappers import Response

from loadstair.clock import monotonic_ns
from loadstair.explore.processes import end_workers
from loadstair.units import NS_PER_S

if TYPE_CHECKING:
    from locust.web import WebUI

logger = logging.getLogger(__name__)

PASSWORD_VARIABLE: Final = "LOADSTAIR_WEB_PASSWORD"  # noqa: S105  the name of a variable
WAIT_NS: Final = NS_PER_S
"""After a wrong password, how long no other from the same place is looked at, however many connections guess."""
PLACES_MAX: Final = 1024
"""Guessers that are remembered: so many wrong guesses a second at most, from everywhere together."""


class Operator(UserMixin):  # type: ignore[misc]  # of a package without types
    """The one user there is."""

    id = "loadstair"


class Door:
    """Knows the password; a wrong guess closes it for a while to where that came from, and to nobody else."""

    def __init__(self, password: str, clock_ns: Callable[[], int] = monotonic_ns) -> None:
        self._password = password.encode()
        self._clock_ns = clock_ns
        self._closed_until_ns: dict[str, int] = {}
        """By place, in the order of the wrong guesses."""

    def error(self, guess: str, address: str) -> str | None:
        """None if the guess is right and was looked at. `address`: the client's."""
        place, now_ns = _place(address), self._clock_ns()
        while self._closed_until_ns and next(iter(self._closed_until_ns.values())) <= now_ns:
            del self._closed_until_ns[next(iter(self._closed_until_ns))]
        if place in self._closed_until_ns or len(self._closed_until_ns) >= PLACES_MAX:
            return "A wrong password was given just now: try again in a second"
        if hmac.compare_digest(guess.encode("utf-8", "replace"), self._password):
            return None
        self._closed_until_ns[place] = now_ns + WAIT_NS
        return "Wrong password"


def _place(address: str) -> str:
    """Of IPv6 the /64: one machine has all of its addresses."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.ipv4_mapped is not None:
        return address
    return str(ipaddress.IPv6Address(int(parsed) >> 64 << 64))


def install_login(web_ui: "WebUI", base_path: str) -> None:
    """Secret and cookie now; the rest when the locustfile's own `init` listeners have run, which may bring a login."""
    app = web_ui.app
    assert app is not None
    app.config.update(
        SESSION_COOKIE_NAME="loadstair_session",
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SECURE=bool(web_ui.tls_cert),
    )
    app.secret_key = app.secret_key or secrets.token_bytes(32)
    gevent.spawn(_install_unless_there, web_ui, base_path, os.environ.get(PASSWORD_VARIABLE))


def _install_unless_there(web_ui: "WebUI", base_path: str, password: str | None) -> None:
    if web_ui.auth_args or web_ui.login_manager._user_callback is not None:
        return
    if not password:
        logger.error("--web-login: set %s to the password that is to be asked for", PASSWORD_VARIABLE)
        end_workers()
        raise SystemExit(2)  # gevent hands it to the main greenlet
    web_ui.login_manager.user_loader(lambda user_id: Operator() if user_id == Operator.id else None)
    web_ui.auth_args = {
        "custom_form": {
            "inputs": [{"label": "Password", "name": "password", "is_secret": True, "is_required": True}],
            "callback_url": f"{base_path}/loadstair/login",
            "submit_button_text": "Log in",
        }
    }
    assert web_ui.app is not None
    web_ui.app.register_blueprint(_blueprint(Door(password), base_path))


def _blueprint(door: Door, base_path: str) -> Blueprint:
    blueprint = Blueprint("loadstair_login", __name__, url_prefix=f"{base_path}/loadstair")

    @blueprint.post("/login")
    def login() -> Response:
        error = door.error(request.form.get("password", ""), request.remote_addr or "")
        if error is not None:
            session["auth_error"] = error  # Locust's login page shows it
            return redirect(url_for("locust.login"), 303)
        session.clear()
        login_user(Operator())
        return redirect(url_for("locust.index"), 303)

    return blueprint
