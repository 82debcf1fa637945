"""What is told of topologies and workers that were lost while a run went on."""

from loadstair.errors import TopologyError
from loadstair.losses import FailedTopologies, too_many_lost
from loadstair.plan.model import ExternalTopology, TopologyPlan


def topology(name: str, restart: str = "always") -> TopologyPlan:
    raw = {"name": name, "kind": "external", "url": "http://127.0.0.1:1", "restart": restart}
    return ExternalTopology.model_validate(raw)


def died(name: str) -> TopologyError:
    return TopologyError(f"topology {name}: engine0 died", "its last words")


def test_a_run_without_failures_has_no_error() -> None:
    assert FailedTopologies().error() is None


def test_one_failure_is_told_with_the_end_of_its_log() -> None:
    failed = FailedTopologies()
    failed.add(topology("a"), died("a"), came_up=True)
    error = failed.error()
    assert error is not None
    assert str(error) == "a failed, the run went on with the rest: topology a: engine0 died"
    assert (error.log_tail, error.exit_code) == ("its last words", 3)


def test_every_topology_that_failed_is_named_and_nothing_is_told_twice() -> None:
    failed = FailedTopologies()
    for name in ("a", "b", "a"):
        failed.add(topology(name), died(name), came_up=True)
    error = failed.error()
    assert error is not None
    assert str(error) == (
        "a, b failed, the run went on with the rest: topology a: engine0 died; topology b: engine0 died"
    )
    assert error.log_tail is None  # whose would it be?


def test_a_topology_is_visited_again_only_if_it_came_up_and_is_started_anew() -> None:
    failed = FailedTopologies()
    kept = topology("kept", restart="never")
    failed.add(topology("died"), died("died"), came_up=True)
    failed.add(topology("absent"), died("absent"), came_up=False)
    failed.add(kept, died("kept"), came_up=True)
    given_up = [one for one in ("died", "absent", "kept", "well") if failed.is_given_up(topology(one))]
    assert given_up == ["absent", "kept"]


def test_too_many_lost_workers_are_named() -> None:
    line = str(too_many_lost("a", ["worker-1", "worker-0 and worker-1"]))
    assert (
        "topology a: workers were lost 2 times in one visit (worker-1; worker-0 and worker-1), and replaced 1" in line
    )
