"""Who of the workers on other hosts comes in: those that are like the master, and no more than expected.

Locust takes every worker that says `client_ready`, and spreads the users anew over all. So that no stranger and no
surplus worker gets users or changes the others' share, Locust's books see a worker only once it has been let in.
"""

import dataclasses
import json
import logging
from collections.abc import Callable
from typing import Any, Final

from locust.runners import STATE_MISSING, MasterRunner

from loadstair.load.config import LoadConfig
from loadstair.load.identity import differences, identity
from loadstair.load.messages import HELLO, UNFIT, WELCOME
from loadstair.plain import one_line

logger = logging.getLogger(__name__)

TURNED_AWAY_MAX: Final = 100
"""Lines kept: workers that are started again and again must not fill the memory."""


class Door:
    def __init__(
        self, config: LoadConfig, runner: MasterRunner, locustfiles: list[str], *, begun: Callable[[], bool]
    ) -> None:
        """`begun` says whether the visit's workers have their ranks: from then on nobody comes in."""
        self._runner = runner
        self._begun = begun
        self._expected = config.workers
        self._config = json.loads(json.dumps(dataclasses.asdict(config), default=_plain))
        self._ours = identity(locustfiles)
        self._knocked: dict[str, Any] = {}
        """What workers outside said to Locust, by client id."""
        self._inside: dict[str, str] = {}
        """Who was let in, in words."""
        self._turned_away: dict[str, None] = {}
        self._locust_handles = runner.handle_message
        runner.handle_message = self._handle  # type: ignore[method-assign]
        runner.register_message(HELLO, self._on_hello)
        runner.register_message(UNFIT, self._on_unfit)

    def inside(self) -> dict[str, str]:
        """By client id; without those that are lost."""
        clients = self._runner.clients
        return {
            client_id: words
            for client_id, words in self._inside.items()
            if client_id in clients and clients[client_id].state != STATE_MISSING
        }

    def turned_away(self) -> list[str]:
        """A line for each reason."""
        return list(self._turned_away)

    def _handle(self, client_id: str, msg: Any) -> None:
        """Of who is outside only the greetings are heard; nobody speaks in another's name."""
        if msg.node_id != client_id:
            return
        if client_id in self._inside or msg.type == HELLO:
            self._locust_handles(client_id, msg)
        elif msg.type == "client_ready":
            self._knocked[client_id] = msg
            index = self._runner.get_worker_index(client_id)  # type: ignore[no-untyped-call]
            self._runner.send_message("ack", data={"index": index}, client_id=client_id)

    def _on_hello(self, msg: Any, **_: Any) -> None:
        client_id, theirs = msg.node_id, msg.data if isinstance(msg.data, dict) else {}
        if client_id in self._inside:  # it asked again before the answer came
            self._answer(client_id, {"config": self._config})
            return
        who = _in_words(theirs)
        if different := differences(theirs, self._ours):
            reason = f"is not the same as the master ({'; '.join(different)})"
            self._turn_away(f"{who}: {reason}")
            remedy = "install the same on both: the same commit, then scripts/setup.sh"
            self._answer(client_id, {"refused": f"this host {reason}: {remedy}"})
        elif self._begun() or len(self.inside()) >= self._expected:
            self._turn_away(f"{who}: not needed: {self._expected} expected, and they are here")
            self._answer(client_id, {"surplus": f"the visit has its {self._expected} workers (workers.expect)"})
        elif client_id in self._knocked:  # otherwise Locust's own greeting is still on its way
            self._inside[client_id] = who
            self._locust_handles(client_id, self._knocked.pop(client_id))
            self._answer(client_id, {"config": self._config})

    def _on_unfit(self, msg: Any, **_: Any) -> None:
        """It was let in, and cannot do what the configuration asks."""
        who = self._inside.pop(msg.node_id, msg.node_id)
        self._runner.clients.pop(msg.node_id, None)
        self._turn_away(f"{who}: {one_line(str(msg.data))}")

    def _answer(self, client_id: str, data: dict[str, Any]) -> None:
        self._runner.send_message(WELCOME, data, client_id)

    def _turn_away(self, line: str) -> None:
        if line not in self._turned_away and len(self._turned_away) < TURNED_AWAY_MAX:
            self._turned_away[line] = None
            logger.warning("%s", line)


def _in_words(theirs: dict[str, Any]) -> str:
    """Strangers may say anything: whatever they call themselves is one short line."""
    return one_line(f"{theirs.get('host', 'a host')} ({theirs.get('address', 'no address')}, pid {theirs.get('pid')})")


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json")
