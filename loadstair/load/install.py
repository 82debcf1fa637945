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
from loadstair.load.config import LoadConfig, read_config
from loadstair.load.user import ChatUser
from loadstair.locust_process import CONFIG_VARIABLE, REMOTE_VARIABLE, TOKEN_VARIABLE

MASTER_SILENT_S_MAX: Final = 6


def driven() -> bool:
    """Whether an orchestrator started this process, or `loadstair worker` did for one on another host."""
    return CONFIG_VARIABLE in os.environ or REMOTE_VARIABLE in os.environ


def install(environment: Environment) -> None:
    """For a driven process. Raises LoadError."""
    if REMOTE_VARIABLE in os.environ and isinstance(environment.runner, WorkerRunner):
        _install_remote(environment, environment.runner)
        return
    path = os.environ.get(CONFIG_VARIABLE)
    token = os.environ.get(TOKEN_VARIABLE)
    if not path or not token:
        raise LoadError(f"{CONFIG_VARIABLE if not path else TOKEN_VARIABLE} is not set")
    prepare_locust()
    config = read_config(Path(path))
    match environment.runner:
        case MasterRunner() as runner:
            _install_controller(config, environment, runner, token)
        case WorkerRunner() as runner:
            _install_worker(config, environment, runner)
        case _:
            raise LoadError(f"{CONFIG_VARIABLE} is set, but this is neither a Locust master nor a worker")


def prepare_locust() -> None:
    spare_the_parser()
    # Without a master nobody watches the load: 60 s of it, Locust's default, is too much.
    runners.MASTER_HEARTBEAT_TIMEOUT = MASTER_SILENT_S_MAX


def spare_the_parser() -> None:
    """Locust rebuilds its whole argument parser for each option of every spawn message: 50 ms of a worker's loop."""
    argument_parser.default_args_dict = functools.cache(argument_parser.default_args_dict)


def _install_controller(config: LoadConfig, environment: Environment, runner: MasterRunner, token: str) -> None:
    if environment.web_ui is None or environment.web_ui.app is None:
        raise LoadError("the controller needs Locust's web server: start the master without --headless")
    from loadstair.load.controller import Controller

    controller = Controller(config, runner, token=token)
    if config.remote:
        controller.open_door(environment.parsed_locustfiles or [])
    environment.web_ui.app.before_request(controller.refuse_others)
    environment.web_ui.app.register_blueprint(controller.blueprint())
    gevent.spawn(controller.keep_lease)


def _install_remote(environment: Environment, runner: WorkerRunner) -> None:
    from loadstair.load.remote import introduce, tell_in, unfit

    prepare_locust()
    config = introduce(environment, runner)
    try:
        _install_worker(config, environment, runner)
    except LoadError as error:
        unfit(runner, error)
        raise
    tell_in(config)


def _install_worker(config: LoadConfig, environment: Environment, runner: WorkerRunner) -> None:
    from loadstair.load.commanded import CommandedLoad  # not in a master: the openai package takes a second to import

    commanded = CommandedLoad(config, environment, runner, nonce=config.nonce.encode())
    ChatUser.load = commanded.load
    commanded.listen()
