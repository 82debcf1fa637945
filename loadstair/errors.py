"""Errors are for the user: one line that says where, what, and what would be right.

    LoadstairError
    ├── PlanError              2    the plan is wrong: every mistake at once
    ├── UsageError             2    the command line is wrong, or a folder cannot be written
    ├── TopologyError          3    the topology could not be brought up, or died
    ├── LoadError              3    the load generator's own processes failed
    │   ├── NotNeeded         75    a remote worker's process: `loadstair worker` waits for the next visit
    │   └── NoMaster          76    likewise
    ├── StorageError           3    what was measured could not be written (disk full)
    ├── NothingToFit           4    what was measured does not tell what is asked of it
    └── Interrupted          130    SIGINT or SIGTERM: partial results are kept

A failed *request* is no error: it is data, see `loadstair.samples.record.Outcome`.
Exit codes 4 (invalid measurement) and 99 (threshold failed) are verdicts on a finished run, not errors:
`loadstair.pipeline` derives them from the summary.
"""

from dataclasses import dataclass


class LoadstairError(Exception):
    """Base of all errors shown to the user; `str()` is the whole message."""

    exit_code: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in a plan.

    `path` is dotted, with list indexes in brackets (`topologies[1].engines[0].tp`); empty for the whole file.
    """

    path: str
    message: str

    def line(self, source: str) -> str:
        return f"{source}: {self.path}: {self.message}" if self.path else f"{source}: {self.message}"


class PlanError(LoadstairError):
    """The plan is wrong. Carries every mistake; the message has one line for each."""

    exit_code = 2

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(problem.line(source) for problem in problems))


class UsageError(LoadstairError):
    exit_code = 2


class TopologyError(LoadstairError):
    """`log_tail` is the end of the log of the process that failed; None if there is none."""

    exit_code = 3

    def __init__(self, message: str, log_tail: str | None = None) -> None:
        super().__init__(message)
        self.log_tail = log_tail


class LoadError(LoadstairError):
    exit_code = 3

    def __init__(self, message: str, log_tail: str | None = None) -> None:
        super().__init__(message)
        self.log_tail = log_tail


class NotNeeded(LoadError):  # noqa: N818  nobody's error
    """Of a worker on another host: the visit has its workers, and `loadstair worker` waits for the next."""

    exit_code = 75


class NoMaster(LoadError):  # noqa: N818  it may come yet
    """Of a worker on another host: what listens there did not answer, a master that is just ending most often."""

    exit_code = 76


class StorageError(LoadstairError):
    exit_code = 3


class NothingToFit(LoadstairError):  # noqa: N818  the measurement's limit, not a mistake
    """Of a run whose valid steps do not determine any constant of the model."""

    exit_code = 4


class Interrupted(LoadstairError):  # noqa: N818  the user did it: no error of anyone
    exit_code = 130
