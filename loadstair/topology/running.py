"""A topology that is up: its values, and whether its processes still run."""

from dataclasses import dataclass

from loadstair.child import Child, exit_line
from loadstair.errors import TopologyError
from loadstair.fetch import FetchError
from loadstair.topology.access import ask
from loadstair.topology.endpoint import Endpoint

END_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTopology:
    """Good for any number of visits, as long as the `bring_up` block that made it is open."""

    name: str
    endpoint: Endpoint
    children: tuple[Child, ...] = ()
    """Engines and balancer that we started; empty for an external topology."""

    def check_at_end(self) -> None:
        """Raises TopologyError if what was measured no longer answers: its failures are no sign of its capacity."""
        self.check()
        try:
            ask(self.endpoint, f"{self.endpoint.url}/models", timeout_s=END_TIMEOUT_S)
        except FetchError as error:
            raise TopologyError(f"topology {self.name}: died while it was measured: {error}") from error

    def check(self) -> None:
        """Raises TopologyError, with the end of its log, if one of our processes has died."""
        for child in self.children:
            status = child.exit_status()
            if status is not None:
                raise TopologyError(
                    f"topology {self.name}: {child.name} died: {exit_line(status)}; its log is {child.log_path}",
                    child.log_tail(),
                )
