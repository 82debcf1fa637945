"""The one Locust user class. What each request asks for is drawn from the plan's seed, never from the user."""

from typing import TYPE_CHECKING, ClassVar, NoReturn

from locust import User, task
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_STOPPING

if TYPE_CHECKING:  # a master needs the class, and should start fast
    from loadstair.load.worker import WorkerLoad


class ChatUser(User):
    """Sends one request after the other, without a pause, for as long as the gate lets it."""

    load: "ClassVar[WorkerLoad | None]" = None
    """Of this process; set before the first user starts."""

    @task
    def send_requests(self) -> NoReturn:
        """Never returns: between two tasks Locust would call `gevent.sleep(0)`."""
        load = ChatUser.load
        if load is None:
            raise StopUser
        ordinal = load.gate.enroll()
        if load.dispatcher is not None:
            load.dispatcher.run()
        while self._state != LOCUST_STATE_STOPPING:
            load.gate.pass_through(ordinal)
            self.send_one(load, ordinal)
        raise StopUser

    def send_one(self, load: "WorkerLoad", ordinal: int) -> None:
        load.run_request(ordinal)
