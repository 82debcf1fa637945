"""Several engines on one GPU, in one process: they take turns, so each step lasts as many times longer as engines have
one under way.

The factor is that of the step's beginning: who begins or ends during it does not change it. Without MPS a GPU gives its
time to one process after another in equal slices; that a step leaves gaps which another could fill is left out.
"""


class SharedGpu:
    """Handed to every scheduler that runs on it."""

    def __init__(self) -> None:
        self._busy = 0

    def begin(self) -> int:
        """A step begins; how many times longer than alone it lasts."""
        self._busy += 1
        return self._busy

    def end(self) -> None:
        self._busy -= 1
