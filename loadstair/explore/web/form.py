"""What the form of Locust's UI may change. Stock Locust lets a post to /swarm overwrite any option, and so write files.

A refusal is answered as the UI shows one: status 200, `success` false and a message; nothing has changed then.
"""

import logging
import math
import re
from argparse import Action, ArgumentTypeError
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import gevent
from flask import Flask, Response, g, jsonify, request
from flask_login import current_user
from locust import argument_parser
from locust.env import Environment
from locust.runners import STATE_RUNNING, STATE_SPAWNING, MasterRunner
from locust.util.timespan import parse_timespan
from locust.web import WebUI
from werkzeug.datastructures import MultiDict

from loadstair.clock import Deadline
from loadstair.explore.board import Board
from loadstair.explore.host import host_mistake
from loadstair.plain import one_line

logger = logging.getLogger(__name__)

Mistakes: TypeAlias = Callable[[Mapping[str, Any]], list[str]]

_LOADS: Final = frozenset({"user_count", "spawn_rate", "run_time", "host", "profile"})
_PICKER: Final = frozenset({"user_classes", "shape_class"})
_USER_SETTINGS: Final = frozenset({"user_class_name", "host", "weight", "fixed_count", "tasks"})
"""What the UI's dialog for a user class edits; Locust would set any attribute of the class."""

USERS_MAX: Final = 100_000
"""A slip of the finger, beyond: every user is a greenlet with a prompt of its own."""
START_S_MAX: Final = 20.0
START_LOOK_S: Final = 0.02


class FormGuard:
    """Looks at each form before Locust does."""

    def __init__(self, environment: Environment, web_ui: WebUI, board: Board, mistakes: Mistakes) -> None:
        self._environment = environment
        self._web_ui = web_ui
        self._board = board
        self._mistakes = mistakes
        self._options = {_spelling(name): action for name, action in _visible_options().items()}
        self._prefilled = {name: shown["default_value"] for name, shown in argument_parser.ui_extra_args_dict().items()}

    def check(self) -> Response | None:
        """For Flask's `before_request`: a refusal, or None to go on."""
        if request.method != "POST":
            return None
        if self._web_ui.web_login and not current_user.is_authenticated:
            return None  # nothing may change; the view itself leads to the login
        match request.endpoint:
            case "locust.swarm":
                found = self._swarm(request.form)
            case "locust.update_user":
                found = self._user_settings()
            case _:
                return None
        if not found:
            return None
        message = "; ".join(found)
        logger.warning("refused: %s", one_line(message))
        return jsonify(success=False, message=message, host=self._environment.host)

    def _swarm(self, form: MultiDict[str, str]) -> list[str]:
        allowed = _LOADS | self._options.keys() | (_PICKER if self._web_ui.userclass_picker_is_active else frozenset())
        strangers = sorted(set(form) - allowed)
        if strangers:
            return [f"{one_line(name, 60)}: no option of the form" for name in strangers[:5]]
        repeated = [f"{name}: stands more than once in the form" for name in sorted(form) if self._repeated(form, name)]
        if repeated:  # Locust takes the first of them
            return repeated
        shaped = self._environment.shape_class is not None or form.get("shape_class", "Default") != "Default"
        found = _load_mistakes(form, shaped=shaped) + self._picker_mistakes(form)
        given: dict[str, Any] = {}
        for spelling in sorted(self._options.keys() & set(form)):
            action = self._options[spelling]
            try:
                given[action.dest] = _value(action, form.getlist(spelling))
            except (ValueError, TypeError, ArgumentTypeError) as error:
                found.append(f"{_flag(action)}: {one_line(str(error))}")
        if found:
            return found
        options = vars(self._environment.parsed_options)
        host = form.get("host", self._environment.host)
        runner = self._environment.runner
        if runner is not None and runner.state in (STATE_SPAWNING, STATE_RUNNING):
            g.in_force = {dest: options[dest] for dest in given}
            return self._too_late(given, host)
        found = self._mistakes({**options, **given, "host": host})
        if not found:
            options.update(given)  # Locust only keeps the type of what stands there, so what stands there must be right
            self._board.refusal = None  # that of an earlier form
        return found

    def keep_in_force(self, response: Response) -> Response:
        """For Flask's `after_request`: Locust has written a running test's form over the options, and would send them
        to a worker that joins."""
        if "in_force" in g:
            vars(self._environment.parsed_options).update(g.in_force)
        return response

    def _too_late(self, given: Mapping[str, Any], host: str | None) -> list[str]:
        """Locust takes another host or option while a test runs, shows it, and goes on with the old one. Its Edit
        dialog sends all options, filled in with those of the command line: these don't count as changed."""
        names = [
            _flag(self._option(dest))
            for dest, value in given.items()
            if value not in (g.in_force[dest], self._prefilled.get(dest))
        ]
        if (host or "").rstrip("/") != (self._environment.host or "").rstrip("/"):
            names.insert(0, "host")
        return [f"{name}: cannot change while a test runs: stop it first" for name in names]

    def _option(self, dest: str) -> Action:
        return next(action for action in self._options.values() if action.dest == dest)

    def _repeated(self, form: MultiDict[str, str], name: str) -> bool:
        """More often than it may be: only lists are sent as one field for each value."""
        a_list = name == "user_classes" or (name in self._options and isinstance(self._options[name].default, list))
        return not a_list and len(form.getlist(name)) > 1

    def _picker_mistakes(self, form: MultiDict[str, str]) -> list[str]:
        known = {"Default", *(self._environment.available_shape_classes or {})}
        shape = form.get("shape_class", "Default")
        found = [] if shape in known else [f"shape class: {one_line(shape, 60)!r} is none of this locustfile's"]
        classes = set(form.getlist("user_classes")) - set(self._environment.available_user_classes or {})
        return found + [f"user class: {one_line(name, 60)!r} is none of this locustfile's" for name in sorted(classes)]

    def _user_settings(self) -> list[str]:
        settings = request.get_json(force=True, silent=True)
        if not self._web_ui.userclass_picker_is_active or not isinstance(settings, dict):
            return ["user classes can be edited only with --class-picker"]
        strangers = sorted(settings.keys() - _USER_SETTINGS)
        return [f"{one_line(name, 60)}: no setting of a user class" for name in strangers[:5]]


