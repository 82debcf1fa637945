"""What the workers tell the master while nobody drives them, and the master the workers, as Locust custom messages.

All carry `test` (its id) and `epoch` (0, one more with each reset): what belongs to another is not listened to.
With one process the same messages go the same way: Locust hands them to itself.
"""

from typing import Final

REPORT: Final = "loadstair_report"
"""A worker's state since the epoch began: number, as_of_ns (its monotonic clock), tally, in_flight, rows (records made
so far), final (nothing more comes). Each holds all of the one before: one that is lost costs nothing."""
ROWS: Final = "loadstair_rows"
"""csv (lines), before (records of the worker made before these), count. They precede the report that counts them."""
RESET: Final = "loadstair_reset"
"""To every worker: count from zero, in the new epoch."""
FINISH: Final = "loadstair_finish"
"""To a worker: stop your users if they still run, and send a final report."""
