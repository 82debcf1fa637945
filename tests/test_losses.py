"""What is told of workers that were lost while a run went on."""

from loadstair.losses import too_many_lost


def test_too_many_lost_workers_are_named() -> None:
    line = str(too_many_lost("a", ["worker-1", "worker-0 and worker-1"]))
    assert (
        "topology a: workers were lost 2 times in one visit (worker-1; worker-0 and worker-1), and replaced 1" in line
    )