def answer_refused_starts(app: Flask, web_ui: WebUI, board: Board, notice: Callable[[], str | None]) -> None:
    """Locust answers that a test started before it has. Waits until it has, or tells the form why it does not.

    `notice`: what may be the reason behind the reason.
    """

    @app.after_request
    def with_refusal(response: Response) -> Response:
        if request.endpoint != "locust.swarm" or not response.is_json or not response.get_json().get("success"):
            return response
        deadline = Deadline.after_s(START_S_MAX)
        while not (board.test_running or board.refusal or _start_is_over(web_ui) or deadline.passed()):
            gevent.sleep(START_LOOK_S)
        why = board.refusal or _no_worker(web_ui.environment)
        if board.test_running or why is None:
            return response
        message = "; ".join(filter(None, (why, notice())))
        return jsonify(success=False, message=message, host=web_ui.environment.host)


def _start_is_over(web_ui: WebUI) -> bool:
    """Whatever came of it. A runner without workers goes on in a greenlet of its own."""
    starting = (web_ui._swarm_greenlet, getattr(web_ui.environment.runner, "spawning_greenlet", None))
    return all(greenlet is None or greenlet.ready() for greenlet in starting)


def _no_worker(environment: Environment) -> str | None:
    """Locust says so in its log alone."""
    runner = environment.runner
    if isinstance(runner, MasterRunner) and not runner.worker_count:
        return "no worker is connected: start one with --worker, on another machine with --master-host"
    return None


def _load_mistakes(form: MultiDict[str, str], *, shaped: bool) -> list[str]:
    found = []
    users, spawn_rate = form.get("user_count", ""), _number(form.get("spawn_rate", ""))
    if not shaped and not (re.fullmatch(r"[0-9]{1,9}", users) and 0 < int(users) <= USERS_MAX):
        found.append(f"number of users: must be a whole number from 1 to {USERS_MAX}")
    if not shaped and (spawn_rate is None or spawn_rate <= 0):
        found.append("ramp up: must be more than 0 users a second")
    if form.get("run_time"):
        try:
            parse_timespan(form["run_time"])
        except ValueError:
            found.append("run time: must be a time such as 90, 90s, 3m or 1h20m")
    host = form.get("host", "")
    mistake = host_mistake(host) if host else None
    if mistake is not None:
        found.append(f"host: {mistake}")
    return found


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _visible_options() -> dict[str, Action]:
    """What the locustfile shows in the form, by name."""
    shown = argument_parser.get_parser().args_included_in_web_ui
    return {name: action for name, action in shown.items() if name in argument_parser.ui_extra_args_dict()}


def _spelling(option: str) -> str:
    """As the UI sends it, after its way to camel case and back: `slo_e2e_s` comes as it is, `tp2` as `tp_2`."""
    camel = re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), option)
    return camel if camel[:1].isupper() else re.sub(r"([a-z0-9])([A-Z0-9])", r"\1_\2", camel).lower()


def _value(action: Action, texts: list[str]) -> Any:
    """As argparse would make of it."""
    if action.nargs == 0:
        if texts[0] not in ("true", "false"):
            raise ValueError(f"{texts[0]!r} is neither true nor false")
        return texts[0] == "true"
    if isinstance(action.default, list):
        return [_one(action, text) for text in (texts if len(texts) > 1 else texts[0].split(","))]
    return _one(action, texts[0])


def _one(action: Action, text: str) -> Any:
    if not text and action.default is None:
        return None
    convert = action.type if callable(action.type) else str
    try:
        value = convert(text)
    except (ValueError, TypeError) as error:
        kind = {int: "a whole number", float: "a number"}.get(action.type) if isinstance(action.type, type) else None
        raise ValueError(f"{text!r} is not {kind}" if kind else str(error)) from None
    if action.choices is not None and value not in action.choices:
        raise ValueError(f"{text!r} is none of {', '.join(map(str, action.choices))}")
    return value


def _flag(action: Action) -> str:
    return next((flag for flag in action.option_strings if flag.startswith("--")), action.dest)
