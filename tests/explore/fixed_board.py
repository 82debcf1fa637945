"""A locustfile for tests: the real web face before a board whose numbers are known."""

import os
from collections.abc import Mapping
from typing import Any

from locust import User, constant, events, task

from loadstair.explore.web.guard import safe_defaults
from loadstair.explore.web.install import install_web
from tests.explore.fixed_values import NOTICE, FixedBoard


class IdleUser(User):
    wait_time = constant(1)

    @task
    def idle(self) -> None:
        pass


def mistakes(options: Mapping[str, Any]) -> list[str]:
    return ["--shots: must be at most 9"] if options["shots"] > 9 else []


@events.init_command_line_parser.add_listener
def add_options(parser: Any, **_: Any) -> None:
    safe_defaults(parser)
    parser.add_argument("--shots", type=int, default=3)
    parser.add_argument("--limit-ms", type=float, default=None)
    parser.add_argument("--tp2", default="x")
    parser.add_argument("--size", choices=["small", "large"], default="small")
    parser.add_argument("--warm", action="store_true", default=True)
    parser.add_argument("--lengths", type=int, action="append", default=[4])
    parser.add_argument("--records", default="", include_in_web_ui=False)


@events.init.add_listener
def install(environment: Any, **_: Any) -> None:
    if environment.web_ui is not None:
        board = FixedBoard(int(os.environ.get("TICKS", "5")))
        install_web(environment, board, mistakes, notice=lambda: NOTICE)  # type: ignore[arg-type]

        @environment.web_ui.app.get("/options")
        def options() -> dict[str, Any]:
            shown = vars(environment.parsed_options)
            return {name: shown[name] for name in ("shots", "limit_ms", "tp2", "size", "warm", "lengths")}


if os.environ.get("OWN_LOGIN"):

    @events.init.add_listener
    def own_login(environment: Any, **_: Any) -> None:
        environment.web_ui.login_manager.user_loader(lambda _: None)
        environment.web_ui.auth_args = {"username_password_callback": "/mine"}
