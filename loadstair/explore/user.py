"""A user class of one's own: docs/own-user.md shows it in ten lines."""

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import gevent
from locust.exception import RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING

from loadstair.load.user import ChatUser
from loadstair.load.worker import OwnRequest, WorkerLoad
from loadstair.plan.workload import RequestSpec

logger = logging.getLogger(__name__)

AFTER_MISTAKE_S: Final = 1.0
"""A user's pause where its own code has raised and nothing was sent: without one it would do nothing else."""


class OwnChatUser(ChatUser):
    """Subclass it and say what is asked, and how long a user waits; everything is measured as with the stock user.

    `wait_time` is Locust's (`between`, `constant`, `constant_pacing` …). Without one a user sends its next request
    when the last has ended.
    """

    abstract = True
    name: ClassVar[str | None] = None
    """How Locust's tables call its requests; None: as the class."""

    def messages(self, asked: RequestSpec) -> list[dict[str, Any]] | None:  # noqa: ARG002  subclasses want it
        """The messages of the next chat request. None: a prompt of `asked.input_tokens` from shipped text."""
        return None

    def body(self, body: dict[str, Any]) -> Mapping[str, Any]:
        """Gets the request's body as it would be sent, messages included, and returns the one to send. It is always
        streamed. The answer's length is `max_tokens` (or `max_completion_tokens`)."""
        return body

    def send_one(self, load: WorkerLoad, ordinal: int) -> None:
        own = OwnRequest(name=self.name or type(self).__name__, messages=self.messages, body=self.body)
        try:
            load.run_request(ordinal, own)
            pause_s = float(self.wait_time())
        except (StopUser, StopTest):
            raise
        except (RescheduleTask, RescheduleTaskImmediately):
            pause_s = float(self.wait_time()) or AFTER_MISTAKE_S  # nothing was sent that could have taken time
        except Exception as error:  # the user's own code; Locust shows it under Exceptions
            self.environment.events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)
            logger.exception("%s: a mistake in the user class", type(self).__name__)  # headless shows no Exceptions tab
            pause_s = AFTER_MISTAKE_S
        if pause_s > 0:  # a sleep of 0 would run the other users without looking at the sockets
            self._pause(pause_s)

    def _pause(self, pause_s: float) -> None:
        """As Locust's own wait: a user that waits is stopped at once."""
        if self._state == LOCUST_STATE_STOPPING:
            return
        self._state = LOCUST_STATE_WAITING
        gevent.sleep(pause_s)
        if self._state == LOCUST_STATE_WAITING:
            self._state = LOCUST_STATE_RUNNING
