"""What a run tells of lost workers, where its plan has it go on without ending at the first."""

from loadstair.errors import LoadError


def too_many_lost(topology: str, lost: list[str]) -> LoadError:
    """`lost`: the workers' names, in the order of their loss, one entry for each time."""
    return LoadError(
        f"topology {topology}: workers were lost {len(lost)} times in one visit ({'; '.join(lost)}), and replaced "
        f"{len(lost) - 1} times: look why in the kernel's log and in log/; load.on_worker_lost: go_on does without them"
    )
