"""A worker on another host than the master: says who it is, is let in or not, and gets its configuration.

It is asked for no secret and is sent none: the API key is read from this host's environment.
"""

import os
import socket
import sys
from typing import Any, Final

import gevent
from gevent.event import AsyncResult
from locust.env import Environment
from locust.runners import WorkerRunner

from loadstair.clock import Deadline
from loadstair.errors import LoadError, NoMaster, NotNeeded
from loadstair.load.config import LoadConfig
from loadstair.load.identity import identity
from loadstair.load.messages import HELLO, UNFIT, WELCOME
from loadstair.locust_process import IN_MARK

HELLO_AGAIN_S: Final = 1.0
ANSWER_S: Final = 20.0
SENDING_S: Final = 0.5


def introduce(environment: Environment, runner: WorkerRunner) -> LoadConfig:
    """Returns when the master has let this worker in. Raises LoadError with its reason, NotNeeded or NoMaster."""
    answer: AsyncResult[Any] = AsyncResult()
    runner.register_message(WELCOME, lambda msg, **_: answer.set(msg.data))
    hello = {**identity(environment.parsed_locustfiles or []), "address": _address(runner)}
    deadline = Deadline.after_s(ANSWER_S)
    while not answer.ready():
        if deadline.passed():
            raise NoMaster(
                f"{runner.master_host}:{runner.master_port}: no answer within {ANSWER_S:g} s: no `loadstair run` with "
                "remote workers is there, or it has just ended"
            )
        runner.send_message(HELLO, hello)
        answer.wait(timeout=HELLO_AGAIN_S)
    told: Any = answer.get()
    if "refused" in told:
        raise LoadError(str(told["refused"]))
    if "surplus" in told:
        raise NotNeeded(str(told["surplus"]))
    config = LoadConfig.from_dict(told["config"])
    _forget_accounts(config)
    return config


def tell_in(config: LoadConfig) -> None:
    """To be called when the worker is fit for the visit's load."""
    sys.stderr.write(f"{IN_MARK}visit {config.visit}, {config.topology}, {config.base_url}\n")
    sys.stderr.flush()


def unfit(runner: WorkerRunner, error: LoadError) -> None:
    """Tells the master why this worker, which was let in, cannot work."""
    runner.send_message(UNFIT, str(error))  # type: ignore[arg-type]
    gevent.sleep(SENDING_S)


def _forget_accounts(config: LoadConfig) -> None:
    """The openai SDK's own settings would send this host's account to an endpoint that the plan did not give it."""
    for name in [name for name in os.environ if name.startswith("OPENAI_") and name != config.api_key_env]:
        del os.environ[name]


def _address(runner: WorkerRunner) -> str | None:
    """Of this host, as the way to the master has it. Nothing is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((runner.master_host, runner.master_port))
            return str(probe.getsockname()[0])
    except OSError:
        return None
