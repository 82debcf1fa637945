"""Starts a load with a lease of 2 s, says the pids of its processes as JSON, and lets it run until interrupted."""

import json
import sys
from pathlib import Path

from loadstair.clock import sleep_s
from loadstair.drive.session import LoadSession
from loadstair.errors import Interrupted
from loadstair.interrupt import interruptible
from tests.drive.test_session import visit_load


def main(origin: str, log_dir: Path) -> None:
    with interruptible(), LoadSession(visit_load(origin, lease_s=2.0), workers=1, log_dir=log_dir) as session:
        session.begin_step(step=0, load=2.0, users=2, growth_s=0.0)
        sys.stdout.write(json.dumps(session.pids) + "\n")
        sys.stdout.flush()
        sleep_s(60.0)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except Interrupted as error:
        sys.exit(error.exit_code)
