"""Streaming chat completions.

By itself: `locust -f locustfiles/chat.py --host URL --model M --input-tokens 128 --output-tokens 64`.
Under `loadstair run`, the orchestrator drives it.
"""

import sys
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadstair.errors import LoadError
from loadstair.load.install import add_arguments, install
from loadstair.load.user import ChatUser

__all__ = ["ChatUser"]


@events.init_command_line_parser.add_listener
def _add_arguments(parser: LocustArgumentParser, **_: Any) -> None:
    add_arguments(parser)


@events.init.add_listener
def _install(environment: Environment, **_: Any) -> None:
    try:
        install(environment)
    except LoadError as error:
        sys.exit(f"loadstair: {error}")
