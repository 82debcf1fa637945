"""Puts the face before Locust's web server: called once, when everything else of the locustfile is in place."""

import logging
import os
import socket
from collections.abc import Callable

from locust.env import Environment
from locust.runners import MasterRunner

from loadstair.explore.board import Board
from loadstair.explore.web.form import FormGuard, Mistakes, answer_refused_starts
from loadstair.explore.web.guard import NAMES_VARIABLE, Guard, given_names, is_loopback, own_names, warn_of_open_doors
from loadstair.explore.web.login import install_login
from loadstair.explore.web.pages import pages
from loadstair.explore.web.rows import latency_rows, rate_rows
from loadstair.explore.web.tab import Rows, add_tabs, answer_rows

logger = logging.getLogger(__name__)


def install_web(
    environment: Environment, board: Board, mistakes: Mistakes, *, notice: Callable[[], str | None]
) -> None:
    """Must be called before the first request, from an `init` listener.

    `mistakes`: what is wrong with options as the form gives them (by name, typed as on the command line), a line each.
    `notice`: what the user should know of the test that runs or ran last, in a line.
    """
    web_ui, options = environment.web_ui, environment.parsed_options
    if web_ui is None or web_ui.app is None or options is None:
        raise ValueError("this Locust has no web UI")
    app = web_ui.app
    base_path = str(options.web_base_path or "").rstrip("/")
    names = given_names(os.environ.get(NAMES_VARIABLE, "")) | own_names(web_ui.host)

    app.debug = False  # Locust sets it: answers of errors would show the source
    app.wsgi_app = Guard(app.wsgi_app, names)  # type: ignore[method-assign]
    form = FormGuard(environment, web_ui, board, mistakes)
    app.before_request(form.check)
    answer_refused_starts(app, web_ui, board, notice)
    app.after_request(form.keep_in_force)  # runs before the waiting there: Flask takes them from the last to the first
    if web_ui.web_login:
        install_login(web_ui, base_path)

    def rows() -> tuple[Rows, Rows]:
        recent, total, ticks = board.recent(), board.total(), board.ticks(0.0)
        in_flight = ticks[-1].in_flight if ticks and board.test_running else None
        return latency_rows(recent, total), rate_rows(recent, total, in_flight)

    add_tabs(web_ui)
    answer_rows(app, rows)
    app.register_blueprint(pages(environment, web_ui, board, base_path, notice))

    warn_of_open_doors(host=web_ui.host, port=web_ui.port, login=web_ui.web_login)
    _say_where(environment, base_path)


def _say_where(environment: Environment, base_path: str) -> None:
    web_ui, options = environment.web_ui, environment.parsed_options
    assert web_ui is not None
    assert options is not None
    scheme = "https" if web_ui.tls_cert and web_ui.tls_key else "http"
    host = web_ui.host or socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    logger.info("LLM live charts: %s://%s:%d%s/loadstair/", scheme, shown, web_ui.port, base_path)
    if isinstance(environment.runner, MasterRunner) and is_loopback(options.master_bind_host) and not options.processes:
        logger.info("workers are expected on this machine; for others: --master-bind-host ADDRESS")
