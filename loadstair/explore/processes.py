"""The workers that `--processes` makes."""

import psutil


def end_workers() -> None:
    """The copies of this process that `--processes` has made: Locust would leave them trying to connect for minutes."""
    this = psutil.Process()
    for child in this.children():
        try:
            if child.cmdline() == this.cmdline():
                child.terminate()
        except psutil.NoSuchProcess:
            continue
