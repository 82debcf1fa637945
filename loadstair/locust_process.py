"""What our Locust processes and those who start them agree on; these must not import the rooms inside Locust."""

from typing import Final

CONFIG_VARIABLE: Final = "LOADSTAIR_LOAD_CONFIG"
"""The path of the load room's configuration."""
TOKEN_VARIABLE: Final = "LOADSTAIR_TOKEN"  # noqa: S105  the name of a variable
TOKEN_HEADER: Final = "X-Loadstair-Token"  # noqa: S105  the name of a header
"""Of every request to the master."""
REMOTE_VARIABLE: Final = "LOADSTAIR_REMOTE_WORKER"
"""Set where the master is on another host and sends the configuration."""

SAID: Final = "loadstair: "
"""Begins a line on stderr that is ours among Locust's."""
IN_MARK: Final = f"{SAID}let in: "
"""Begins the line with which a worker says to `loadstair worker` that it works for a visit."""
SPOOLED_MARK: Final = f"{SAID}not handed over: "
"""Begins the line with which a worker that ends tells of records that only its own disk has."""
SPOOL_VARIABLE: Final = "LOADSTAIR_SPOOL_DIR"
"""Names the folder where a worker keeps its records until the orchestrator has them on its disk."""
