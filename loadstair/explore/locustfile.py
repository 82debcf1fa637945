"""What a locustfile calls to be one of ours."""

import sys
from typing import Any

from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.event import Events

from loadstair.errors import LoadstairError
from loadstair.explore.events import add_events
from loadstair.explore.options import add_arguments
from loadstair.load.install import driven
from loadstair.load.install import install as install_driven
from loadstair.locust_process import SAID


def register(events: Events) -> None:
    """Adds the options, the events and the measuring to a locustfile: `register(events)` with Locust's `events`, once
    and before listening to `events.first_token`, `events.tokens` or `events.stream_complete`. Of several locustfiles
    in one Locust, each may call it."""
    if hasattr(events, "stream_complete"):
        return
    add_events(events)
    if not driven():
        # Before Locust forks its workers, and before one of them says that it is ready: it takes seconds, which a test
        # that has begun would lose.
        import loadstair.explore.install  # noqa: F401
    events.init_command_line_parser.add_listener(_add_arguments)  # type: ignore[no-untyped-call]
    events.init.add_listener(_install)  # type: ignore[no-untyped-call]


def _add_arguments(parser: LocustArgumentParser, **_: Any) -> None:
    add_arguments(parser)
    if not driven():
        from loadstair.explore.web.guard import safe_defaults

        safe_defaults(parser)


def _install(environment: Environment, **_: Any) -> None:
    try:
        if driven():
            install_driven(environment)
        else:
            from loadstair.explore.install import install

            install(environment)
    except LoadstairError as error:
        if environment.parsed_options is not None and environment.parsed_options.processes:
            from loadstair.explore.processes import end_workers

            end_workers()
        for line in str(error).splitlines():
            sys.stderr.write(f"{SAID}{line}\n")
        sys.exit(error.exit_code)
