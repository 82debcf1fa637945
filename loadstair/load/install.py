"""Puts the load into a Locust process: what a locustfile calls. Needs `locust` imported first."""

import functools
import os
from argparse import Namespace
from pathlib import Path
from typing import Any, Final

import gevent
from locust import argument_parser, runners
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadstair.errors import LoadError
from loadstair.load.attempt import Tag
from loadstair.load.config import CONFIG_VARIABLE, TOKEN_VARIABLE, LoadConfig, read_config
from loadstair.load.controller import Controller
from loadstair.load.gate import Gate
from loadstair.load.user import ChatUser
from loadstair.load.worker import WorkerLoad
from loadstair.plan.model import Workload
from loadstair.samples.record import Phase

MASTER_SILENT_S_MAX: Final = 6
KEY_VARIABLE: Final = "OPENAI_API_KEY"
"""Where a locustfile used by itself looks for a key, as every program on the openai SDK does."""


def add_arguments(parser: LocustArgumentParser) -> None:
    """The options of a locustfile used by itself. Not in a group: grouped arguments never reach the web UI."""
    parser.add_argument("--model", default="", help="Name of the model to ask for")
    parser.add_argument("--input-tokens", type=int, default=128, help="Length of each prompt, in tokens")
    parser.add_argument("--output-tokens", type=int, default=64, help="Length of each answer, in tokens")


def install(environment: Environment) -> None:
    """Under an orchestrator (LOADSTAIR_LOAD_CONFIG is set) obeys it; otherwise an ordinary locustfile."""
    path = os.environ.get(CONFIG_VARIABLE)
    # Locust rebuilds its whole argument parser for each option of every spawn message: 50 ms of a worker's loop.
    argument_parser.default_args_dict = functools.cache(argument_parser.default_args_dict)
    if path is None:
        environment.events.test_start.add_listener(_start_standalone)  # type: ignore[no-untyped-call]
        return
    # Without a master nobody watches the load: 60 s of it, Locust's default, is too much.
    runners.MASTER_HEARTBEAT_TIMEOUT = MASTER_SILENT_S_MAX
    config = read_config(Path(path))
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise LoadError(f"{TOKEN_VARIABLE} is not set")
    match environment.runner:
        case MasterRunner() as runner:
            _install_controller(config, environment, runner, token)
        case WorkerRunner() as runner:
            _install_worker(config, environment, runner, token)
        case _:
            raise LoadError(f"{CONFIG_VARIABLE} is set, but this is neither a Locust master nor a worker")


def _install_controller(config: LoadConfig, environment: Environment, runner: MasterRunner, token: str) -> None:
    if environment.web_ui is None or environment.web_ui.app is None:
        raise LoadError("the controller needs Locust's web server: start the master without --headless")
    controller = Controller(config, runner, token=token)
    environment.web_ui.app.before_request(controller.refuse_others)
    environment.web_ui.app.register_blueprint(controller.blueprint())
    gevent.spawn(controller.keep_lease)


def _install_worker(config: LoadConfig, environment: Environment, runner: WorkerRunner, token: str) -> None:
    gate = Gate(seed=config.seed, tag=Tag(step=0, load=0.0, phase=Phase.WARMUP))
    ChatUser.load = WorkerLoad(config, environment, runner, nonce=token.encode()[:64], gate=gate, reports=True)
    ChatUser.load.listen()


def _start_standalone(environment: Environment, **_: Any) -> None:
    """With each test, because the web UI may have changed host and options."""
    runner, options = environment.runner, environment.parsed_options
    if runner is None or options is None or isinstance(runner, MasterRunner):
        return
    if ChatUser.load is not None:
        ChatUser.load.close()
    gate = Gate(seed=0, tag=Tag(step=0, load=0.0, phase=Phase.WARMUP), active=None)
    ChatUser.load = WorkerLoad(
        _standalone_config(environment.host, options),
        environment,
        runner,
        nonce=os.urandom(32),
        gate=gate,
        reports=False,
    )


def _standalone_config(host: str | None, options: Namespace) -> LoadConfig:
    root = (host or "").rstrip("/")
    workload = Workload.model_validate(
        {
            "model": options.model or "default",
            "input_tokens": options.input_tokens,
            "output_tokens": options.output_tokens,
        }
    )
    base_url = root if root.endswith("/v1") else f"{root}/v1"
    return LoadConfig(
        base_url=base_url,
        workload=workload,
        headers={},
        api_key_env=KEY_VARIABLE if os.environ.get(KEY_VARIABLE) else None,
        words_per_token=0.75,
    )
