"""Puts the load into a Locust process that an orchestrator started. Needs `locust` imported first."""

import functools
import os
from pathlib import Path
from typing import Final

import gevent
from locust import argument_parser, runners
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadstair.errors import LoadError
from loadstair.load.config import CONFIG_VARIABLE, TOKEN_VARIABLE, LoadConfig, read_config
from loadstair.load.user import ChatUser

MASTER_SILENT_S_MAX: Final = 6


def driven() -> bool:
    """Whether an orchestrator started this process."""
    return CONFIG_VARIABLE in os.environ


def install(environment: Environment) -> None:
    """For a driven process. Raises LoadError."""
    path = os.environ.get(CONFIG_VARIABLE)
    token = os.environ.get(TOKEN_VARIABLE)
    if not path or not token:
        raise LoadError(f"{CONFIG_VARIABLE if not path else TOKEN_VARIABLE} is not set")
    spare_the_parser()
    # Without a master nobody watches the load: 60 s of it, Locust's default, is too much.
    runners.MASTER_HEARTBEAT_TIMEOUT = MASTER_SILENT_S_MAX
    config = read_config(Path(path))
    match environment.runner:
        case MasterRunner() as runner:
            _install_controller(config, environment, runner, token)
        case WorkerRunner() as runner:
            _install_worker(config, environment, runner, token)
        case _:
            raise LoadError(f"{CONFIG_VARIABLE} is set, but this is neither a Locust master nor a worker")


def spare_the_parser() -> None:
    """Locust rebuilds its whole argument parser for each option of every spawn message: 50 ms of a worker's loop."""
    argument_parser.default_args_dict = functools.cache(argument_parser.default_args_dict)


def _install_controller(config: LoadConfig, environment: Environment, runner: MasterRunner, token: str) -> None:
    if environment.web_ui is None or environment.web_ui.app is None:
        raise LoadError("the controller needs Locust's web server: start the master without --headless")
    from loadstair.load.controller import Controller

    controller = Controller(config, runner, token=token)
    environment.web_ui.app.before_request(controller.refuse_others)
    environment.web_ui.app.register_blueprint(controller.blueprint())
    gevent.spawn(controller.keep_lease)


def _install_worker(config: LoadConfig, environment: Environment, runner: WorkerRunner, token: str) -> None:
    from loadstair.load.commanded import CommandedLoad  # not in a master: the openai package takes a second to import

    commanded = CommandedLoad(config, environment, runner, nonce=token.encode()[:64])
    ChatUser.load = commanded.load
    commanded.listen()
