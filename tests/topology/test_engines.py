import contextlib
import socket
import sys
from pathlib import Path

from loadstair.clock import Deadline
from loadstair.fetch import fetch
from loadstair.topology.engines import EngineLaunch, start_engines
from tests.topology.plans import SCRIPTED_SERVER


def test_a_port_that_is_lost_before_the_engine_binds_it_is_replaced(tmp_path: Path) -> None:
    given: list[int] = []
    with contextlib.ExitStack() as strangers, contextlib.ExitStack() as stack:

        def launch(port: int) -> EngineLaunch:
            if not given:
                strangers.enter_context(socket.create_server(("127.0.0.1", port)))
            given.append(port)
            return EngineLaunch(
                name="engine0",
                command=(sys.executable, str(SCRIPTED_SERVER), str(port), "good"),
                ready_url=f"http://127.0.0.1:{port}/health",
                metrics_url=None,
            )

        (engine,) = start_engines(
            stack,
            [launch],
            topology="arm",
            ready_timeout_s=60,
            deadline=Deadline.after_s(60),
            log_dir=tmp_path,
            visit=1,
        )
        assert len(given) == 2
        assert engine.launch.ready_url == f"http://127.0.0.1:{given[1]}/health"
        assert fetch(engine.launch.ready_url, timeout_s=5).status == 200
