"""A topology that is up: its values, and whether its processes still run."""

from dataclasses import dataclass

from loadstair.child import Child, exit_line
from loadstair.errors import TopologyError
from loadstair.topology.endpoint import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTopology:
    """Good for any number of visits, as long as the `bring_up` block that made it is open."""

    name: str
    endpoint: Endpoint
    children: tuple[Child, ...] = ()
    """Engines and balancer that we started; empty for an external topology."""

    def check(self) -> None:
        """Raises TopologyError, with the end of its log, if one of our processes has died."""
        for child in self.children:
            status = child.exit_status()
            if status is not None:
                raise TopologyError(
                    f"topology {self.name}: {child.name} died: {exit_line(status)}; its log is {child.log_path}",
                    child.log_tail(),
                )
