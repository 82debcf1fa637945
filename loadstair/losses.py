"""What a run tells of lost workers and servers, where its plan has it go on without ending at the first."""

from loadstair.errors import LoadError, TopologyError
from loadstair.plan.model import TopologyPlan


class FailedTopologies:
    """Those that could not be brought up, or died, while the run went on (`load.on_server_lost: next`)."""

    def __init__(self) -> None:
        self._errors: list[tuple[str, TopologyError]] = []
        self._given_up: set[str] = set()

    def add(self, topology: TopologyPlan, error: TopologyError, *, came_up: bool) -> None:
        """`came_up`: it died later. It then has another chance at its next visit, if that starts its engines anew."""
        self._errors.append((topology.name, error))
        if not came_up or topology.restart == "never":
            self._given_up.add(topology.name)

    def is_given_up(self, topology: TopologyPlan) -> bool:
        """Whether its later visits are left out."""
        return topology.name in self._given_up

    def error(self) -> TopologyError | None:
        """Names each, with what was told of it; None where all went well. One failure's log is told as well."""
        if not self._errors:
            return None
        names = dict.fromkeys(name for name, _ in self._errors)
        told = dict.fromkeys(str(error) for _, error in self._errors)
        tail = self._errors[0][1].log_tail if len(self._errors) == 1 else None
        return TopologyError(f"{', '.join(names)} failed, the run went on with the rest: {'; '.join(told)}", tail)


def too_many_lost(topology: str, lost: list[str]) -> LoadError:
    """`lost`: the workers' names, in the order of their loss, one entry for each time."""
    return LoadError(
        f"topology {topology}: workers were lost {len(lost)} times in one visit ({'; '.join(lost)}), and replaced "
        f"{len(lost) - 1} times: look why in the kernel's log and in log/; load.on_worker_lost: go_on does without them"
    )
