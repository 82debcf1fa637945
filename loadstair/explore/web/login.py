"""`--web-login`, ready to use: one password, from the environment. A locustfile with a login of its own keeps it."""

import hmac
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
"""After a wrong password, how long no other is looked at: one guess a second, however many connections guess."""


class Operator(UserMixin):  # type: ignore[misc]  # of a package without types
    """The one user there is."""

    id = "loadstair"


class Door:
    """Knows the password; opens for one guess at a time."""

    def __init__(self, password: str, clock_ns: Callable[[], int] = monotonic_ns) -> None:
        self._password = password.encode()
        self._clock_ns = clock_ns
        self._closed_until_ns: int | None = None

    def error(self, guess: str) -> str | None:
        """None if the guess is right and was looked at."""
        now_ns = self._clock_ns()
        if self._closed_until_ns is not None and now_ns < self._closed_until_ns:
            return "A wrong password was given just now: try again in a second"
        if hmac.compare_digest(guess.encode("utf-8", "replace"), self._password):
            return None
        self._closed_until_ns = now_ns + WAIT_NS
        return "Wrong password"


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
        error = door.error(request.form.get("password", ""))
        if error is not None:
            session["auth_error"] = error  # Locust's login page shows it
            return redirect(url_for("locust.login"), 303)
        session.clear()
        login_user(Operator())
        return redirect(url_for("locust.index"), 303)

    return blueprint
